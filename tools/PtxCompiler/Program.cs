using KernelScope.Kernels;
using KernelScope.PtxCompiler;

// Usage: PtxCompiler [--check] [REPOSITORY]: writes kernels/ptx, or says how it differs from what the source gives (exit code 1).
bool check = args.Contains("--check");
string root = args.FirstOrDefault(a => !a.StartsWith("--", StringComparison.Ordinal)) ?? Directory.GetCurrentDirectory();
string kernels = Path.Combine(root, "kernels");
if (!Directory.Exists(kernels) || args.Any(a => a.StartsWith("--", StringComparison.Ordinal) && a != "--check"))
{
    Console.Error.WriteLine($"Usage: PtxCompiler [--check] [REPOSITORY]; '{root}' has no folder 'kernels' or an option is unknown.");
    return 2;
}

try
{
    Emission emission = Emission.Create(Catalog.All, Emission.HashSources(kernels));
    string folder = Path.Combine(kernels, "ptx");
    if (!check)
    {
        emission.Write(folder);
        Console.WriteLine($"{Catalog.All.Length} kernels, {emission.Files.Count} files.");
        return 0;
    }

    IReadOnlyList<string> differences = emission.Differences(folder);
    foreach (string difference in differences)
        Console.Error.WriteLine($"kernels/ptx/{difference}");
    if (differences.Count > 0)
        Console.Error.WriteLine("The committed PTX is not what the source gives: run tools/PtxCompiler and commit the result.");
    return differences.Count == 0 ? 0 : 1;
}
catch (InvalidOperationException e)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}

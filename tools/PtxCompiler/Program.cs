using KernelScope.Kernels;
using KernelScope.PtxCompiler;

const string Usage = """
    PtxCompiler [--check] [REPOSITORY]                                      writes kernels/ptx and the C# that launches the kernels, or says how they differ from what the source gives
    PtxCompiler --ptxas FILE [--nvdisasm FILE] [--check] [REPOSITORY]       assembles the committed PTX and writes kernels/ptx/resources.json, or says what is wrong with it
    Exit code 1 if something differs or is wrong.
    """;
bool check = false;
string? ptxas = null, nvdisasm = null, root = null;
for (int i = 0; i < args.Length; i++)
{
    string? value = i + 1 < args.Length ? args[i + 1] : null;
    switch (args[i])
    {
        case "--check":
            check = true;
            break;
        case "--ptxas" when value is not null:
            (ptxas, i) = (value, i + 1);
            break;
        case "--nvdisasm" when value is not null:
            (nvdisasm, i) = (value, i + 1);
            break;
        default:
            // The second of two folders, or an unknown option, is not a folder.
            root = root is null ? args[i] : "";
            break;
    }
}

root ??= Directory.GetCurrentDirectory();
string kernels = Path.Combine(root, "kernels"), folder = Path.Combine(kernels, "ptx");
if (!Directory.Exists(kernels))
{
    Console.Error.WriteLine($"'{root}' has no folder 'kernels', or an option is unknown.\n{Usage}");
    return 2;
}

try
{
    return ptxas is null ? Compile() : Assemble();
}
catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}

int Compile()
{
    Emission emission = Emission.Create(Catalog.All, Emission.HashSources(kernels));
    string launchers = Path.Combine(root, Launchers.FilePath);
    if (!check)
    {
        emission.Write(folder);
        File.WriteAllText(launchers, emission.Launchers);
        Console.WriteLine($"{Catalog.All.Length} kernels, {emission.Files.Count} files.");
        return 0;
    }

    IReadOnlyList<string> differences = emission.Differences(folder);
    foreach (string difference in differences)
        Console.Error.WriteLine($"kernels/ptx/{difference}");
    string? other = Emission.Difference(launchers, emission.Launchers);
    if (other is not null)
        Console.Error.WriteLine($"{Launchers.FilePath}{other}");
    bool isSame = differences.Count == 0 && other is null;
    if (!isSame)
        Console.Error.WriteLine("What is committed is not what the source gives: run tools/PtxCompiler and commit the result.");
    return isSame ? 0 : 1;
}

int Assemble()
{
    string file = Path.Combine(folder, Resources.FileName);
    string? committed = File.Exists(file) ? File.ReadAllText(file) : null;
    Resources resources = Resources.Assemble(new Assembly(ptxas, nvdisasm), folder);
    if (!check)
        File.WriteAllText(file, committed = resources.Write(committed));
    IReadOnlyList<string> problems = resources.Problems(committed, out string note);
    if (note.Length > 0)
        Console.WriteLine(note);
    foreach (string problem in problems)
        Console.Error.WriteLine(problem);
    Console.WriteLine($"{problems.Count} problem{(problems.Count == 1 ? "" : "s")}.");
    return problems.Count == 0 ? 0 : 1;
}

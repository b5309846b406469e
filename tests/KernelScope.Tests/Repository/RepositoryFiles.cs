namespace KernelScope.Tests.Repository;

/// <summary>The files of the checkout, without what a build makes.</summary>
internal static class RepositoryFiles
{
    private static readonly string[] Made = ["artifacts", "bin", "obj", "TestResults", "BenchmarkDotNet.Artifacts", "node_modules"];

    private static readonly Lazy<string[]> Files = new(() => [.. Under(Fixtures.Root).Order(StringComparer.Ordinal)]);

    /// <summary>Paths from the root, with forward slashes, in ordinal order.</summary>
    public static IEnumerable<string> All(string ending) => Files.Value.Where(file => file.EndsWith(ending, StringComparison.Ordinal));

    private static IEnumerable<string> Under(string folder)
    {
        foreach (string file in Directory.EnumerateFiles(folder))
            yield return Path.GetRelativePath(Fixtures.Root, file).Replace('\\', '/');
        foreach (string inner in Directory.EnumerateDirectories(folder))
        {
            string name = Path.GetFileName(inner);
            if (Made.Contains(name) || (name.StartsWith('.') && name is not (".ci" or ".config")))
                continue;
            foreach (string file in Under(inner))
                yield return file;
        }
    }
}

using System.Text.Json;

namespace KernelScope.Tests;

/// <summary>Finds the reference outputs under tests/fixtures and the repository's own files.</summary>
internal static class Fixtures
{
    public static string Root { get; } = FindRoot();

    public static string Path(params string[] parts) => System.IO.Path.Combine([Root, "tests", "fixtures", .. parts]);

    public static int[] Tokens(string path) => JsonSerializer.Deserialize<int[]>(File.ReadAllBytes(path))!;

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(System.IO.Path.Combine(folder.FullName, "KernelScope.sln")))
                return folder.FullName;
        }

        throw new InvalidOperationException("The tests run from a checkout: KernelScope.sln was not found above them.");
    }
}

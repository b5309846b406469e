using System.IO.Compression;
using System.Text.Json;

namespace KernelScope.Tests.Files;

/// <summary>The malformed files of tests/fixtures/hostile, expanded once, with the links that some cases need.</summary>
internal static class HostileFiles
{
    private static readonly Lazy<string> Expanded = new(Expand);

    public static string Root => Expanded.Value;

    public static IEnumerable<JsonElement> Cases() =>
        File.ReadLines(System.IO.Path.Combine(Root, "cases.jsonl")).Select(line => JsonDocument.Parse(line).RootElement);

    public static string Path(string file) => System.IO.Path.Combine(Root, file);

    private static string Expand()
    {
        string root = System.IO.Path.Combine(AppContext.BaseDirectory, "hostile-files");
        if (Directory.Exists(root))
            Directory.Delete(root, recursive: true);
        ZipFile.ExtractToDirectory(Fixtures.Path("hostile", "hostile.zip"), root);
        foreach (string line in File.ReadLines(System.IO.Path.Combine(root, "cases.jsonl")))
        {
            JsonElement row = JsonDocument.Parse(line).RootElement;
            string path = System.IO.Path.Combine(root, row.GetProperty("file").GetString()!);
            // A case may hold nothing at all, and an archive no empty folders.
            if (row.GetProperty("kind").GetString() is "model" or "saelens")
                Directory.CreateDirectory(path);
            if (!row.TryGetProperty("links", out JsonElement links))
                continue;
            foreach (JsonProperty link in links.EnumerateObject())
                File.CreateSymbolicLink(System.IO.Path.Combine(path, link.Name), link.Value.GetString()!);
        }
        return root;
    }
}

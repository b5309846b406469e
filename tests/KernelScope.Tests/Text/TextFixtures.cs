using System.IO.Compression;
using System.Text.Json;
using KernelScope.Text;

namespace KernelScope.Tests.Text;

/// <summary>The files of tests/fixtures/text: cases made by sentencepiece and jinja2, and the tokenizers they were made with.</summary>
internal static class TextFixtures
{
    private static readonly Lazy<GemmaTokenizer> DemoTokenizer = new(() => GemmaTokenizer.Open(PathOf("demo.model")));
    private static readonly Lazy<GemmaTokenizer> MultiTokenizer = new(() => GemmaTokenizer.Open(PathOf("multi.model")));

    public static GemmaTokenizer Demo => DemoTokenizer.Value;

    public static GemmaTokenizer Multi => MultiTokenizer.Value;

    public static GemmaTokenizer Tokenizer(string name) => name == "demo" ? Demo : Multi;

    public static string PathOf(string name)
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "KernelScope.sln")))
            folder = Path.GetDirectoryName(folder);
        return Path.Combine(folder ?? throw new DirectoryNotFoundException("No KernelScope.sln above the tests."), "tests",
            "fixtures", "text", name);
    }

    /// <summary>The rows of a gzipped JSON-lines file.</summary>
    public static IEnumerable<JsonElement> Rows(string name)
    {
        using var stream = new GZipStream(File.OpenRead(PathOf(name)), CompressionMode.Decompress);
        using var reader = new StreamReader(stream);
        // Only "\n" ends a row.
        foreach (string line in reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries))
            yield return JsonElement.Parse(line);
    }

    public static int[] Ids(this JsonElement row, string name = "ids") =>
        [.. row.GetProperty(name).EnumerateArray().Select(e => e.GetInt32())];

    public static string[] Strings(this JsonElement row, string name) =>
        [.. row.GetProperty(name).EnumerateArray().Select(e => e.GetString()!)];
}

using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Web.Endpoints;

namespace KernelScope.Web.Dashboards;

/// <summary>A feature's row as it is stored: a gzip member, and what lists of features show.</summary>
internal sealed record PackedFeature
{
    private const int Words = 3;
    private const char WordMark = '▁';

    // The user of a fresh installation of Neuronpedia to whom imported rows belong.
    public const string Creator = "clkht01d40000jv08hvalcvly";

    private static readonly string[] NotColumns = ["source", "createdAt", "activations", "explanations", "kernelscope"];

    public required int Index { get; init; }

    public required byte[] Member { get; init; }

    public required long Firing { get; init; }

    public required float Max { get; init; }

    public required string Label { get; init; }

    /// <summary>Tokens that it promotes and fires on, for a search.</summary>
    public required string SearchWords { get; init; }

    /// <summary>Lines of Neuronpedia's tables: of the feature, and of each of its examples; empty where there is no export.</summary>
    public required byte[] FeatureLine { get; init; }

    public required byte[] ExampleLines { get; init; }

    /// <summary>Packs a row; the slow part of writing, for any number of threads at once.</summary>
    public static PackedFeature Create(int index, FeatureRow row, float max, bool exports)
    {
        IEnumerable<string> words = row.PosStr.Take(Words).Concat(row.Kernelscope!.TopTokens.Take(Words).Select(t => t.Piece));
        return new PackedFeature
        {
            Index = index,
            Member = Compress(JsonSerializer.SerializeToUtf8Bytes(row, DashboardJson.Row)),
            Firing = row.Kernelscope!.FiringPositions,
            Max = max,
            Label = row.Explanations is [Explanation first, ..] ? first.Description : "",
            SearchWords = string.Join(' ', words.Select(w => w.Replace(WordMark, ' ').Trim()).Distinct()),
            FeatureLine = exports ? Line(FeatureColumns(row)) : [],
            ExampleLines = exports ? [.. row.Activations.SelectMany(a => Line(ExampleColumns(a)))] : [],
        };
    }

    public static byte[] Compress(ReadOnlySpan<byte> bytes)
    {
        using var compressed = new MemoryStream();
        using (var gzip = new GZipStream(compressed, CompressionLevel.Optimal, leaveOpen: true))
            gzip.Write(bytes);
        return compressed.ToArray();
    }

    private static JsonObject FeatureColumns(FeatureRow row)
    {
        JsonObject columns = JsonSerializer.SerializeToNode(row, DashboardJson.Row)!.AsObject();
        foreach (string name in NotColumns)
            columns.Remove(name);
        columns["creatorId"] = Creator;
        return columns;
    }

    private static JsonObject ExampleColumns(ActivationRow example)
    {
        JsonObject columns = JsonSerializer.SerializeToNode(example, DashboardJson.Activation)!.AsObject();
        columns.Remove("source");
        columns["creatorId"] = Creator;
        columns["lossValues"] = new JsonArray();
        columns["logitContributions"] = null;
        columns["dataIndex"] = null;
        columns["dataSource"] = null;
        return columns;
    }

    private static byte[] Line(JsonObject columns) => Encoding.UTF8.GetBytes(columns.ToJsonString() + "\n");
}

using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Web.Endpoints;

namespace KernelScope.Web.Dashboards;

/// <summary>What is written beside the pages.</summary>
[Flags]
internal enum DashboardExports
{
    None = 0,

    /// <summary>The files of Neuronpedia's import.</summary>
    Neuronpedia = 1,

    /// <summary>A file a feature for viewers of attribution graphs.</summary>
    Graph = 2,
}

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

    /// <summary>The file for viewers of graphs; empty where there is no such export.</summary>
    public required byte[] GraphFile { get; init; }

    /// <summary>Packs a row; the slow part of writing, for any number of threads at once.</summary>
    public static PackedFeature Create(int index, FeatureRow row, float max, DashboardExports exports)
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
            FeatureLine = exports.HasFlag(DashboardExports.Neuronpedia) ? Line(FeatureColumns(row)) : [],
            ExampleLines = exports.HasFlag(DashboardExports.Neuronpedia)
                ? [.. row.Activations.SelectMany(a => Line(ExampleColumns(a)))] : [],
            GraphFile = exports.HasFlag(DashboardExports.Graph) ? GraphFeature.Bytes(row) : [],
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

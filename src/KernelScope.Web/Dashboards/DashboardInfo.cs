using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using KernelScope.Web.Endpoints;

namespace KernelScope.Web.Dashboards;

/// <summary>A file of a dashboard, by length and content.</summary>
internal sealed record DashboardFile(long Bytes, string Sha256);

/// <summary><c>dash.json</c>: what the pages of a folder were made from. Nothing in it depends on the machine or the time.</summary>
internal sealed record DashboardInfo
{
    /// <summary>The only format there is.</summary>
    public const int CurrentFormat = 1;

    public int Format { get; init; } = CurrentFormat;

    /// <summary>The model as it was named.</summary>
    public required string Model { get; init; }

    public required string ModelId { get; init; }

    public required string Source { get; init; }

    public required string SourceSet { get; init; }

    /// <summary>The SAE as it was named.</summary>
    public required string Sae { get; init; }

    /// <summary>Hash of what the SAE computes with.</summary>
    public required string SaeSha256 { get; init; }

    public required string Site { get; init; }

    public string? SiteOut { get; init; }

    public required string HookName { get; init; }

    /// <summary>The layer of the site.</summary>
    public required int Layer { get; init; }

    /// <summary>d_sae.</summary>
    public required int Features { get; init; }

    /// <summary>Features that have a page.</summary>
    public required int Written { get; init; }

    public required string Run { get; init; }

    public required string Dataset { get; init; }

    public required long CountedPositions { get; init; }

    /// <summary>All positions, those that do not count too.</summary>
    public required long Positions { get; init; }

    public required int Sequences { get; init; }

    public required IReadOnlyList<int> MaskedIds { get; init; }

    public required string BosPolicy { get; init; }

    public required string Precision { get; init; }

    public required string Binning { get; init; }

    public required int Window { get; init; }

    public required int Top { get; init; }

    public required int Examples { get; init; }

    public required ulong Seed { get; init; }

    /// <summary>The program's version.</summary>
    public required string Version { get; init; }

    public IReadOnlyDictionary<string, DashboardFile> Files { get; init; } = new Dictionary<string, DashboardFile>();
}

/// <summary>What the list of an offline site shows of all features, column by column.</summary>
internal sealed record SiteIndex(
    DashboardInfo Info, IReadOnlyList<int> Index, IReadOnlyList<long> Firing, IReadOnlyList<float> Max, IReadOnlyList<string> Label,
    IReadOnlyList<string> Words);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, GenerationMode = JsonSourceGenerationMode.Metadata, WriteIndented = true)]
[JsonSerializable(typeof(DashboardInfo))]
[JsonSerializable(typeof(SiteIndex))]
internal sealed partial class DashboardInfoJson : JsonSerializerContext;

/// <summary>Rows as they are stored: they are read back, and their letters are not escaped.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Metadata)]
[JsonSerializable(typeof(FeatureRow))]
internal sealed partial class RowJson : JsonSerializerContext;

/// <summary>How files of dashboards are spelled: letters as they are, not as escapes.</summary>
internal static class DashboardJson
{
    public const int MaxDepth = 8;

    private static readonly JsonSerializerOptions Rows =
        new(RowJson.Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, MaxDepth = MaxDepth };

    private static readonly DashboardInfoJson Index = new(new JsonSerializerOptions(DashboardInfoJson.Default.Options)
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        WriteIndented = false,
    });

    public static JsonTypeInfo<FeatureRow> Row { get; } = (JsonTypeInfo<FeatureRow>)Rows.GetTypeInfo(typeof(FeatureRow));

    public static JsonTypeInfo<ActivationRow> Activation { get; } = (JsonTypeInfo<ActivationRow>)Rows.GetTypeInfo(typeof(ActivationRow));

    public static JsonTypeInfo<SiteIndex> SiteIndex => Index.SiteIndex;
}

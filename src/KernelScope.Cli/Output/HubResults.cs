using System.Text.Json.Serialization;

namespace KernelScope.Cli;

/// <summary>An SAE of the catalogue, as <c>catalog</c> prints it; null where it has no such thing.</summary>
internal sealed record CatalogRow(
    string Name,
    string Repository,
    string File,
    string Model,
    string? Site,
    string? SiteOut,
    string HookName,
    int? Layer,
    string Width,
    int L0,
    bool Canonical,
    string? CanonicalId,
    string? NeuronpediaId,
    [property: JsonPropertyName("d_in")] int InputDim,
    [property: JsonPropertyName("d_sae")] int FeatureCount,
    [property: JsonPropertyName("d_out")] int OutputDim,
    long Bytes,
    string? Cached);

/// <summary>A file of packed weights in the cache: whose it is, and why no run would use it, if so.</summary>
internal sealed record PackedRow(string Path, long Bytes, string? Source, bool Ok, string? Problem)
{
    /// <summary>Whether the weights were rounded to bfloat16.</summary>
    public bool Rounded { get; init; }
}

/// <summary>Result of <c>pull</c>.</summary>
internal sealed record PullResult(string Cache, IReadOnlyList<PulledRow> Pulled);

/// <summary>What one name brought; <paramref name="Path"/> is what --model or --sae takes.</summary>
internal sealed record PulledRow(string Name, string Repository, string Revision, string Commit, string Path,
    IReadOnlyList<PulledFile> Files);

/// <summary>A file; <paramref name="Received"/> is 0 if it was there.</summary>
internal sealed record PulledFile(string File, string Path, long Bytes, long Received, string Blob);

using System.Text.Json.Serialization;

namespace KernelScope.Cli;

/// <summary>A number that was held against a reference; null: nothing could be measured.</summary>
internal sealed record CheckRow(string Name, bool Ok, double Measured, double Limit)
{
    /// <summary>For an op: how many shape classes were tried; the number is that of the one nearest to its limit.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? Shapes { get; init; }

    /// <summary>For an op: seconds that its cases took.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Seconds { get; init; }

    /// <summary>With <c>--hashes</c>: whether every case gave the bits that are on file.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public bool? HashEqual { get; init; }

    /// <summary>Whose numbers the reference is.</summary>
    public required string Source { get; init; }

    /// <summary>Of a miss: what it means, or where it is.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Message { get; init; }
}

/// <summary>A check that lacks something.</summary>
internal sealed record NotRunRow(string Name, string Reason, string Source)
{
    /// <summary>What the distance might have been.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Tolerance { get; init; }
}

/// <summary>Result of <c>verify</c>.</summary>
internal sealed record VerifyResult(string Device, string Precision, string Model, IReadOnlyList<CheckRow> Checks,
    IReadOnlyList<NotRunRow> NotRun)
{
    /// <summary>How keys and values are kept wherever whole models run: as those of the published numbers are. Cases of single ops cover both.</summary>
    public string Kv { get; init; } = "f32";
}

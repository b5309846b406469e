using System.Text.Json.Serialization;
using KernelScope.Measuring;

namespace KernelScope.Cli;

/// <summary>The machine of a measurement.</summary>
internal sealed record BenchMachine(string Os, string Architecture, int Cores, string Detail);

/// <summary>What the device can do, measured between the cases: bytes a second of reads, or of copies (read and written), and float32 operations a second. Null: not measured on this device.</summary>
internal sealed record BenchLimitRow(Spread? ReadBandwidth, Spread? CopyBandwidth, Spread? Float32Peak)
{
    /// <summary>Operations a second of tensor cores: bfloat16 products, sums in float32. Null: it has none.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public Spread? Bf16Peak { get; init; }
}

/// <summary>One case. <c>share</c> is the part of the limit that <c>bound</c> names, measured right before it; null where that limit is not known.</summary>
/// <param name="Name">As in the table.</param>
/// <param name="Rows">Tokens or rows of one run.</param>
/// <param name="Seconds">Time of one run.</param>
/// <param name="Bytes">The least that a run must read and write.</param>
/// <param name="Flops">Additions and multiplications of a run.</param>
/// <param name="Bound">bandwidth, peak or bf16_peak: the one that takes longer.</param>
/// <param name="Share">Of the limit.</param>
/// <param name="Scaled">Whether the time of the layers was multiplied up to the whole model.</param>
internal sealed record BenchCaseRow(string Name, int Rows, Spread Seconds, double Bytes, double Flops, string Bound, Spread? Share,
    bool Scaled)
{
    /// <summary>How often it was timed: at most the number of rounds.</summary>
    public required int Times { get; init; }

    /// <summary>Products of tensor cores that make one with float32 accuracy; they are counted in the share.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? Products { get; init; }
}

/// <summary>Result of <c>bench</c>.</summary>
internal sealed record BenchResult(
    string Device, string Precision, string Kv, BenchMachine Machine, string Shape, string Dtype, int LayersMeasured, int LayersOfModel,
    int Rounds, BenchLimitRow Limits, IReadOnlyList<BenchCaseRow> Cases);

using System.Text.Json.Serialization;
using KernelScope.Cpu.Panels;
using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>Result of <c>pack</c>.</summary>
/// <param name="Model">The model.</param>
/// <param name="Path">The file.</param>
/// <param name="Bytes">Its size.</param>
/// <param name="Matrices">Number of matrices.</param>
/// <param name="Rounded">Whether wider values were rounded to bfloat16.</param>
/// <param name="Values">Number of values.</param>
/// <param name="NotBf16">How many of those that were looked at are not bfloat16: they keep their matrices in 32 bits, or were rounded.</param>
/// <param name="Packed">How each matrix is kept.</param>
internal sealed record PackResult(
    string Model, string Path, long Bytes, int Matrices, bool Rounded, long Values, long NotBf16, IReadOnlyList<PackedMatrixRow> Packed)
{
    /// <summary>What rounding does on a text; null where nothing was rounded, or it was not measured.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public EffectResult? Effect { get; init; }

    public static PackResult From(string model, string path, long bytes, bool rounded, IReadOnlyList<PackedMatrixInfo> matrices) => new(
        model,
        path,
        bytes,
        matrices.Count,
        rounded,
        matrices.Sum(m => m.Values),
        matrices.Sum(m => m.NotBf16 ?? 0),
        [.. matrices.Select(m => new PackedMatrixRow(m.Matrix.Name, m.Matrix.DType.SafetensorsName(), m.Bits, m.Values, m.NotBf16))]);
}

/// <summary>How a matrix is kept in packed weights.</summary>
/// <param name="Name">The matrix.</param>
/// <param name="Dtype">Its type in the model's files.</param>
/// <param name="Bits">Bits of a value in the packed file.</param>
/// <param name="Values">Number of values.</param>
/// <param name="NotBf16">How many are not bfloat16; null where nobody looked.</param>
internal sealed record PackedMatrixRow(string Name, string Dtype, int Bits, long Values, long? NotBf16);

/// <summary>Result of <c>pack --safetensors</c>.</summary>
/// <param name="Model">The model.</param>
/// <param name="Path">The folder.</param>
/// <param name="Dtype">What config.json says of the weights.</param>
/// <param name="Bytes">Bytes of the weights.</param>
/// <param name="Tensors">Number of tensors.</param>
/// <param name="Shards">Number of weight files.</param>
/// <param name="Values">Number of values.</param>
/// <param name="Changed">How many of them were rounded.</param>
internal sealed record ExportResult(string Model, string Path, string Dtype, long Bytes, int Tensors, int Shards, long Values, long Changed)
{
    /// <summary>What rounding does on a text; null where nothing was rounded, or it was not measured.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public EffectResult? Effect { get; init; }
}

/// <summary>What rounded weights do to a model's predictions.</summary>
/// <param name="Text">On which text.</param>
/// <param name="Sequences">Sequences that it was cut into.</param>
/// <param name="Tokens">Predictions that count.</param>
/// <param name="Kl">KL(exact ‖ rounded) in nats per token.</param>
/// <param name="Loss">Cross-entropy of the next token with the weights as they are, in nats.</param>
/// <param name="RoundedLoss">The same with rounded weights.</param>
/// <param name="DeltaLoss">The difference.</param>
/// <param name="ArgmaxAgreement">Share of tokens at which both have the same likeliest token.</param>
internal sealed record EffectResult(
    string Text, int Sequences, long Tokens, double Kl, double Loss, double RoundedLoss, double DeltaLoss, double ArgmaxAgreement);

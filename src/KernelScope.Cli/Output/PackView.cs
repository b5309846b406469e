using System.Globalization;

namespace KernelScope.Cli;

/// <summary>Prints how weights were packed or converted, and what rounding does.</summary>
internal static class PackView
{
    /// <summary>How the matrices are kept, on standard error, because the path alone is the output of an exact pack; what rounding does, on standard output.</summary>
    public static void Print(Streams streams, PackResult result)
    {
        IEnumerable<string> kept = result.Packed.GroupBy(m => m.Bits).OrderBy(g => g.Key)
            .Select(g => string.Create(CultureInfo.InvariantCulture, $"{g.Count()} in {g.Key} bits a value"));
        streams.Error.WriteLine($"{Count(result.Matrices)} matrices: {string.Join(", ", kept)}");
        if (result.Rounded)
        {
            streams.Output.WriteLine(Rounded(result.NotBf16, result.Values, "bfloat16", result.Effect is not null));
            Print(streams, result.Effect);
        }
        else if (result.NotBf16 > 0)
        {
            long values = result.Packed.Where(m => m.NotBf16 > 0).Sum(m => m.Values);
            streams.Error.WriteLine($"In matrices kept in 32 bits, {Count(result.NotBf16)} of {Count(values)} values are not bfloat16.");
        }
    }

    /// <summary>The same of a converted folder.</summary>
    public static void Print(Streams streams, ExportResult result)
    {
        string files = result.Shards == 1 ? "one file" : $"{Count(result.Shards)} files";
        streams.Error.WriteLine($"{Count(result.Tensors)} tensors, {ByteText.Of(result.Bytes)} in {files}, {result.Dtype}");
        streams.Output.WriteLine(Rounded(result.Changed, result.Values, result.Dtype, result.Effect is not null));
        Print(streams, result.Effect);
    }

    private static string Rounded(long changed, long values, string type, bool isMeasured)
    {
        if (changed == 0)
            return "No value was changed.";
        string share = string.Create(CultureInfo.InvariantCulture, $"{100.0 * changed / values:0.####} %");
        return $"{Count(changed)} of {Count(values)} values ({share}) were rounded to {type}{(isMeasured ? ":" : ".")}";
    }

    private static void Print(Streams streams, EffectResult? effect)
    {
        if (effect is null)
            return;
        CultureInfo culture = CultureInfo.InvariantCulture;
        string divergence = string.Create(culture, $"KL {effect.Kl:G3} nats per token");
        string loss = string.Create(culture, $"loss {effect.Loss:0.00000} to {effect.RoundedLoss:0.00000}");
        string delta = effect.DeltaLoss.ToString("+0.00000;-0.00000;0.00000", culture);
        string agreement = string.Create(culture, $"the same likeliest token at {100 * effect.ArgmaxAgreement:0.0#} %");
        streams.Output.WriteLine($"on {effect.Text} ({Count(effect.Tokens)} tokens) {divergence}, {loss} ({delta}), {agreement}");
    }

    private static string Count(long n) => n.ToString("N0", CultureInfo.InvariantCulture);
}

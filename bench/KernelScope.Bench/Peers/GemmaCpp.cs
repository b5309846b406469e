using System.Globalization;
using System.Text.RegularExpressions;

namespace KernelScope.Bench.Peers;

/// <summary>What gemma.cpp says of one of its two phases.</summary>
internal readonly record struct GemmaPhase(int Tokens, double TokensPerSecond);

/// <summary>
/// gemma.cpp's program <c>gemma</c>. Options as in its gemma/gemma_args.h and util/threading_context.h (google/gemma.cpp): <c>--weights</c>, <c>--tokenizer</c>, <c>--num_threads</c>, <c>--prompt</c>,
/// <c>--max_generated_tokens</c>, <c>--verbosity</c>; at verbosity 1 it prints on standard error, as in gemma/gemma.h, <c>[ Timing info ] Prefill: 12 ms for 5 prompt tokens (416.67 tokens / sec); …</c> and
/// <c>[ Timing info ] Generate: 640 ms for 64 tokens (100.00 tokens / sec)</c>. It takes the largest logit unless told otherwise.
/// </summary>
internal static partial class GemmaCpp
{
    // A model that ends its answer sooner shows no speed.
    private const int FewestTokens = 8;

    /// <summary>Tokens per second of a prompt of about so many tokens, or of so many generated ones.</summary>
    /// <exception cref="OutsideProgramException">It cannot be run, failed, or printed something else.</exception>
    public static GemmaPhase Run(string program, string weights, string? tokenizer, int prompt, int generated, int threads,
        CancellationToken cancellation)
    {
        // A word is a token, or close to it: the rate is that of the tokens that it counted.
        string words = string.Join(' ', Enumerable.Repeat("the", Math.Max(1, prompt - 2)));
        List<string> arguments =
        [
            "--weights", weights, "--num_threads", threads.ToString(CultureInfo.InvariantCulture), "--verbosity", "1",
            "--max_generated_tokens", Math.Max(1, generated).ToString(CultureInfo.InvariantCulture), "--prompt", words,
        ];
        if (tokenizer is not null)
            arguments.AddRange(["--tokenizer", tokenizer]);
        (_, string error) = OutsideProgram.Run(program, arguments, cancellation);
        string phase = prompt > 0 ? "Prefill" : "Generate";
        GemmaPhase result = Parse(error, phase)
            ?? throw new OutsideProgramException(
                $"{program} printed no line '[ Timing info ] {phase}: …' of gemma.cpp, but {OutsideProgram.Quote(error)}.");
        return result.Tokens >= FewestTokens ? result
            : throw new OutsideProgramException(
                $"{program} counted only {result.Tokens} tokens in '{phase}', too few to say how fast it is.");
    }

    /// <summary>A phase in what it printed; null if it is not there.</summary>
    public static GemmaPhase? Parse(string error, string phase)
    {
        Match line = TimingLine().Matches(error).LastOrDefault(m => m.Groups["phase"].Value == phase) ?? Match.Empty;
        return line.Success && double.Parse(line.Groups["rate"].Value, CultureInfo.InvariantCulture) is > 0 and double rate
            ? new GemmaPhase(int.Parse(line.Groups["tokens"].Value, CultureInfo.InvariantCulture), rate)
            : null;
    }

    [GeneratedRegex(@"\[ Timing info \] (?<phase>Prefill|Generate): \d+ ms for (?<tokens>\d{1,9}) (prompt )?tokens "
        + @"\((?<rate>\d+(\.\d+)?) tokens / sec\)")]
    private static partial Regex TimingLine();
}

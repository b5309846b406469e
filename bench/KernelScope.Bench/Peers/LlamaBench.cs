using System.Globalization;
using System.Text.Json;

namespace KernelScope.Bench.Peers;

/// <summary>What llama-bench measured.</summary>
/// <param name="TokensPerSecond">The average of its repetitions.</param>
/// <param name="Model">What it says of the model: <c>gemma2 2B BF16</c>.</param>
/// <param name="Parameters">Number of weights.</param>
/// <param name="Backends">What it computed with: <c>CPU</c>.</param>
/// <param name="Commit">Of llama.cpp.</param>
internal sealed record LlamaResult(double TokensPerSecond, string Model, long Parameters, string Backends, string Commit)
{
    /// <summary>As a note.</summary>
    public string Note =>
        string.Create(CultureInfo.InvariantCulture,
            $"llama.cpp {Commit}: {Model}, {Parameters / 1e9:f2} B parameters, {Backends}; it measures itself, and its results are not "
                + $"compared");
}

/// <summary>
/// llama.cpp's llama-bench. Options and output as in its README (ggml-org/llama.cpp, tools/llama-bench/README.md): <c>-m</c> model, <c>-p</c> tokens of a prompt, <c>-n</c> generated tokens, <c>-t</c> threads,
/// <c>-r</c> repetitions, <c>-ngl</c> layers on a GPU, <c>-o json</c>: an array with an object for each test, of which n_prompt, n_gen, avg_ts, model_type, model_n_params, backends and build_commit are read.
/// </summary>
internal static class LlamaBench
{
    /// <summary>Runs one test once; the program warms itself up before it.</summary>
    /// <exception cref="OutsideProgramException">It cannot be run, failed, or printed something else.</exception>
    public static LlamaResult Run(string program, string gguf, int prompt, int generated, int threads, CancellationToken cancellation)
    {
        string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
        (string output, _) =
            OutsideProgram.Run(
                program, ["-m", gguf, "-p", Text(prompt), "-n", Text(generated), "-t", Text(threads), "-ngl", "0", "-r", "1", "-o", "json"],
                cancellation);
        return Parse(output, prompt, generated)
            ?? throw new OutsideProgramException(
                $"{program} printed no result of llama-bench for {prompt} prompt and {generated} generated tokens, but "
                    + $"{OutsideProgram.Quote(output)}.");
    }

    /// <summary>The result of a test in what it printed; null if it is not there.</summary>
    public static LlamaResult? Parse(string output, int prompt, int generated)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(output);
            foreach (JsonElement test in document.RootElement.EnumerateArray())
            {
                if (test.GetProperty("n_prompt").GetInt32() == prompt && test.GetProperty("n_gen").GetInt32() == generated
                    && test.GetProperty("avg_ts").GetDouble() is > 0 and double rate)
                    return new LlamaResult(rate, test.GetProperty("model_type").GetString()!, test.GetProperty("model_n_params").GetInt64(),
                        test.GetProperty("backends").GetString()!, test.GetProperty("build_commit").GetString()!);
            }

            return null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            return null;
        }
    }
}

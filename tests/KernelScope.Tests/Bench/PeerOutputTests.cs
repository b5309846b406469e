using KernelScope.Bench.Peers;

namespace KernelScope.Tests.Bench;

/// <summary>What the bench program reads of other people's programs.</summary>
public sealed class PeerOutputTests
{
    // The members that are read, as llama.cpp's tools/llama-bench/README.md shows them for -o json, with two tests.
    private const string Llama = """
        [
          { "build_commit": "8cf427ff", "build_number": 5163, "backends": "CUDA", "model_type": "qwen2 7B Q4_K - Medium", "model_size": 4677120000, "model_n_params": 7615616512,
            "n_threads": 8, "n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ns": 72135640, "avg_ts": 7100.002165, "samples_ts": [ 6863.1, 7147.55, 7136.37, 7115.79, 7237.21 ] },
          { "build_commit": "8cf427ff", "build_number": 5163, "backends": "CUDA", "model_type": "qwen2 7B Q4_K - Medium", "model_size": 4677120000, "model_n_params": 7615616512,
            "n_threads": 8, "n_prompt": 0, "n_gen": 128, "n_depth": 0, "avg_ns": 1076767880, "avg_ts": 118.881588, "samples_ts": [ 119.03, 120.178, 119.43, 118.307, 117.464 ] }
        ]
        """;

    // As gemma.cpp's TimingInfo prints at verbosity 1 (gemma/gemma.h).
    private const string Gemma =
        "\n[ Reading prompt ] \n\n[ Timing info ] Prefill: 1890 ms for 511 prompt tokens (270.31 tokens / sec); Time to first token: "
            + "1995 ms\n\n[ Timing info ] Generate: 6400 ms for 64 tokens (10.00 tokens / sec)\n";

    [Fact]
    public void Of_llama_bench_the_test_that_was_asked_for_is_read()
    {
        LlamaResult prompt = LlamaBench.Parse(Llama, 512, 0)!, generated = LlamaBench.Parse(Llama, 0, 128)!;
        Assert.Equal(7100.002165, prompt.TokensPerSecond);
        Assert.Equal(118.881588, generated.TokensPerSecond);
        Assert.Equal(("qwen2 7B Q4_K - Medium", 7615616512, "CUDA", "8cf427ff"),
            (generated.Model, generated.Parameters, generated.Backends, generated.Commit));
    }

    [Theory]
    [InlineData("")]
    [InlineData("usage: llama-bench [options]")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("[1]")]
    [InlineData("""[{ "n_prompt": 0, "n_gen": 128 }]""")]
    [InlineData("""[{ "n_prompt": 0, "n_gen": 128, "avg_ts": 0 }]""")]
    [InlineData("""[{ "n_prompt": 0, "n_gen": 64, "avg_ts": 118.9, "model_type": "x", "model_n_params": 1, "backends": "CPU", "build_commit": "x" }]""")]
    [InlineData("""[{ "n_prompt": "0", "n_gen": 128, "avg_ts": 118.9 }]""")]
    public void What_is_no_result_of_llama_bench_gives_none(string output) => Assert.Null(LlamaBench.Parse(output, 0, 128));

    [Fact]
    public void Of_gemma_cpp_both_phases_are_read()
    {
        Assert.Equal(new GemmaPhase(511, 270.31), GemmaCpp.Parse(Gemma, "Prefill"));
        Assert.Equal(new GemmaPhase(64, 10), GemmaCpp.Parse(Gemma, "Generate"));
        Assert.Null(GemmaCpp.Parse("[ Timing info ] Generate: 0 ms for 0 tokens (-nan tokens / sec)", "Generate"));
        Assert.Null(GemmaCpp.Parse("Failed to open weights", "Generate"));
    }

    [Fact]
    public void A_program_that_is_not_there_is_named()
    {
        string missing = Path.Combine(Path.GetTempPath(), Guid.NewGuid().ToString("n"));
        Assert.Equal($"--llama-bench: there is no file {missing}.",
            Assert.Throws<OutsideProgramException>(() => OutsideProgram.Require(missing, "--llama-bench")).Message);
        Assert.StartsWith($"{missing} could not be started: ",
            Assert.Throws<OutsideProgramException>(() => OutsideProgram.Run(missing, [], default)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_program_that_fails_is_named_in_one_line()
    {
        string failed = Assert.Throws<OutsideProgramException>(() => OutsideProgram.Run("dotnet", ["no-such-command-at-all"], default))
            .Message;
        Assert.StartsWith("dotnet failed with exit code ", failed, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', failed);
    }
}

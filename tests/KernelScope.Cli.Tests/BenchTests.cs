using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>bench</c> and <c>--profile</c>: that the numbers are there and belong together. How good they are is not for a test on a shared machine.</summary>
public sealed class BenchTests
{
    [Fact]
    public void The_demo_gives_times_and_shares_of_measured_limits()
    {
        JsonElement result = Program.Json("bench", "--shape", "demo", "--rounds", "2", "--device", "cpu");
        Assert.Equal("cpu", result.GetProperty("device").GetString());
        Assert.Equal("demo", result.GetProperty("shape").GetString());
        Assert.Equal(2, result.GetProperty("rounds").GetInt32());
        Assert.Equal(6, result.GetProperty("layers_measured").GetInt32());
        Assert.True(result.GetProperty("machine").GetProperty("cores").GetInt32() > 0);
        JsonElement limits = result.GetProperty("limits");
        double bandwidth = Ordered(limits.GetProperty("read_bandwidth")), peak = Ordered(limits.GetProperty("float32_peak"));
        // No machine that runs this reads less than 100 MB a second, or more than 100 TB.
        Assert.InRange(bandwidth, 1e8, 1e14);
        Assert.InRange(peak, 1e8, 1e15);

        JsonElement[] cases = [.. result.GetProperty("cases").EnumerateArray()];
        string[] expected =
            ["decode", "prefill_512", "sae_2k_encode_1", "sae_2k_decode_1", "sae_2k_encode_32", "sae_2k_decode_32", "sae_2k_encode_512",
                "sae_2k_decode_512"];
        Assert.Equal(expected, cases.Select(c => c.GetProperty("name").GetString()));
        foreach (JsonElement one in cases)
        {
            Assert.False(one.GetProperty("scaled").GetBoolean());
            double seconds = Ordered(one.GetProperty("seconds")), share = Ordered(one.GetProperty("share"));
            double work = one.GetProperty(one.GetProperty("bound").GetString() == "peak" ? "flops" : "bytes").GetDouble();
            Assert.InRange(seconds, 1e-7, 60);
            Assert.True(share > 0 && work > 0, one.ToString());
            // The limit that the share was taken of lies between those that were printed.
            JsonElement limit = limits.GetProperty(one.GetProperty("bound").GetString() == "peak" ? "float32_peak" : "read_bandwidth");
            double rate = work / one.GetProperty("seconds").GetProperty("min").GetDouble();
            Assert.True(one.GetProperty("share").GetProperty("max").GetDouble() <= rate / limit.GetProperty("min").GetDouble() * 1.0001,
                one.ToString());
        }

        // Matrices of six layers and of the head, bfloat16, and what attention reads.
        const double Layer = (224 * 64 * ((2 * 4) + (2 * 2))) + (3 * 224 * 896), Head = 224 * 4096;
        Assert.InRange(cases[0].GetProperty("bytes").GetDouble(), 2 * ((6 * Layer) + Head), 2 * ((6 * Layer) + Head) * 1.05);
        Assert.InRange(cases[0].GetProperty("flops").GetDouble(), 2 * ((6 * Layer) + Head), 2 * ((6 * Layer) + Head) * 1.05);
    }

    [Fact]
    public void The_emulated_device_takes_the_path_of_a_CUDA_device()
    {
        JsonElement result = Program.Json("bench", "--device", "emulated", "--rounds", "1");
        Assert.Contains("say nothing", result.GetProperty("machine").GetProperty("detail").GetString(), StringComparison.Ordinal);
        JsonElement limits = result.GetProperty("limits");
        foreach (string limit in (string[])["copy_bandwidth", "bf16_peak"])
            Assert.True(limits.GetProperty(limit).GetProperty("median").GetDouble() > 0, limit);
        Assert.Equal(JsonValueKind.Null, limits.GetProperty("read_bandwidth").ValueKind);
        JsonElement[] cases = [.. result.GetProperty("cases").EnumerateArray()];
        Assert.Equal(["decode", "prefill_16", "sae_2k_encode_1", "sae_2k_decode_1", "sae_2k_encode_16", "sae_2k_decode_16"],
            cases.Select(c => c.GetProperty("name").GetString()));
        Assert.All(cases, c => Assert.Equal(1, c.GetProperty("times").GetInt32()));
        // bfloat16 weights: an exact product is three of the tensor cores'.
        JsonElement prefill = cases[1];
        Assert.Equal(("bf16_peak", 3), (prefill.GetProperty("bound").GetString(), prefill.GetProperty("products").GetInt32()));
        double share = 3 * prefill.GetProperty("flops").GetDouble() / prefill.GetProperty("seconds").GetProperty("median")
            .GetDouble() / limits.GetProperty("bf16_peak").GetProperty("max").GetDouble();
        Assert.InRange(prefill.GetProperty("share").GetProperty("median").GetDouble(), share * 0.999, double.MaxValue);
    }

    [Fact]
    public void People_get_a_table()
    {
        Outcome outcome = Program.Run("bench", "--shape", "demo", "--rounds", "1", "--threads", "1");
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
        Assert.Contains("read bandwidth", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("sae_2k_decode_512", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_prefill_in_fast_precision_is_held_against_the_peak_of_what_it_runs_on()
    {
        JsonElement result = Program.Json("bench", "--shape", "demo", "--rounds", "1", "--precision", "fast");
        bool machineCode = result.GetProperty("machine").GetProperty("detail").GetString()!.Contains("vdpbf16ps", StringComparison.Ordinal);
        JsonElement prefill = result.GetProperty("cases").EnumerateArray().Single(c => c.GetProperty("name").GetString() == "prefill_512");
        Assert.Equal(machineCode ? "bf16_peak" : "peak", prefill.GetProperty("bound").GetString());
        Assert.True(prefill.GetProperty("share").GetProperty("median").GetDouble() > 0);
        Assert.Equal(machineCode, result.GetProperty("limits").TryGetProperty("bf16_peak", out _));
    }

    [Theory]
    [InlineData("not a shape", "--shape", "gemma-3-1b")]
    [InlineData("--layers is 0", "--layers", "0")]
    [InlineData("gemma-2-2b has 26", "--layers", "27")]
    [InlineData("not a type of weights", "--dtype", "int4")]
    [InlineData("--rounds is 0", "--rounds", "0")]
    [InlineData("--rounds needs a whole number", "--rounds", "many")]
    [InlineData("the demo has its own", "--shape", "demo", "--dtype", "f32")]
    [InlineData("the demo has its own", "--shape", "demo", "--layers", "2")]
    [InlineData("--shape, not --model", "--model", "/no/such/model")]
    [InlineData("emulated device would take hours for gemma-2-2b", "--device", "emulated", "--shape", "gemma-2-2b")]
    [InlineData("reference device would take hours for gemma-2-9b", "--device", "reference", "--shape", "gemma-2-9b")]
    public void Options_that_make_no_sense_get_a_sentence(string sentence, params string[] options) =>
        Program.Run(["bench", .. options]).AssertFailed(2, sentence);

    [Theory]
    [InlineData("run", "And the king said")]
    [InlineData("generate", "Once upon a time", "--max-new-tokens", "3")]
    [InlineData("features", "She loved the river.")]
    [InlineData("attribute", "She loved the river.", "--loss")]
    public void A_profile_goes_to_standard_error_and_changes_nothing(params string[] arguments)
    {
        Outcome plain = Program.Run([.. arguments, "--json"]), profiled = Program.Run([.. arguments, "--json", "--profile"]);
        Assert.Equal((0, plain.Output), (profiled.ExitCode, profiled.Output));
        string[] lines = profiled.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.StartsWith("op ", lines[0], StringComparison.Ordinal);
        Assert.Contains(lines, l => l.StartsWith("AddNormedThenNorm ", StringComparison.Ordinal));
        Assert.Contains(lines, l => l.StartsWith("Linear qkv ", StringComparison.Ordinal));
        Assert.Contains(lines, l => l.StartsWith("layer 5 ", StringComparison.Ordinal));
        int limits = Array.FindIndex(lines, l => l.StartsWith("limits measured now: ", StringComparison.Ordinal));
        Assert.StartsWith("all ", lines[limits - 1], StringComparison.Ordinal);
        Assert.EndsWith("%", lines[limits - 1], StringComparison.Ordinal);
        Assert.Contains(lines[(limits + 1)..], l => l.Contains("qkv", StringComparison.Ordinal));
        Assert.All(lines[(limits + 1)..], l => Assert.Matches("^kernels of [\\w, ]+: .* from [0-9]+ rows$", l));
    }

    /// <summary>The median, once min, median and max are in order.</summary>
    private static double Ordered(JsonElement spread)
    {
        double min = spread.GetProperty("min").GetDouble(), median = spread.GetProperty("median").GetDouble(),
            max = spread.GetProperty("max").GetDouble();
        Assert.True(min > 0 && min <= median && median <= max, spread.ToString());
        return median;
    }
}

using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>verify</c>: what it prints, and its exit code. That wrong devices fail is held in KernelScope.Tests.</summary>
public sealed class VerifyTests
{
    [Fact]
    public void The_cpu_device_passes_and_what_lacks_weights_is_not_run()
    {
        JsonElement result = Program.Json("verify", "--device", "cpu");
        Assert.Equal("cpu", result.GetProperty("device").GetString());
        JsonElement[] checks = [.. result.GetProperty("checks").EnumerateArray()];
        Assert.All(checks,
            c => Assert.True(c.GetProperty("ok").GetBoolean()
                && c.GetProperty("measured").GetDouble() <= c.GetProperty("limit").GetDouble(), c.ToString()));
        string[] names = [.. checks.Select(c => c.GetProperty("name").GetString()!)];
        Assert.Contains("op Linear", names);
        Assert.Contains("op SaeEncode", names);
        Assert.Contains(names, n => n.StartsWith("demo, tale: resid_post.3", StringComparison.Ordinal));
        Assert.Contains(names, n => n.StartsWith("demo, res.3.2k.l0_19: CE spliced", StringComparison.Ordinal));
        Assert.All(result.GetProperty("not_run").EnumerateArray(), n => Assert.NotEqual("", n.GetProperty("tolerance").GetString()));
        Assert.Contains(result.GetProperty("not_run").EnumerateArray(),
            n => n.GetProperty("source").GetString()!.StartsWith("SAEBench", StringComparison.Ordinal));
    }

    [Fact]
    public void The_cpu_device_passes_in_fast_precision()
    {
        JsonElement result = Program.Json("verify", "--device", "cpu", "--precision", "fast");
        Assert.Equal("fast", result.GetProperty("precision").GetString());
        Assert.All(result.GetProperty("checks").EnumerateArray(), c => Assert.True(c.GetProperty("ok").GetBoolean(), c.ToString()));
        // Products with a weight are rounded, and nothing else is.
        Assert.InRange(Worst("op Linear"), 1e-4, 1);
        Assert.InRange(Worst("op SaeEncode"), 0, 1e-6);

        double Worst(string name) => result.GetProperty("checks").EnumerateArray().Single(c => c.GetProperty("name").GetString() == name)
            .GetProperty("measured").GetDouble();
    }

    [Fact]
    public void Bad_input_gets_a_sentence()
    {
        Program.Run("verify", "--sae", "res.3.2k.l0_19").AssertFailed(2, "give --model too");
        Program.Run("verify", "--model", Fixtures.DemoModel, "--text-file", "x").AssertFailed(2, "--text-file needs --sae");
        Program.Run("verify", "--model", "/no/such/model").AssertFailed(1, "/no/such/model");
    }
}

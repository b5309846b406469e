using System.Text.Json;
using KernelScope.Cuda;
using KernelScope.Emulated;

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
        // Every op in fast precision: CpuConformanceTests.
        JsonElement result = Program.Json("verify", "--device", "cpu", "--precision", "fast", "--op", "Linear", "--op", "SaeEncode");
        Assert.Equal("fast", result.GetProperty("precision").GetString());
        Assert.All(result.GetProperty("checks").EnumerateArray(), c => Assert.True(c.GetProperty("ok").GetBoolean(), c.ToString()));
        // Products with a weight are rounded where the processor multiplies bfloat16, and nothing else is.
        if (FastPrecisionTests.RoundsProducts)
            Assert.InRange(Worst("op Linear"), 1e-4, 1);
        else
            Assert.InRange(Worst("op Linear"), 0, 1e-6);
        Assert.InRange(Worst("op SaeEncode"), 0, 1e-6);

        double Worst(string name) => result.GetProperty("checks").EnumerateArray().Single(c => c.GetProperty("name").GetString() == name)
            .GetProperty("measured").GetDouble();
    }

    /// <summary>Each op in a process of its own: one that takes too long is one red line, and the others are green.</summary>
    [Fact]
    public void An_op_whose_process_is_stopped_leaves_the_others()
    {
        JsonElement together = Program.Json("verify", "--device", "emulated", "--op", "Copy", "--op", "Softcap", "--jobs", "2", "--hashes");
        Assert.Equal(["op Copy", "op Softcap"], together.GetProperty("checks").EnumerateArray()
            .Select(c => c.GetProperty("name").GetString()));
        Assert.All(together.GetProperty("checks").EnumerateArray(), c =>
            Assert.True(c.GetProperty("ok").GetBoolean() && c.GetProperty("hash_equal").GetBoolean() && c.GetProperty("seconds")
            .GetDouble() > 0, c.ToString()));
        // The large products take the reference device longer than that.
        Outcome stopped = Program.Run("verify", "--device", "reference", "--op", "Linear", "--op", "Copy", "--scale", "large", "--jobs",
            "2", "--timeout", "3", "--json");
        Assert.Equal(1, stopped.ExitCode);
        JsonElement linear = JsonElement.Parse(stopped.Output).GetProperty("checks").EnumerateArray()
            .Single(c => c.GetProperty("name").GetString() == "op Linear");
        Assert.Equal((false, "timeout after 3 s"), (linear.GetProperty("ok").GetBoolean(), linear.GetProperty("message").GetString()));
    }

    [Fact]
    public void Cases_are_picked_by_op_and_by_name()
    {
        JsonElement[] checks = [.. Program.Json("verify", "--device", "cpu", "--op", "Linear", "--case", "denormals")
            .GetProperty("checks").EnumerateArray()];
        Assert.Equal(2, Assert.Single(checks).GetProperty("shapes").GetInt32());
        Program.Run("verify", "--op", "Liner").AssertFailed(2, "'Liner' is not an op of the suite");
        Program.Run("verify", "--case", "no such case").AssertFailed(2, "no case is called");
        Program.Run("verify", "--cross", "--op", "Linear").AssertFailed(2, "--op does nothing with --cross");
        Program.Run("verify", "--repeats", "3").AssertFailed(2, "--repeats does nothing without --cross");
        Program.Run("verify", "--cross").AssertFailed(2, "the cpu device has none");
        Program.Run("verify", "--write-hashes", "x").AssertFailed(2, "--device emulated");
        Program.Run("verify", "--sync").AssertFailed(2, "--sync does nothing on auto");
        Program.Run("kernels", "--device", "cpu").AssertFailed(2, "the cpu device has no kernels");
    }

    /// <summary>What is repeated is launched one by one, captured, and replayed: its batches have as many launches as a graph must have.</summary>
    [Fact]
    public void Forms_agree_and_what_is_repeated_is_replayed()
    {
        const int Repeated = 11;
        using MemoryStream output = new(), error = new();
        using var streams = new Streams(output, error);
        using var progress = new Progress(streams, "Forms");
        using CudaDevice device = EmulatedDevices.Open();
        IReadOnlyList<CheckRow> rows = new CrossChecks(device, 2, progress, CancellationToken.None).Run();
        Assert.All(rows, r => Assert.True(r.Ok, $"{r.Name}: {r.Message}"));
        Assert.InRange(device.GraphLaunches, Repeated, 2 * Repeated);
    }

    /// <summary>The bits of the shipped kernels in the emulator are those on file; a case that is not there fails.</summary>
    [Fact]
    public void Outputs_are_held_bit_by_bit_to_the_file_inside()
    {
        using var folder = new TempFolder();
        string path = folder.At("hashes.json");
        Program.Json("verify", "--device", "emulated", "--write-hashes", path, "--op", "RmsNorm");
        JsonElement check = Assert.Single(Program.Json("verify", "--device", "emulated", "--op", "RmsNorm", "--hashes", path)
            .GetProperty("checks").EnumerateArray());
        Assert.True(check.GetProperty("hash_equal").GetBoolean());
        Outcome missing = Program.Run("verify", "--device", "emulated", "--op", "Copy", "--hashes", path);
        Assert.Equal(1, missing.ExitCode);
        Assert.Contains("there is no hash of this case", missing.Output, StringComparison.Ordinal);
        // Another tree of sums: other bits, within every tolerance.
        Outcome cpu = Program.Run("verify", "--device", "cpu", "--op", "RmsNorm", "--scale", "tiny", "--hashes", path);
        Assert.Equal(1, cpu.ExitCode);
        Assert.Contains("have other bits", cpu.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Bad_input_gets_a_sentence()
    {
        Program.Run("verify", "--sae", "res.3.2k.l0_19").AssertFailed(2, "give --model too");
        Program.Run("verify", "--model", Fixtures.DemoModel, "--text-file", "x").AssertFailed(2, "--text-file needs --sae");
        Program.Run("verify", "--model", "/no/such/model").AssertFailed(1, "/no/such/model");
    }
}

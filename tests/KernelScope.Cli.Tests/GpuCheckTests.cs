using System.Diagnostics;
using System.Globalization;
using System.Runtime.Versioning;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>tools/gpu-check.sh</c>, rehearsed on the emulated device: the results file, whatever becomes of a step.</summary>
[UnsupportedOSPlatform("windows")]
public sealed class GpuCheckTests
{
    [Fact]
    [Trait("Category", "Slow")]
    public void A_rehearsal_agrees_and_its_file_tells_of_every_step()
    {
        using var folder = new TempFolder();
        (Outcome outcome, JsonElement file) = Check(folder, "", "emulated");
        Assert.True(outcome.ExitCode == 0, outcome.Output + outcome.Error);
        Assert.Equal(["doctor", "kernels", "generate cpu", "generate emulated graphs", "verify tiny, bits", "verify cross"], Steps(file)
            .Select(s => s.GetProperty("name").GetString()));
        Assert.All(Steps(file), s => Assert.Equal((0, JsonValueKind.Object),
            (s.GetProperty("exit").GetInt32(), s.GetProperty("json").ValueKind)));
        JsonElement summary = file.GetProperty("summary");
        Assert.Equal("PTX emulator", summary.GetProperty("device").GetString());
        JsonElement modules = Steps(file).Single(s => s.GetProperty("name").GetString() == "kernels").GetProperty("json")
            .GetProperty("modules");
        Assert.Equal(57, modules.GetArrayLength());
        Assert.Equal(modules.GetArrayLength(), summary.GetProperty("loaded").GetInt32());
        Assert.Equal((2, 0), (summary.GetProperty("ops_ok").GetInt32(), summary.GetProperty("ops_failed").GetInt32()));
        Assert.True(summary.GetProperty("hashes_equal").GetBoolean() && summary.GetProperty("cross_ok").GetBoolean());
        Assert.Equal(64, file.GetProperty("file_sha256").GetString()!.Length);
        // The last line is the summary.
        Assert.Equal(summary.GetRawText(), outcome.Output.TrimEnd('\n').Split('\n')[^1]);
    }

    /// <summary>A step whose process is killed is marked, and the others go on.</summary>
    [Fact]
    public void A_step_that_is_killed_is_marked()
    {
        using var folder = new TempFolder();
        (Outcome outcome, JsonElement file) = Check(folder, "if [[ $1 == verify && $* == *--hashes* ]]; then kill -9 $$; fi", "emulated");
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("exit 137", outcome.Output, StringComparison.Ordinal);
        Assert.Equal([0, 0, 0, 0, 137, 0], Steps(file).Select(s => s.GetProperty("exit").GetInt32()));
        Assert.Equal(JsonValueKind.Null, file.GetProperty("summary").GetProperty("hashes_equal").ValueKind);
        Assert.Equal(1, file.GetProperty("summary").GetProperty("failed_steps").GetInt32());
    }

    [SkippableFact]
    public void Without_a_GPU_one_line_says_so()
    {
        Skip.If(Program.Run("kernels", "--device", "cuda").ExitCode == 0, "this machine has a GPU");
        using var folder = new TempFolder();
        (Outcome outcome, JsonElement file) = Check(folder, "", "cuda");
        Assert.Equal(1, outcome.ExitCode);
        Assert.StartsWith("gpu-check: the device cuda cannot be opened: ",
            Assert.Single(outcome.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);
        Assert.Contains("kernels", Steps(file).Select(s => s.GetProperty("name").GetString()));
    }

    /// <summary>Where every step hangs until its time is up, the whole still ends in 8 minutes, and the measurements get most of their time.</summary>
    [Fact]
    public void Whatever_hangs_the_end_comes_in_time()
    {
        using var folder = new TempFolder();
        string program = Script(folder, "kernelscope", ""), clock = folder.At("clock"), output = folder.At("out.json");
        File.WriteAllText(clock, "1000000\n");
        // Time is what the steps are given.
        Script(folder, "date", $"case $1 in +%s) cat '{clock}' ;; +%s%N) echo $(cat '{clock}')000000000 ;; *) echo now ;; esac");
        Script(folder, "timeout", $"echo $(($(cat '{clock}') + $2)) > '{clock}'\n" +
            "if [[ $4 == kernels ]]; then echo '{\"device\":{\"name\":\"x\"},\"failed\":0}'; fi\nexit 124");
        Outcome outcome = Run([program, output], $"{Path.GetDirectoryName(program)}:{Environment.GetEnvironmentVariable("PATH")}");
        Assert.Equal(1, outcome.ExitCode);
        Assert.InRange(int.Parse(File.ReadAllText(clock), CultureInfo.InvariantCulture) - 1_000_000, 300, 475);
        JsonElement[] steps = Steps(JsonElement.Parse(File.ReadAllText(output)));
        Assert.All(steps, s => Assert.Equal(124, s.GetProperty("exit").GetInt32()));
        Assert.InRange(steps.Single(s => s.GetProperty("name").GetString() == "bench gemma-2-2b").GetProperty("seconds").GetDouble(), 120,
            150);
    }

    [Fact]
    public void Bad_usage_is_exit_2()
    {
        Assert.Equal(2, Run("x").ExitCode);
        Assert.Equal(2, Run("/no/such/program", "out.json").ExitCode);
    }

    private static JsonElement[] Steps(JsonElement file) => [.. file.GetProperty("steps").EnumerateArray()];

    /// <summary>Runs the script on the built program, before which a line of shell may do something.</summary>
    private static (Outcome Outcome, JsonElement File) Check(TempFolder folder, string line, string device)
    {
        string program = Script(folder, "kernelscope", $"{line}\nexec '{Program.Host}' exec '{Program.Assembly}' \"$@\""),
            output = folder.At("out.json");
        Outcome outcome = Run(program, output, "--device", device);
        return (outcome, JsonElement.Parse(File.ReadAllText(output)));
    }

    private static string Script(TempFolder folder, string name, string text)
    {
        string path = folder.At(name);
        File.WriteAllText(path, $"#!/usr/bin/env bash\n{text}\n");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return path;
    }

    private static Outcome Run(params string[] arguments) => Run(arguments, Environment.GetEnvironmentVariable("PATH"));

    private static Outcome Run(string[] arguments, string? path)
    {
        string script = Path.Combine(Fixtures.Root, "tools", "gpu-check.sh");
        var start = new ProcessStartInfo("bash", [script, .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PATH"] = path;
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return new Outcome(process.ExitCode, output, error.Result);
    }
}

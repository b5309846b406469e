using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json;
using KernelScope.Cpu.Panels;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>Files that come from other files, outputs, and the standard streams: nothing stale, damaged or half is used, and nothing that was there is lost.</summary>
public sealed partial class DerivedFileTests : IDisposable
{
    private const string Text = "And the king said";
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Damaged_panels_stop_a_run_and_inspect_tells_and_pack_mends_them()
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "bf16"), "model"), path = Path.Combine(model, "kernelscope.panels");
        Assert.Equal(0, Run("pack", "--model", model, "--out", path).ExitCode);
        string[] run = ["run", "--tokens", "2,5,7", "--model", model, "--json"];
        string sound = Run(run).Output;
        Assert.Equal(0, Run("inspect", model).ExitCode);
        byte[] bytes = File.ReadAllBytes(path);
        using (PanelFile panels = PanelFile.Open(path))
            bytes[panels.Stored.OffsetOf(panels.Matrices[^1].Name) + (panels.Matrices[^1].ByteLength / 2)] ^= 0x5A;
        File.WriteAllBytes(path, bytes);
        Run(run).AssertFailed(1, path, "damaged");
        Run("inspect", model).AssertFailed(1, path, "damaged");
        Outcome mended = Run([.. run, "--pack"]);
        Assert.Equal((0, sound), (mended.ExitCode, mended.Output));
    }

    [Fact]
    public void Panels_of_another_layout_are_named_not_used_and_not_deleted()
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "bf16"), "model"), path = Path.Combine(model, "kernelscope.panels");
        Assert.Equal(0, Run("pack", "--model", model, "--out", path).ExitCode);
        byte[] bytes = File.ReadAllBytes(path);
        int control;
        using (PanelFile panels = PanelFile.Open(path))
            control = (int)(panels.Length - PanelFile.ControlBytes(panels.Parts.Sum(p => (long)PanelFile.UnitsOf(p)),
                panels.SourcePath.Length));
        bytes[control] = 2;
        File.WriteAllBytes(path, bytes);
        Outcome run = Run("run", "--tokens", "2,5,7", "--model", model), inspected = Run("inspect", model, "--json");
        Assert.Equal(0, run.ExitCode);
        Assert.Contains("layout 2", run.Error, StringComparison.Ordinal);
        Assert.Contains("layout 2", Assert.Single(inspected.Json().EnumerateArray()).GetProperty("notes")[0].GetString(),
            StringComparison.Ordinal);
        Assert.Equal(bytes, File.ReadAllBytes(path));
    }

    [Fact]
    public void Packed_weights_in_the_cache_are_listed_and_those_of_no_use_deleted()
    {
        string gone = _folder.Copy(Fixtures.Path("gemma2", "models", "bf16"), "gone"),
            cache = Path.Combine(_folder.Path, "cache", "kernelscope", "panels");
        Assert.Equal("[]\n", Run("pack", "--list", "--json").Output);
        foreach (string model in (string[])["demo", gone])
            Assert.Equal(0, Run("pack", "--model", model).ExitCode);
        Directory.Delete(gone, recursive: true);
        string left = TemporaryName.For(Path.Combine(cache, "x.panels")), stranger = Path.Combine(cache, "notes.txt");
        File.WriteAllText(left, "half");
        File.WriteAllText(stranger, "mine");
        JsonElement[] rows = [.. Run("pack", "--list", "--json").Json().EnumerateArray()];
        Assert.Equal(3, rows.Length);
        Assert.Single(rows, r => r.GetProperty("ok").GetBoolean());
        Assert.Equal(2, Run("pack", "--clean", "--json").Json().GetArrayLength());
        Assert.Equal([stranger], Directory.GetFiles(cache).Where(f => !f.EndsWith(".panels", StringComparison.Ordinal)));
        Assert.Single(Directory.GetFiles(cache, "*.panels"));
        Run("pack", "--list", "--clean").AssertFailed(2, "one of them at a time");
    }

    [Theory]
    [InlineData("damaged", "damaged")]
    [InlineData("older", "layout 2")]
    [InlineData("stale", "other weights")]
    public void Packed_weights_of_no_use_are_listed_as_what_they_are(string how, string words)
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "bf16"), "model");
        Assert.Equal(0, Run("pack", "--model", model).ExitCode);
        string path = Assert.Single(Directory.GetFiles(Path.Combine(_folder.Path, "cache", "kernelscope", "panels")));
        byte[] bytes = File.ReadAllBytes(path);
        int control;
        using (PanelFile panels = PanelFile.Open(path))
            control = (int)(panels.Length - PanelFile.ControlBytes(panels.Parts.Sum(p => (long)PanelFile.UnitsOf(p)),
                panels.SourcePath.Length));
        if (how == "damaged")
            bytes[control - 1000] ^= 1;
        else if (how == "older")
            bytes[control] = 2;
        File.WriteAllBytes(path, bytes);
        if (how == "stale")
        {
            string weights = Directory.GetFiles(model, "*.safetensors")[0];
            byte[] other = File.ReadAllBytes(weights);
            other[other.Length / 2] ^= 1;
            File.WriteAllBytes(weights, other);
        }

        JsonElement row = Assert.Single(Run("pack", "--list", "--json").Json().EnumerateArray());
        Assert.False(row.GetProperty("ok").GetBoolean());
        Assert.Contains(words, row.GetProperty("problem").GetString(), StringComparison.Ordinal);
        Assert.DoesNotContain("in use", Run("pack", "--list").Output, StringComparison.Ordinal);
        Assert.Equal(bytes, File.ReadAllBytes(path));
        Assert.Equal(0, Run("pack", "--clean").ExitCode);
        Assert.False(File.Exists(path));
    }

    [Fact]
    public void An_evaluation_is_not_finished_with_other_instructions()
    {
        File.WriteAllText(_folder.At("t.json"), "[[2, 562, 518, 475], [2, 5, 7]]");
        string[] command = ["eval", "--tokens-file", _folder.At("t.json"), "--no-gradients", "--resamples", "5", "--json", "--resume",
            _folder.At("journal")];
        Outcome wide = Run(command);
        Assert.Equal(0, wide.ExitCode);
        Assert.Equal(wide.Output, Run(command).Output);
        if (System.Runtime.Intrinsics.X86.Avx2.IsSupported)
            RunWith(new() { ["DOTNET_EnableAVX2"] = "0" }, command).AssertFailed(1, "journal", "the instructions that compute");
        Run([.. command, "--precision", "fast"]).AssertFailed(1, "journal", "the precision");
        Run([.. command, "--device", "reference"]).AssertFailed(1, "journal", "the device");
    }

    [SkippableFact]
    public void What_a_killed_run_left_goes_with_the_next_one()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "signals are sent by number");
        string path = Path.Combine(_folder.Path, "out", "a.npz");
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        string stranger = Path.Combine(_folder.Path, "out", "a.npz.bak.tmp"),
            ids = string.Join(',', Enumerable.Repeat(1715, 300).Prepend(2));
        File.WriteAllText(stranger, "mine");
        using (Process process = Program.Start(new ProcessStartInfo(Program.Host,
            ["exec", Program.Assembly, "run", "--tokens", ids, "--capture", "all", "--out", path, "--device", "reference"])))
        {
            var watch = Stopwatch.StartNew();
            while (Directory.GetFiles(Path.GetDirectoryName(path)!).Length < 2 && watch.Elapsed < TimeSpan.FromSeconds(60))
                Thread.Sleep(2);
            process.Kill();
            Program.Finish(process);
        }

        Assert.Equal(2, Directory.GetFiles(Path.GetDirectoryName(path)!).Length);
        Assert.Equal(0, Run("run", Text, "--capture", "resid_post.3", "--out", path).ExitCode);
        Assert.Equal([path, stranger], Directory.GetFiles(Path.GetDirectoryName(path)!).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void An_output_that_is_an_input_or_another_output_is_refused_and_nothing_is_lost()
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "bf16"), "model"),
            weights = Path.Combine(model, "model.safetensors"), acts = _folder.At("acts.npz"), link = _folder.At("link");
        Assert.Equal(0, Run("run", Text, "--capture", "resid_post.3", "--out", acts).ExitCode);
        File.WriteAllText(_folder.At("t.json"), "[[2, 5, 7]]");
        File.CreateSymbolicLink(link, acts);
        byte[] before = File.ReadAllBytes(acts), weightsBefore = File.ReadAllBytes(weights);
        Run("encode", acts, "--key", "resid_post.3", "--sae", "res.3.2k.l0_19", "--out", link).AssertFailed(2, "one of the inputs");
        Run("run", "--against", acts, "--capture", "resid_post.3", "--out", acts).AssertFailed(2, "one of the inputs");
        Run("run", "--tokens", "2,5", "--model", model, "--capture", "resid_post.0", "--out", weights).AssertFailed(2, "one of the inputs");
        Run("eval", "--tokens-file", _folder.At("t.json"), "--out", link, "--report", acts).AssertFailed(2, "--out and --report");
        Run("eval", "--tokens-file", _folder.At("t.json"), "--resume", link, "--report", acts).AssertFailed(2, "--report and --resume");
        Run("eval", "--tokens-file", _folder.At("t.json"), "--report", _folder.At("t.json")).AssertFailed(2, "one of the inputs");
        Run("pack", "--model", model, "--out", weights).AssertFailed(1, "is read from");
        Assert.Equal(before, File.ReadAllBytes(acts));
        Assert.Equal(weightsBefore, File.ReadAllBytes(weights));
        Assert.Equal("[[2, 5, 7]]", File.ReadAllText(_folder.At("t.json")));
    }

    [Theory]
    [InlineData("{\"\\ud800\": [[2, 5]]}")]
    [InlineData("{\"sequences\": [[2, 5]], \"x\": \"\\udc00\"}")]
    [InlineData("[\"\\ud800\"]")]
    [InlineData("[[2, \"\\ud800\"]]")]
    public void Half_of_a_surrogate_pair_is_refused_by_the_files_name(string json)
    {
        File.WriteAllText(_folder.At("t.json"), json);
        Run("eval", "--tokens-file", _folder.At("t.json")).AssertFailed(1, "t.json");
        File.WriteAllText(_folder.At("t.jsonl"), json + "\n");
        Run("tokenize", "--jsonl", _folder.At("t.jsonl")).AssertFailed(1, "t.jsonl");
    }

    [SkippableTheory]
    [InlineData("tokenize x >&-", "standard output is closed")]
    [InlineData("tokenize x > /dev/full", "standard output cannot be written")]
    [InlineData("tokenize x --json > /dev/full", "standard output cannot be written")]
    [InlineData("tokenize - <&-", "standard input is closed")]
    [InlineData("run - <&-", "standard input is closed")]
    [InlineData("tokenize --jsonl - <&-", "standard input is closed")]
    [InlineData("run x --capture all --out /dev/null", "a device")]
    public void A_closed_or_full_stream_gets_a_sentence(string command, string words)
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "descriptors are closed by a shell");
        Outcome outcome = Shell(command);
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains(words, outcome.Error, StringComparison.Ordinal);
        Assert.Single(outcome.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [SkippableFact]
    public void A_closed_standard_error_is_no_trouble()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "descriptors are closed by a shell");
        Assert.Equal(Run("tokenize", "x").Output, Shell("tokenize x 2>&-").Output);
        Assert.Equal(1, Shell("run x --model /no/such/model 2>&-").ExitCode);
    }

    [SkippableTheory]
    [InlineData("run")]
    [InlineData("tokenize")]
    public void A_signal_ends_the_wait_for_a_text(string verb)
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "signals are sent by number");
        using Process process = Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly, verb, "-"]));
        Thread.Sleep(1500);
        Assert.Equal(0, Kill(process.Id, 15));
        Program.Finish(process).AssertFailed(143, "interrupted");
    }

    [SkippableTheory]
    [InlineData("run x --capture all --out", "a.npz")]
    [InlineData("pack --out", "x.panels")]
    public void A_disk_that_takes_no_more_gets_a_sentence_with_the_file_and_nothing_is_left(string command, string name)
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "a shell sets the limit");
        string path = Path.Combine(_folder.Path, "out", name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        Outcome outcome = Shell($"{command} {path}", "trap '' XFSZ; ulimit -f 200; export DOTNET_EnableWriteXorExecute=0; ");
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains($"{path}: the file cannot be written", outcome.Error, StringComparison.Ordinal);
        Assert.DoesNotContain(".tmp", outcome.Error, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(Path.GetDirectoryName(path)!));
    }

    [Theory]
    [InlineData("W_enc", float.NaN)]
    [InlineData("W_dec", float.PositiveInfinity)]
    [InlineData("b_enc", float.NaN)]
    [InlineData("b_dec", float.NegativeInfinity)]
    [InlineData("threshold", float.NaN)]
    public void A_parameter_that_is_no_number_is_refused_by_inspect_and_by_every_verb(string name, float value)
    {
        string path = Sae(1, (name, value));
        Run("inspect", path).AssertFailed(1, path, name);
        Run("features", Text, "--sae", path, "--site", "resid_post.3").AssertFailed(1, path, name);
        using (var writer = new NpzWriter(_folder.At("acts.npz")))
        {
            writer.Add<float>("x", new float[224], 1, 224);
            writer.Commit();
        }

        Run("encode", _folder.At("acts.npz"), "--sae", path, "--out", _folder.At("codes.npz")).AssertFailed(1, path, name);
        Assert.False(File.Exists(_folder.At("codes.npz")));
    }

    [Fact]
    public void Codes_that_leave_float32_are_refused_and_not_written()
    {
        string path = Sae(1e37f);
        Assert.Equal(0, Run("run", Text, "--capture", "resid_post.3", "--out", _folder.At("acts.npz")).ExitCode);
        Run("encode", _folder.At("acts.npz"), "--key", "resid_post.3", "--sae", path, "--out", _folder.At("codes.npz"))
            .AssertFailed(1, "not a finite number");
        Run("features", Text, "--sae", path, "--site", "resid_post.3", "--json").AssertFailed(1, "not a finite number");
        Run("generate", Text, "--sae", path, "--site", "resid_post.3", "--features", "--max-new-tokens", "3")
            .AssertFailed(1, "not a finite number");
        Assert.False(File.Exists(_folder.At("codes.npz")));
        using (var writer = new NpzWriter(_folder.At("huge.npz")))
        {
            writer.Add<float>("x", Enumerable.Repeat(3e38f, 448).ToArray(), 2, 224);
            writer.Commit();
        }

        Run("encode", _folder.At("huge.npz"), "--key", "x", "--sae", "res.3.2k.l0_19", "--out", _folder.At("codes.npz"))
            .AssertFailed(1, "not a finite number");
        Assert.False(File.Exists(_folder.At("codes.npz")));
    }

    /// <summary>A small SAE of the demo's width with random parameters, and one value of one of them replaced.</summary>
    private string Sae(float scale, params (string Name, float Value)[] replaced)
    {
        const int Inputs = 224, Features = 64;
        var random = new Random(1);
        float[] Values(string name, int count, float factor)
        {
            float[] values = [.. Enumerable.Range(0, count).Select(_ => (random.NextSingle() - 0.5f) * factor)];
            foreach ((_, float value) in replaced.Where(r => r.Name == name))
                values[count / 2] = value;
            return values;
        }

        string path = _folder.At("params.npz");
        using var writer = new NpzWriter(path);
        writer.Add<float>("W_enc", Values("W_enc", Inputs * Features, scale), Inputs, Features);
        writer.Add<float>("W_dec", Values("W_dec", Features * Inputs, scale), Features, Inputs);
        writer.Add<float>("b_enc", Values("b_enc", Features, 1), Features);
        writer.Add<float>("b_dec", Values("b_dec", Inputs, 1), Inputs);
        writer.Add<float>("threshold", Values("threshold", Features, 0.1f), Features);
        writer.Commit();
        return path;
    }

    private Outcome Run(params string[] arguments) => RunWith([], arguments);

    private Outcome RunWith(Dictionary<string, string> environment, params string[] arguments)
    {
        environment["XDG_CACHE_HOME"] = _folder.At("cache");
        return Program.RunWith(null, environment, arguments);
    }

    private static Outcome Shell(string command, string before = "")
    {
        using Process process = Program.Start(new ProcessStartInfo("bash", ["-c", $"{before}exec '{Program.Host}' exec " +
            $"'{Program.Assembly}' {command}"]));
        process.StandardInput.Close();
        return Program.Finish(process);
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int process, int signal);
}

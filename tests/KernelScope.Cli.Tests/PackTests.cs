using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary>pack and --pack: where the file goes, that it is used, and that a bad one is not.</summary>
public sealed partial class PackTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("tale")]
    [InlineData("languages")]
    public void The_demo_runs_from_packed_weights_as_in_transformers(string text)
    {
        using var golden = new Arrays(Fixtures.Path("demo", "goldens", $"text-{text}.npz"));
        JsonElement result = Run("run", Fixtures.DemoText(text), "--pack", "--json").Json();
        double[] losses = [.. result.GetProperty("next_token_loss").EnumerateArray().Select(v => v.GetDouble())];
        Assert.True(losses.Zip(golden.Doubles("next_token_loss"), (a, b) => Math.Abs(a - b)).Max() <= 1e-4);
        int[] expected = golden.Ints("greedy_tokens");
        JsonElement generated =
            Run("generate", Fixtures.DemoText(text), "--ignore-eos", "--max-new-tokens", "40", "--temperature", "0", "--json").Json();
        Assert.Equal(expected, generated.Ints("tokens"));
        Assert.Single(PanelFiles());
    }

    [Fact]
    public void Packing_is_said_once_and_later_runs_find_the_file_themselves()
    {
        string[] arguments = ["features", "And the king said", "--json"];
        Outcome first = Run([.. arguments, "--pack"]), again = Run([.. arguments, "--pack"]), without = Run(arguments);
        string path = Assert.Single(PanelFiles());
        Assert.Contains("packed 8.37 MB", first.Error, StringComparison.Ordinal);
        Assert.Contains(path, first.Error, StringComparison.Ordinal);
        Assert.Equal(("", ""), (again.Error, without.Error));
        Assert.Equal(first.Output, again.Output);
        Assert.Equal(first.Output, without.Output);
        Assert.Contains(path, Run([.. arguments, "--profile"]).Error, StringComparison.Ordinal);
        Assert.Equal(path, Run("doctor", "--json").Json().GetProperty("model").GetProperty("packed").GetString());
        Assert.Contains("packed  +", Run("doctor").Output, StringComparison.Ordinal);
    }

    /// <summary>The unpacked run is held to other software's tokens in GenerateTests.</summary>
    [Fact]
    public void Edits_through_a_packed_encoder_give_the_tokens_of_one_that_is_not()
    {
        string[] arguments =
            ["generate", "And the king said", "--max-new-tokens", "30", "--ignore-eos", "--splice", "sae", "--edit-at",
                "from_last", "--json"];
        Assert.Equal(Run(arguments).Output, Run([.. arguments, "--pack"]).Output);
    }

    [Fact]
    public void Results_do_not_depend_on_the_number_of_threads()
    {
        Outcome one = Run("run", "And the king said", "--pack", "--json", "--threads", "1");
        Assert.Equal(0, one.ExitCode);
        foreach (string threads in (string[])["2", "3", "8"])
            Assert.Equal(one.Output, Run("run", "And the king said", "--json", "--threads", threads).Output);
    }

    [Fact]
    public void Pack_prints_the_path_and_inspect_checks_the_file()
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "f16"), "model"), path = Path.Combine(model, "kernelscope.panels");
        JsonElement result = Run("pack", "--model", model, "--out", path, "--json").Json();
        Assert.Equal((path, model, new FileInfo(path).Length),
            (result.GetProperty("path").GetString(), result.GetProperty("model").GetString(), result.GetProperty("bytes").GetInt64()));
        Assert.Equal(
            (0, path + "\n"), (Run("pack", "--model", model, "--out", path).ExitCode, Run("pack", "--model", model, "--out", path).Output));
        JsonElement inspected = Assert.Single(Run("inspect", path, "--json").Json().EnumerateArray());
        Assert.Equal("panels", inspected.GetProperty("format").GetString());
        Assert.Equal(result.GetProperty("matrices").GetInt32(), inspected.GetProperty("tensors").GetArrayLength());
        Assert.Contains(path, Run("run", "--tokens", "2,5,7", "--model", model, "--profile").Error, StringComparison.Ordinal);

        byte[] bytes = File.ReadAllBytes(path);
        bytes[bytes.Length / 2] ^= 1;
        File.WriteAllBytes(path, bytes);
        Run("inspect", path).AssertFailed(1, path, "damaged");
    }

    [Theory]
    [InlineData("weights", "other weights")]
    [InlineData("header", "kernelscope.panels")]
    [InlineData("end", "incomplete")]
    public void A_file_that_does_not_fit_is_named_and_not_used_and_made_anew_on_request(string what, string words)
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "bf16"), "model"), path = Path.Combine(model, "kernelscope.panels");
        string[] arguments = ["run", "--tokens", "2,5,7", "--model", model, "--json"];
        string unpacked = Run(arguments).Output;
        Assert.Equal(0, Run("pack", "--model", model, "--out", path).ExitCode);
        string packed = Run(arguments).Output;
        byte[] bytes = File.ReadAllBytes(path);
        if (what == "weights")
        {
            File.Delete(path);
            ChangeOneValue(Path.Combine(model, "model.safetensors"));
            unpacked = Run(arguments).Output;
            Assert.Equal(0, Run("pack", "--model", model, "--out", path).ExitCode);
            packed = Run(arguments).Output;
            File.WriteAllBytes(path, bytes);
        }
        else if (what == "header")
            File.WriteAllBytes(path, [.. bytes.AsSpan(0, 40), 0, .. bytes.AsSpan(41)]);
        else
            File.WriteAllBytes(path, bytes.AsSpan(0, bytes.Length - 100));

        Outcome refused = Run(arguments);
        Assert.Equal((0, unpacked), (refused.ExitCode, refused.Output));
        Assert.Single(refused.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains(words, refused.Error, StringComparison.Ordinal);
        Assert.Contains("packed  -", Run("doctor", "--model", model).Output, StringComparison.Ordinal);
        Outcome made = Run([.. arguments, "--pack"]);
        Assert.Equal((0, packed), (made.ExitCode, made.Output));
        Assert.Contains("packed ", made.Error, StringComparison.Ordinal);
        Assert.Equal("", Run(arguments).Error);
    }

    [Theory]
    [InlineData("2", "cpu device", "run", "x", "--pack", "--device", "reference")]
    [InlineData("2", "--out is empty", "pack", "--out", "")]
    [InlineData("1", "cannot be written", "pack", "--out", "/no/such/folder/x.panels")]
    [InlineData("1", "/no/such/model", "pack", "--model", "/no/such/model")]
    public void What_cannot_be_done_gets_a_sentence(string exitCode, string sentence, params string[] arguments) =>
        Run(arguments).AssertFailed(exitCode == "2" ? 2 : 1, sentence);

    [SkippableTheory]
    [InlineData(2, 130)]
    [InlineData(9, 137)]
    public void A_killed_pack_leaves_no_half_file(int signal, int exitCode)
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "signals are sent by number");
        string model = LargeModel(), path = _folder.At("model.panels");
        using (Process process =
            Program.Start(
                new ProcessStartInfo(
                    "env", ["--default-signal=INT", Program.Host, "exec", Program.Assembly, "pack", "--model", model, "--out", path])))
        {
            var watch = Stopwatch.StartNew();
            // An empty one is there for a moment before, to see whether the place can be written.
            while (!Directory.GetFiles(_folder.Path, "*.tmp").Any(name => new FileInfo(name) is { Exists: true, Length: > 0 })
                && !process.HasExited && watch.Elapsed < Patience)
                Thread.Sleep(1);
            Assert.Equal(0, Kill(process.Id, signal));
            Assert.Equal(exitCode, Program.Finish(process).ExitCode);
        }

        Assert.False(File.Exists(path));
        // Nobody can tidy up after SIGKILL: a temporary name is left then, which nothing reads.
        Assert.Equal(signal == 9 ? 1 : 0, Directory.GetFiles(_folder.Path, "model.panels*").Length);
    }

    // In a matrix: norms are read from the weights in any case.
    private static void ChangeOneValue(string weights)
    {
        byte[] bytes = File.ReadAllBytes(weights);
        using (var file = KernelScope.Files.SafetensorsFile.Open(weights))
            bytes[file.OffsetOf("model.layers.0.mlp.down_proj.weight") + 100] ^= 0x40;
        File.WriteAllBytes(weights, bytes);
    }

    /// <summary>A model of 600 MB of zeros, which take no room on the disk.</summary>
    private string LargeModel()
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "bf16"), "large"), weights = Path.Combine(model, "model.safetensors"),
            config = Path.Combine(model, "config.json");
        const int Rows = 1_000_000;
        int width, vocabulary;
        using (JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(config)))
            (width, vocabulary) =
                (document.RootElement.GetProperty("hidden_size").GetInt32(), document.RootElement.GetProperty("vocab_size").GetInt32());
        File.WriteAllText(config, File.ReadAllText(config)
            .Replace($"\"vocab_size\": {vocabulary}", $"\"vocab_size\": {Rows}", StringComparison.Ordinal));
        var tensors = new List<(string Name, string DType, long[] Shape, long Bytes)>();
        using (var file = KernelScope.Files.SafetensorsFile.Open(weights))
        {
            foreach (KernelScope.Files.TensorInfo tensor in file.Contents)
            {
                long[] shape = tensor.Name == "model.embed_tokens.weight" ? [Rows, width] : tensor.Shape.ToArray();
                tensors.Add((tensor.Name, "BF16", shape, shape.Aggregate(2L, (a, b) => a * b)));
            }
        }

        long at = 0;
        string header = "{"
            + string.Join(
                ',', tensors.Select(
                    t => $"\"{t.Name}\":{{\"dtype\":\"{t.DType}\",\"shape\":[{string.Join(',', t.Shape)}],"
                        + $"\"data_offsets\":[{at},{at += t.Bytes}]}}")) + "}";
        using FileStream stream = File.Create(weights);
        stream.Write(BitConverter.GetBytes((long)header.Length));
        stream.Write(System.Text.Encoding.ASCII.GetBytes(header));
        stream.SetLength(8 + header.Length + at);
        return model;
    }

    private string[] PanelFiles() => Directory.GetFiles(Path.Combine(_folder.Path, "cache", "kernelscope", "panels"));

    private Outcome Run(params string[] arguments) =>
        Program.RunWith(null, new Dictionary<string, string> { ["XDG_CACHE_HOME"] = _folder.At("cache") }, arguments);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int process, int signal);
}

using System.Diagnostics;

namespace KernelScope.Cli.Tests;

/// <summary>Outputs that would destroy an input, that cannot be written, and a standard error that takes nothing.</summary>
public sealed class OutputTests : IDisposable
{
    private const string Content = "She loved the river more than anything.", Lost = "one of the inputs";
    private const string Capture = "--capture resid_post.3";
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [SkippableTheory]
    [InlineData("run --text-file {0} " + Capture + " --out {0}", Content)]
    [InlineData("run --text-file {1} " + Capture + " --out {0}", Content)]
    [InlineData("run --text-file {0} " + Capture + " --out {1}", Content)]
    [InlineData("run --tokens-file {0} " + Capture + " --out {0}", "[[2, 1784, 1502]]")]
    [InlineData("run --jsonl {0} " + Capture + " --out {1}", "\"She loved\"\n\"the river\"\n")]
    [InlineData("run - " + Capture + " --out {0} < {0}", Content)]
    [InlineData("run " + Capture + " --out {1} < {0}", Content)]
    [InlineData("run --text-file /dev/stdin " + Capture + " --out {0} < {0}", Content)]
    [InlineData("run --jsonl - " + Capture + " --out {0} < {1}", "\"She loved\"\n\"the river\"\n")]
    [InlineData("eval --text-file - --out {0} < {0}", Content)]
    [InlineData("eval --text-file /dev/stdin --report {1} < {0}", Content)]
    [InlineData("pack --out {0} < {0}", Content)]
    public void A_file_that_is_read_is_not_written(string command, string content)
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "a shell redirects");
        string file = _folder.At("p.txt"), link = _folder.At("link");
        File.WriteAllText(file, content);
        File.CreateSymbolicLink(link, file);
        Shell(string.Format(System.Globalization.CultureInfo.InvariantCulture, command, file, link)).AssertFailed(2, Lost);
        Assert.Equal(content, File.ReadAllText(file));
        Assert.Equal(["link", "p.txt"], _folder.Files);
    }

    [Theory]
    [InlineData("run", "generation_config.json", "tokenizer_config.json", "added_tokens.json")]
    [InlineData("encode", "model.safetensors", "config.json", "special_tokens_map.json")]
    [InlineData("pack", "generation_config.json", "chat_template.jinja", "special_tokens_map.json")]
    [InlineData("eval", "generation_config.json", "tokenizer_config.json", "chat_template.json")]
    public void Every_file_of_a_model_is_one_that_is_read(string verb, params string[] names)
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "bf16"), "model");
        foreach (string name in names.Where(n => !File.Exists(Path.Combine(model, n))))
            File.WriteAllText(Path.Combine(model, name), "{}");
        File.WriteAllText(_folder.At("t.json"), "[[2, 5, 7]]");
        string acts = _folder.At("acts.npz");
        string[] arguments = verb switch
        {
            "run" => ["run", "--tokens", "2,5", "--capture", "resid_post.0"],
            "encode" => ["encode", acts, "--key", "resid_post.3", "--sae", "res.3.2k.l0_19"],
            "eval" => ["eval", "--tokens-file", _folder.At("t.json"), "--sae", Sae()],
            _ => ["pack"],
        };
        if (verb == "encode")
            Assert.Equal(0, Program.Run("run", Content, "--capture", "resid_post.3", "--out", acts).ExitCode);
        foreach (string name in names)
        {
            string path = Path.Combine(model, name);
            byte[] before = File.ReadAllBytes(path);
            Outcome outcome = Program.Run([.. arguments, "--model", model, "--out", path]);
            outcome.AssertFailed(verb == "pack" ? 1 : 2, verb == "pack" ? "is read from" : Lost);
            Assert.Equal(before, File.ReadAllBytes(path));
        }
    }

    [Theory]
    [InlineData("cfg.json")]
    [InlineData("config.json")]
    [InlineData("config.yaml")]
    public void Every_file_of_an_SAE_is_one_that_is_read(string name)
    {
        string acts = _folder.At("acts.npz"),
            sae = Path.Combine(Fixtures.DemoSaes, "res", "layer_3", "width_2k", "average_l0_19", "params.npz");
        Assert.Equal(0, Program.Run("run", Content, "--capture", "resid_post.3", "--out", acts).ExitCode);
        File.Copy(sae, _folder.At("params.npz"));
        File.WriteAllText(_folder.At(name), "{}");
        Program.Run("encode", acts, "--key", "resid_post.3", "--sae", _folder.At("params.npz"), "--out", _folder.At(name))
            .AssertFailed(2, Lost);
        Assert.Equal("{}", File.ReadAllText(_folder.At(name)));
    }

    [SkippableTheory]
    [InlineData(0, "run And " + Capture + " --out {0}")]
    [InlineData(1, "run And --model /no/such/model")]
    [InlineData(2, "run And --no-such-option")]
    public void A_full_standard_error_changes_neither_the_work_nor_its_exit_code(int exitCode, string command)
    {
        Skip.IfNot(File.Exists("/dev/full"), "there is no /dev/full");
        string path = _folder.At("o.npz");
        Outcome outcome = Shell(string.Format(System.Globalization.CultureInfo.InvariantCulture, command, path) + " 2> /dev/full");
        Assert.Equal(exitCode, outcome.ExitCode);
        Assert.Equal(exitCode == 0, File.Exists(path));
        Assert.Equal(exitCode == 0, outcome.Output.Length > 0);
    }

    [SkippableTheory]
    [InlineData("--out", "the file cannot be written")]
    [InlineData("--resume", "the resume file cannot be written")]
    public void An_evaluation_that_a_disk_does_not_hold_names_the_file_that_was_asked_for(string option, string words)
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "a shell sets the limit");
        string path = _folder.At("e.npz");
        File.WriteAllText(_folder.At("t.json"), $"[[2, {string.Join(", ", Enumerable.Repeat("1715", 100))}]]");
        Outcome outcome = Shell(
            $"eval --tokens-file {_folder.At("t.json")} --resamples 5 {option} {path}",
            "trap '' XFSZ; ulimit -f 40; export DOTNET_EnableWriteXorExecute=0; ");
        outcome.AssertFailed(1, $"{path}: {words} (");
        Assert.DoesNotContain(".tmp", outcome.Error, StringComparison.Ordinal);
        Assert.DoesNotContain(_folder.Files, f => f.EndsWith(".tmp", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("run", "And", "--capture", "resid_post.3", "--out")]
    [InlineData("pack", "--out")]
    [InlineData("eval", "--text-file", "demo", "--out")]
    [InlineData("eval", "--text-file", "demo", "--report")]
    [InlineData("eval", "--text-file", "demo", "--resume")]
    public void A_folder_that_is_missing_is_named(params string[] arguments)
    {
        string folder = _folder.At("no"), path = Path.Combine(folder, "x.npz");
        Outcome outcome = Program.Run([.. arguments, path]);
        outcome.AssertFailed(1, $"{path}: the file cannot be written (there is no folder '{folder}').");
    }

    [Theory]
    [InlineData("B is missing", "diff", "a")]
    [InlineData("is missing", "inspect")]
    [InlineData("ACTS is missing", "encode", "--sae", "x")]
    [InlineData("'-' is not one", "run", "And", "--capture", "resid_post.3", "--out", "-")]
    [InlineData("'-' is not one", "eval", "--text-file", "demo", "--report", "-")]
    [InlineData("'-' is not one", "pack", "--out", "-")]
    public void What_is_missing_and_what_is_not_a_file_is_said(string words, params string[] arguments) =>
        Program.Run(arguments).AssertFailed(2, words);

    [SkippableFact]
    public void The_size_that_is_said_is_that_of_the_file_behind_a_link()
    {
        Skip.If(OperatingSystem.IsWindows(), "links need a right there");
        string file = _folder.At("acts.npz"), link = _folder.At("link.npz");
        File.CreateSymbolicLink(link, file);
        string[] arguments = ["run", "And", "--capture", "resid_post.3", "--out"];
        string expected = Program.Run([.. arguments, file]).Error.Replace(file, link, StringComparison.Ordinal);
        Assert.Contains("link.npz (", expected, StringComparison.Ordinal);
        Assert.Equal(expected, Program.Run([.. arguments, link]).Error);
    }

    private static string Sae() => Path.Combine(Fixtures.DemoSaes, "res", "layer_3", "width_2k", "average_l0_19", "params.npz");

    private Outcome Shell(string command, string before = "")
    {
        using Process process = Program.Start(
            new ProcessStartInfo("bash", ["-c", $"{before}exec '{Program.Host}' exec '{Program.Assembly}' {command}"]),
            new Dictionary<string, string> { ["XDG_CACHE_HOME"] = _folder.Path });
        process.StandardInput.Close();
        return Program.Finish(process);
    }
}

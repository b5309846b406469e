using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>Arrays from a pipe, ids and numbers that do not fit: a sentence says what is wrong.</summary>
public sealed class RefusedInputTests : IDisposable
{
    private const string Sae = "res.3.2k.l0_19";
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("-", "standard input: arrays cannot be read from a pipe")]
    [InlineData("/dev/stdin", "/dev/stdin: arrays cannot be read from a pipe")]
    public void A_pipe_is_not_called_a_link_that_leads_nowhere(string path, string words)
    {
        if (path != "-" && !OperatingSystem.IsLinux())
            return;
        Program.RunAlone("encode", path, "--sae", Sae).AssertFailed(1, words);
        Program.RunAlone("diff", path, "b.npz").AssertFailed(1, words);
        Program.RunAlone("run", "A river", "--against", path).AssertFailed(1, words);
    }

    [Fact]
    public void Tokens_that_are_not_integers_are_said_to_do_nothing()
    {
        using (var writer = new NpzWriter(_folder.At("acts.npz")))
        {
            writer.Add<float>("x", new float[3 * 224], 3, 224);
            writer.Add<float>("tokens", [2f, 5f, 6f], 3);
            writer.Commit();
        }

        Outcome outcome = Program.Run("encode", _folder.At("acts.npz"), "--key", "x", "--sae", Sae);
        Assert.Equal(0, outcome.ExitCode);
        Assert.Contains("there is no integer array 'tokens' in it; all rows count.", outcome.Error, StringComparison.Ordinal);
        Program.Run("encode", _folder.At("acts.npz"), "--key", "x", "--sae", Sae, "--special-ids", "3000000000")
            .AssertFailed(2, "--special-ids: 3000000000 is not a token id");
    }

    [Theory]
    [InlineData("run")]
    [InlineData("features")]
    [InlineData("tokenize")]
    public void A_line_with_a_name_twice_is_refused_and_named(string verb)
    {
        string lines = _folder.Write("twice.jsonl", "{\"text\":\"a river\"}\n{\"text\":\"a mill\",\"text\":\"a wood\"}\n"u8);
        Program.Run(verb, "--jsonl", lines).AssertFailed(1, "twice.jsonl, line 2", "has a name twice");
    }

    [Fact]
    public void A_corpus_with_a_name_twice_is_refused_and_named()
    {
        string lines = _folder.Write("twice.jsonl", "{\"text\":\"a mill\",\"text\":\"a wood\"}\n"u8);
        Program.Run("harvest", "--out", _folder.At("run"), "--jsonl", lines, "--sites", "resid_post.1")
            .AssertFailed(1, "twice.jsonl", "line 1", "has a name twice");
    }

    [Fact]
    public void A_file_with_one_list_of_ids_is_named_too() =>
        Program.Run("run", "--tokens-file", _folder.Write("ids.json", "[[2,-5]]"u8)).AssertFailed(1, "ids.json: ", "id -5");

    [Fact]
    public void A_current_folder_that_was_deleted_is_called_that()
    {
        if (!OperatingSystem.IsLinux())
            return;
        string gone = Directory.CreateDirectory(_folder.At("gone")).FullName;
        string command = $"cd '{gone}' && rmdir '{gone}' && exec '{Program.Host}' exec '{Program.Assembly}' features hello";
        Program.Finish(Program.Start(new System.Diagnostics.ProcessStartInfo("/bin/sh", ["-c", command])))
            .AssertFailed(1, "the current folder was deleted");
    }

    [Fact]
    public void A_bias_that_leaves_float32_is_refused_by_name() =>
        Program.Run("generate", "A river", "--logit-bias", "5=1e39").AssertFailed(2, "--logit-bias", "5=1e39");
}

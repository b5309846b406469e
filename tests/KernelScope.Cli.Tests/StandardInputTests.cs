using System.Diagnostics;
using System.Text;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary>Texts and token ids from pipes, and what a verb does that has a text without one.</summary>
public sealed class StandardInputTests
{
    private const string Text = "She loved the river more than anything.";
    private const string Ids = "[[2, 1784, 1502, 476, 1182, 877, 752, 1086, 4012]]";

    [Theory]
    [InlineData("top", "--text-file", Text, "1738")]
    [InlineData("top", "--tokens-file", Ids, "1738")]
    [InlineData("eval", "--text-file", Text, "--no-gradients", "--resamples", "5")]
    [InlineData("eval", "--tokens-file", Ids, "--no-gradients", "--resamples", "5")]
    [InlineData("run", "--text-file", Text)]
    [InlineData("run", "--tokens-file", Ids)]
    [InlineData("features", "--text-file", Text)]
    [InlineData("features", "--tokens-file", Ids)]
    [InlineData("features", "--jsonl", "{\"text\": \"She loved\"}\n[2, 562]\n\"the river\"\n")]
    [InlineData("run", "--jsonl", "{\"ids\": [2, 1784]}\n")]
    [InlineData("tokenize", "--file", Text)]
    public void A_pipe_and_a_mark_before_the_text_change_nothing(string verb, string option, string content, params string[] more)
    {
        using var folder = new TempFolder();
        string file = folder.Write("input", Encoding.UTF8.GetBytes(content)),
            marked = folder.Write("marked", Encoding.UTF8.GetBytes("\uFEFF" + content));
        string expected = Program.Run([verb, .. more, option, file, "--json"]).Output;
        Assert.NotEqual("", expected);
        Assert.Equal(expected, Program.Run([verb, .. more, option, marked, "--json"]).Output);
        Assert.Equal(expected, Program.RunWith(content, null, [verb, .. more, option, "-", "--json"]).Output);
        if (!OperatingSystem.IsWindows())
            Assert.Equal(expected, Program.RunWith("\uFEFF" + content, null, [verb, .. more, option, "/dev/stdin", "--json"]).Output);
    }

    [Theory]
    [InlineData("features")]
    [InlineData("run")]
    [InlineData("generate", "--max-new-tokens", "3")]
    [InlineData("lens", "--site", "resid_post.3")]
    [InlineData("attribute", "--loss")]
    [InlineData("tokenize")]
    public void What_is_piped_into_a_verb_without_a_text_is_its_text(string verb, params string[] more)
    {
        Outcome piped = Program.RunWith("The harbour was quiet\n", null, [verb, .. more, "--json"]);
        Assert.Equal((0, ""), (piped.ExitCode, piped.Error));
        Assert.Equal(Program.RunWith("The harbour was quiet", null, [verb, "-", .. more, "--json"]).Output, piped.Output);
        Assert.Equal(Program.Run([verb, "The harbour was quiet", .. more, "--json"]).Output, piped.Output);
    }

    [Theory]
    [InlineData("features")]
    [InlineData("generate", "--max-new-tokens", "3")]
    public void An_empty_or_closed_standard_input_leaves_the_text_of_the_verb(params string[] verb)
    {
        Outcome empty = Program.RunWith("", null, [.. verb, "--json"]);
        Assert.Equal((0, ""), (empty.ExitCode, empty.Error));
        if (OperatingSystem.IsWindows())
            return;
        foreach (string redirection in new[] { "<&-", "</dev/null" })
        {
            Outcome outcome = Shell($"exec \"$0\" exec \"$1\" {string.Join(' ', verb)} --json {redirection}");
            Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
            Assert.Equal(empty.Output, outcome.Output);
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("\n")]
    public void An_empty_pipe_is_said_to_be_and_an_empty_file_is_refused(string nothing)
    {
        string[] generate = ["generate", "--max-new-tokens", "2"];
        foreach (string[] verb in new string[][] { ["features"], generate })
        {
            Outcome piped = Program.RunWith(nothing, null, verb);
            Assert.Equal(0, piped.ExitCode);
            Assert.Contains("standard input is empty, so the example is used: ", Assert.Single(Lines(piped)), StringComparison.Ordinal);
            if (OperatingSystem.IsWindows())
                continue;
            Outcome silent = Shell($"exec \"$0\" exec \"$1\" {string.Join(' ', verb)} </dev/null");
            Assert.Equal((0, "", piped.Output), (silent.ExitCode, silent.Error, silent.Output));
        }

        Program.RunWith(nothing, null, "run").AssertFailed(2, "a text is missing");
        Program.RunWith(nothing, null, "features", "-").AssertFailed(2, "the text is empty");
        if (!OperatingSystem.IsLinux())
            return;
        using var folder = new TempFolder();
        string file = folder.Write("empty", Encoding.UTF8.GetBytes(nothing));
        foreach (string more in new[] { "features", "features --json", "run", "tokenize", "generate --max-new-tokens 2 --json" })
            Shell($"exec \"$0\" exec \"$1\" {more} < '{file}'").AssertFailed(2, "the file on standard input holds no text");

        static string[] Lines(Outcome outcome) => outcome.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    [Fact]
    public void A_pipe_in_which_nothing_comes_is_not_waited_for_for_ever()
    {
        using Process process = Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly, "features", "--json"]));
        Outcome outcome = Program.Finish(process);
        Assert.Equal(0, outcome.ExitCode);
        Assert.Contains("nothing has come from it", Assert.Single(outcome.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries)),
            StringComparison.Ordinal);
        Assert.Equal(Program.Run("features", "--json").Output, outcome.Output);
    }

    [Fact]
    public void A_text_that_is_given_is_not_looked_for_in_a_pipe()
    {
        using Process process =
            Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly, "features", "the king", "--json"]));
        Outcome outcome = Program.Finish(process);
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
    }

    [Fact]
    public void A_closed_standard_input_is_said_to_be_and_a_signal_ends_the_wait_for_an_open_one()
    {
        if (OperatingSystem.IsWindows())
            return;
        Shell("exec \"$0\" exec \"$1\" run - <&-").AssertFailed(1, "standard input is closed");
        Shell("exec \"$0\" exec \"$1\" tokenize --jsonl - <&-").AssertFailed(1, "standard input is closed");
        Shell("exec \"$0\" exec \"$1\" top 5 --text-file - <&-").AssertFailed(1, "standard input is closed");
        using Process process = Program.Start(new ProcessStartInfo(Program.Host, ["exec", Program.Assembly, "run", "-"]));
        Thread.Sleep(1500);
        Process.Start("kill", ["-TERM", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)])!.WaitForExit();
        Assert.Equal(143, Program.Finish(process).ExitCode);
    }

    [Fact]
    public void Standard_input_that_two_options_name_is_refused()
    {
        Program.RunWith("text", null, "run", "-", "--splice", "mean", "--mean-from", "-").AssertFailed(2, "named twice");
        Program.Run("run", "x", "--text-file", "y").AssertFailed(2, "a text and --text-file");
        Program.Run("run", "--tokens", "2,5", "--jsonl", "y").AssertFailed(2, "--tokens and --jsonl");
        Program.Run("features", "--tokens-file", "x", "--jsonl", "y").AssertFailed(2, "--tokens-file and --jsonl");
    }

    [Theory]
    [InlineData("\"open", "line 1", "not JSON")]
    [InlineData("\"a\"\n\n{\"text\": 5}", "line 3", "was expected")]
    [InlineData("{\"ids\": [2], \"text\": \"a\"}", "line 1", "both")]
    [InlineData("[2, \"a\"]", "line 1", "not a token id")]
    [InlineData("[2, 99999]", "line 1", "outside the vocabulary")]
    [InlineData("[]", "line 1", "empty")]
    [InlineData("\n  \n", "input", "no line")]
    public void A_bad_line_is_named(string content, string place, string words)
    {
        using var folder = new TempFolder();
        File.WriteAllText(folder.At("input"), content);
        Program.Run("run", "--jsonl", folder.At("input")).AssertFailed(1, place, words);
    }

    [Fact]
    public void Many_texts_are_answered_as_each_alone_and_their_captures_are_what_encode_reads()
    {
        using var folder = new TempFolder();
        File.WriteAllLines(folder.At("texts.jsonl"),
            ["\"She loved the river\"", "[2, 1588, 580, 1536]", "{\"text\": \"And the king said\"}"]);
        string[] alone = ["She loved the river", "And the king said"];
        JsonElement run =
            Program.Json("run", "--jsonl", folder.At("texts.jsonl"), "--capture", "resid_post.3,q.1", "--out", folder.At("acts.npz"));
        JsonElement[] texts = [.. run.GetProperty("texts").EnumerateArray()];
        Assert.Equal(("demo", JsonValueKind.Null, 3),
            (run.GetProperty("model").GetString(), run.GetProperty("sae").ValueKind, texts.Length));
        Assert.Equal(Program.Json("run", alone[0]).GetRawText(), texts[0].GetRawText());
        Assert.Equal(Program.Json("run", alone[1]).GetRawText(), texts[2].GetRawText());
        JsonElement features = Program.Json("features", "--jsonl", folder.At("texts.jsonl"));
        Assert.Equal(Program.Json("features", alone[1]).GetRawText(), features.GetProperty("texts")[2].GetRawText());
        Assert.Equal("res.3.2k.l0_19", features.GetProperty("sae").GetString());

        int[] lengths = [.. texts.Select(t => t.Ints("tokens").Length)];
        using (var arrays = new Arrays(folder.At("acts.npz")))
        {
            Assert.Equal([0, lengths[0], lengths[0] + lengths[1], lengths.Sum()], arrays.Ints("text_start"));
            Assert.Equal(texts.SelectMany(t => t.Ints("tokens")), arrays.Ints("tokens"));
            Assert.Equal([lengths.Sum(), 4, 64], arrays.Shape("q.1"));
            Program.Json("run", alone[1], "--capture", "resid_post.3", "--out", folder.At("one.npz"));
            using var one = new Arrays(folder.At("one.npz"));
            Assert.Equal(one.Floats("resid_post.3"), arrays.Floats("resid_post.3")[((lengths[0] + lengths[1]) * 224)..]);
        }

        JsonElement codes =
            Program.Json("encode", folder.At("acts.npz"), "--key", "resid_post.3", "--sae", "res.3.2k.l0_19", "--model", "demo");
        Assert.Equal((lengths.Sum(), lengths.Sum() - 3),
            (codes.GetProperty("rows").GetInt32(), codes.GetProperty("rows_counted").GetInt32()));
        Program.Run("run", "--jsonl", folder.At("texts.jsonl"), "--against", folder.At("acts.npz")).AssertFailed(2, "--against");
    }

    private static Outcome Shell(string command)
    {
        using Process process = Program.Start(new ProcessStartInfo("/bin/sh", ["-c", command, Program.Host, Program.Assembly]));
        process.StandardInput.Close();
        return Program.Finish(process);
    }
}

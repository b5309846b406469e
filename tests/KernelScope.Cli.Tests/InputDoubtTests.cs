namespace KernelScope.Cli.Tests;

/// <summary>Texts with special tokens in them, ids without BOS or with two: the work is done, and a line on standard error says what looks wrong. Right input is silent.</summary>
public sealed class InputDoubtTests
{
    private const string Turns = "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n";

    [Theory]
    [InlineData("<bos>", "features", "<bos>Hello")]
    [InlineData("<eos>", "features", "Hello<eos>")]
    [InlineData("<pad>", "run", "Hello <pad> there")]
    [InlineData("<bos>", "generate", "<bos>" + Turns, "--max-new-tokens", "2")]
    [InlineData("not as turns", "generate", "Hello<end_of_turn>", "--max-new-tokens", "2")]
    [InlineData("not as turns", "features", "<start_of_turn>Hello")]
    [InlineData("--chat puts", "generate", Turns, "--chat", "--max-new-tokens", "2")]
    [InlineData("<|im_start|>", "run", "<|im_start|>user")]
    [InlineData("<bos>", "lens", "<bos>Hello", "--site", "resid_post.3")]
    [InlineData("<bos>", "attribute", "<bos>Hello", "--loss")]
    [InlineData("<bos>", "tokenize", "<bos>Hello")]
    [InlineData("do not begin with BOS", "run", "--tokens", "562,518,475")]
    [InlineData("do not begin with BOS", "features", "--tokens", "0,0,2,562")]
    [InlineData("more than once", "run", "--tokens", "2,2,1590")]
    [InlineData("more than once", "generate", "--tokens", "2,562,2,1590", "--max-new-tokens", "2")]
    public void What_looks_wrong_in_a_prompt_is_said_and_the_work_is_done(string words, params string[] arguments)
    {
        Outcome outcome = Program.Run(arguments);
        Assert.Equal(0, outcome.ExitCode);
        string line = Assert.Single(outcome.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.StartsWith("kernelscope: warning: ", line, StringComparison.Ordinal);
        Assert.Contains(words, line, StringComparison.Ordinal);
        Assert.NotEqual("", outcome.Output);
    }

    [Theory]
    [InlineData("features", "Hello")]
    [InlineData("features", "a <b> c </b> <unknown>")]
    [InlineData("generate", Turns, "--max-new-tokens", "2")]
    [InlineData("generate",
        "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nyes<end_of_turn>\n<start_of_turn>user\nbye<end_of_turn>\n",
        "--max-new-tokens", "2")]
    [InlineData("generate", "hi", "--chat", "--max-new-tokens", "2")]
    [InlineData("run", "--tokens", "2,562,518,475,1,0,0")]
    public void Right_input_is_silent(params string[] arguments)
    {
        Outcome outcome = Program.Run(arguments);
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
    }

    [Theory]
    [InlineData("[[2,562,518,475]]", null)]
    [InlineData("[[562,518,475,476]]", "the token ids do not begin with BOS")]
    [InlineData("[[2,562,518,475],[562,518,475],[518,475,476]]", "2 of 3 sequences (the first is sequence 1) do not begin")]
    [InlineData("[[2,562,518,475],[2,562,2,475]]", "sequence 1 holds BOS (id 2) more than once")]
    public void Token_files_are_looked_at_in_every_verb_that_takes_one(string json, string? words)
    {
        using var folder = new TempFolder();
        File.WriteAllText(folder.At("ids.json"), json);
        string[][] commands =
        [
            ["top", "562", "--tokens-file", folder.At("ids.json")],
            ["eval", "--tokens-file", folder.At("ids.json"), "--no-gradients", "--resamples", "5"],
            ["run", "A river", "--splice", "mean", "--mean-from", folder.At("ids.json")],
        ];
        foreach (string[] command in commands)
        {
            Outcome outcome = Program.Run(command);
            Assert.Equal(0, outcome.ExitCode);
            if (words is null)
                Assert.DoesNotContain("BOS", outcome.Error, StringComparison.Ordinal);
            else
                Assert.Contains($"ids.json: {words}", outcome.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_text_file_with_special_tokens_is_doubted_and_a_corpus_of_them_in_three_lines()
    {
        using var folder = new TempFolder();
        File.WriteAllText(folder.At("text.txt"), "<bos>More than anything she wished for a river.");
        Assert.Contains("text.txt: the text has <bos> in it", Program.Run("top", "1738", "--text-file", folder.At("text.txt")).Error,
            StringComparison.Ordinal);
        Assert.Contains("text.txt: the text has <bos> in it",
            Program.Run("run", "A river", "--splice", "mean", "--mean-from", folder.At("text.txt")).Error, StringComparison.Ordinal);
        Assert.Contains("the text has <bos> in it", Program.Run("run", "--text-file", folder.At("text.txt")).Error,
            StringComparison.Ordinal);
        File.WriteAllLines(folder.At("texts.jsonl"), Enumerable.Range(0, 5).Select(i => $"[562,518,{475 + i}]").Append("\"Hello\""));
        string[] lines = Program.Run("run", "--jsonl", folder.At("texts.jsonl"), "--json")
            .Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(4, lines.Length);
        Assert.Contains("texts.jsonl, line 1: the token ids do not begin with BOS", lines[0], StringComparison.Ordinal);
        Assert.Contains("2 more of the 6 texts", lines[3], StringComparison.Ordinal);
    }
}

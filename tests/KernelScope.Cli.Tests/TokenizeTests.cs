using System.Text;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>tokenize</c> against sentencepiece (fixtures/text).</summary>
public sealed class TokenizeTests
{
    [Theory]
    [InlineData("demo-cases.jsonl.gz", "demo.model")]
    [InlineData("multi-cases.jsonl.gz", "multi.model")]
    public void Bulk_answers_equal_sentencepiece(string cases, string tokenizer)
    {
        using var folder = new TempFolder();
        List<JsonElement> rows = [.. Fixtures.Rows(cases).Where(r => r.GetProperty("op").GetString() is "encode" or "decode")];
        var lines = new StringBuilder();
        foreach (JsonElement row in rows)
            lines.Append(row.GetProperty("op").GetString() == "encode" ? $"{{\"text\": {row.GetProperty("text").GetRawText()}}}"
                : $"{{\"ids\": {row.GetProperty("ids").GetRawText()}}}").Append('\n');
        string file = folder.Write("lines.jsonl", Encoding.UTF8.GetBytes(lines.ToString()));

        Outcome outcome = Program.Run("tokenize", "--jsonl", file, "--model", Fixtures.Path("text", tokenizer));
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
        string[] answers = outcome.Output.Split('\n')[..^1];
        Assert.Equal(rows.Count, answers.Length);
        foreach ((JsonElement row, string answer) in rows.Zip(answers))
        {
            JsonElement got = JsonElement.Parse(answer);
            if (row.GetProperty("op").GetString() == "decode")
            {
                Assert.Equal(row.GetProperty("text").GetString(), got.GetProperty("text").GetString());
                continue;
            }

            Assert.Equal(row.Ints("ids"), got.Ints("ids"));
            if (row.TryGetProperty("pieces", out JsonElement pieces))
                Assert.Equal(pieces.EnumerateArray().Select(p => p.GetString()), got.GetProperty("pieces").EnumerateArray()
                    .Select(p => p.GetString()));
        }
    }

    [Fact]
    public void A_text_a_file_and_ids_are_answered_alike()
    {
        using var folder = new TempFolder();
        const string Text = "Let there be\r\nlight ☃\0.\n";
        string file = folder.Write("text.txt", Encoding.UTF8.GetBytes(Text));
        string byFile = Program.Run("tokenize", "--file", file, "--json").Output;
        int[] ids = JsonElement.Parse(byFile).Ints("ids");
        Assert.Equal(byFile, Program.RunWith(Text + "\n", null, "tokenize", "-", "--json").Output);
        Assert.Equal(Text, Program.Json("tokenize", "--decode", string.Join(", ", ids)).GetProperty("text").GetString());
        Assert.Equal("{\"ids\":[],\"pieces\":[]}\n", Program.Run("tokenize", "", "--json").Output);
        Assert.Equal(byFile, Program.Run("tokenize", "--file", file, "--json", "--model", Fixtures.DemoModel).Output);
    }

    [Fact]
    public void People_see_one_piece_a_line()
    {
        Outcome outcome = Program.Run("tokenize", "the\nking");
        Assert.Equal(3, outcome.Output.Split('\n')[..^1].Length);
        Assert.Contains("\\n", outcome.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"text\": 3}", "not a string")]
    [InlineData("{\"ids\": [2, -1]}", "-1")]
    [InlineData("{\"ids\": [2, 4096]}", "0 to 4095")]
    [InlineData("{\"ids\": [2, 1.5]}", "not a token id")]
    [InlineData("{\"ids\": 2}", "not a list")]
    [InlineData("{\"text\": \"a\", \"ids\": []}", "both")]
    [InlineData("{}", "neither")]
    [InlineData("[]", "object")]
    [InlineData("{\"text\": \"a\"", "not a JSON object")]
    [InlineData("", "not a JSON object")]
    [InlineData("{\"text\": \"\\ud800\"}", "surrogate")]
    public void A_bad_line_is_named_and_what_came_before_it_is_answered(string line, string word)
    {
        using var folder = new TempFolder();
        string file = folder.Write("lines.jsonl", Encoding.UTF8.GetBytes($"{{\"ids\": [2]}}\n{line}\n{{\"ids\": [2]}}\n"));
        Outcome outcome = Program.Run("tokenize", "--jsonl", file);
        outcome.AssertFailed(1, "line 2", word);
        Assert.Equal("{\"text\":\"\"}\n", outcome.Output);
    }

    [Fact]
    public void Bytes_that_are_no_text_are_refused()
    {
        using var folder = new TempFolder();
        string file = folder.Write("bytes", [(byte)'a', 0xC3, 0x28]);
        Program.Run("tokenize", "--file", file).AssertFailed(1, "UTF-8", "0xC3", "offset 1");
        Program.Run("tokenize", "--jsonl", folder.Write("l", [.. "{\"text\":\""u8, 0xFF, .. "\"}\n"u8])).AssertFailed(1, "line 1", "UTF-8");
    }
}

using System.Diagnostics;
using System.Text.Json;
using KernelScope.Text;

namespace KernelScope.Tests.Text;

/// <summary>The order of merges, pieces that may not remain, and texts made to be slow.</summary>
public class MergeTests
{
    [Fact]
    public void Unused_pieces_are_taken_apart_and_ties_go_left_as_in_sentencepiece()
    {
        GemmaTokenizer tokenizer = GemmaTokenizer.Open(TextFixtures.PathOf("unused.model"));
        List<JsonElement> rows = [.. TextFixtures.Rows("unused-cases.jsonl.gz")];
        Assert.Equal(800, rows.Count);
        foreach (JsonElement row in rows)
            Assert.Equal(row.Ids(), tokenizer.Encode(row.GetProperty("text").GetString()));
    }

    [Fact]
    public void Zero_and_negative_zero_are_the_same_score()
    {
        // Leftmost first: "aab" is [aa][b], although "ab" has the score +0 and "aa" −0.
        GemmaTokenizer tokenizer = new TokenizerFile().With(("a", 0, 1), ("b", 0, 1), ("aa", -0f, 1), ("ab", 0f, 1)).Load();
        Assert.Equal(["aa", "b"], tokenizer.Encode("aab").Select(tokenizer.Piece));
    }

    [Fact]
    public void A_piece_may_grow_from_characters_that_are_no_pieces()
    {
        GemmaTokenizer tokenizer = new TokenizerFile().With(("\u6F22\u5B57", 0, 1)).Load();
        Assert.Equal(["\u6F22\u5B57", "<0xE6>", "<0xBC>", "<0xA2>"], tokenizer.Encode("\u6F22\u5B57\u6F22").Select(tokenizer.Piece));
    }

    [Theory]
    [InlineData("identical")]
    [InlineData("identical, unused pieces")]
    [InlineData("no spaces")]
    [InlineData("spaces")]
    [InlineData("newlines")]
    [InlineData("symbols cut short")]
    [InlineData("long pieces")]
    public void A_million_characters_do_not_take_quadratic_time(string kind)
    {
        const int Length = 1_000_000;
        TokenizerFile file =
            new TokenizerFile().With(("a", 0, 1), ("b", 0, 1), ("c", 0, 1), ("\u2581", 0, 1), ("ab", -3, 1), ("bc", -4, 1), ("abc", -5, 1));
        int type = kind == "identical, unused pieces" ? TokenizerFile.Unused : TokenizerFile.Normal;
        for (int n = 2; n <= 64; n *= 2)
            file.With((new string('a', n), -10 - n, type), (new string('\u2581', n), 0, TokenizerFile.UserDefined));
        if (kind == "long pieces")
            file.With([.. Enumerable.Range(2, 300).Where(n => n > 64 || !int.IsPow2(n))
                .Select(n => (new string('a', n), 1000f - n, TokenizerFile.Normal))]);
        string text = kind switch
        {
            "no spaces" => string.Concat(Enumerable.Repeat("abcbcaab", Length / 8)),
            "spaces" => new string(' ', Length),
            "newlines" => new string('\n', Length),
            "symbols cut short" => string.Concat(Enumerable.Repeat("<h1", Length / 3)),
            _ => new string('a', Length),
        };
        GemmaTokenizer tokenizer = file.Load();
        var clock = Stopwatch.StartNew();
        int[] ids = tokenizer.Encode(text);
        // Linear work takes well under a second; a quadratic pass over a million symbols takes many minutes.
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), $"{clock.Elapsed}");
        Assert.Equal(text, tokenizer.Decode(ids));
    }

    [Fact]
    public void Many_threads_may_share_a_tokenizer()
    {
        int[] expected = TextFixtures.Multi.Encode("The king said: 漢字 <h1>  ok\n\n");
        Parallel.For(0, 2000, _ => Assert.Equal(expected, TextFixtures.Multi.Encode("The king said: 漢字 <h1>  ok\n\n")));
    }
}

using System.Text.Json;
using KernelScope.Text;

namespace KernelScope.Tests.Text;

/// <summary>Every row that sentencepiece gave, for two vocabularies.</summary>
public class SentencepieceCasesTests
{
    private static List<JsonElement> Rows(string name, string op) =>
        [.. TextFixtures.Rows($"{name}-cases.jsonl.gz").Where(r => r.GetProperty("op").GetString() == op)];

    [Theory]
    [InlineData("demo", 1882)]
    [InlineData("multi", 1880)]
    public void Text_encodes_to_the_ids_and_pieces_of_sentencepiece(string name, int count)
    {
        GemmaTokenizer tokenizer = TextFixtures.Tokenizer(name);
        List<JsonElement> rows = Rows(name, "encode");
        Assert.Equal(count, rows.Count);
        foreach (JsonElement row in rows)
        {
            string text = row.GetProperty("text").GetString()!;
            int[] ids = tokenizer.Encode(text);
            Assert.Equal(row.Ids(), ids);
            if (row.TryGetProperty("pieces", out _))
                Assert.Equal(row.Strings("pieces"), ids.Select(tokenizer.Piece));
            Assert.Equal(ids, tokenizer.EncodeUtf8(System.Text.Encoding.UTF8.GetBytes(text)));
        }
    }

    [Theory]
    [InlineData("demo")]
    [InlineData("multi")]
    public void Bytes_that_are_not_utf8_encode_as_in_sentencepiece(string name)
    {
        List<JsonElement> rows = Rows(name, "encode_bytes");
        Assert.Equal(12, rows.Count);
        foreach (JsonElement row in rows)
            Assert.Equal(row.Ids(), TextFixtures.Tokenizer(name)
                .EncodeUtf8(Convert.FromHexString(row.GetProperty("bytes_hex").GetString()!)));
    }

    [Theory]
    [InlineData("demo", 776)]
    [InlineData("multi", 778)]
    public void Ids_decode_to_the_text_of_sentencepiece(string name, int count)
    {
        List<JsonElement> rows = Rows(name, "decode");
        Assert.Equal(count, rows.Count);
        foreach (JsonElement row in rows)
            Assert.Equal(row.GetProperty("text").GetString(), TextFixtures.Tokenizer(name).Decode(row.Ids()));
    }

    [Theory]
    [InlineData("demo")]
    [InlineData("multi")]
    public void An_id_that_does_not_exist_is_refused_and_named(string name)
    {
        GemmaTokenizer tokenizer = TextFixtures.Tokenizer(name);
        List<JsonElement> rows = Rows(name, "decode_error");
        Assert.Equal(4, rows.Count);
        foreach (JsonElement row in rows)
        {
            int bad = row.Ids().First(id => id < 0 || id >= tokenizer.PieceCount);
            var error = Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Decode(row.Ids()));
            Assert.Contains($"{bad}", error.Message, StringComparison.Ordinal);
            Assert.Contains($"0 to {tokenizer.PieceCount - 1}", error.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("demo")]
    [InlineData("multi")]
    public void Streamed_text_is_what_decoding_each_prefix_gives_without_its_unfinished_character(string name)
    {
        List<JsonElement> rows = Rows(name, "decode_prefixes");
        Assert.Equal(26, rows.Count);
        foreach (JsonElement row in rows)
        {
            var decoder = new StreamingDecoder(TextFixtures.Tokenizer(name));
            string[] prefixes = row.Strings("prefixes");
            string given = "";
            foreach ((int id, string prefix) in row.Ids().Zip(prefixes))
            {
                given += decoder.Append(id);
                Assert.StartsWith(given, prefix, StringComparison.Ordinal);
                string held = prefix[given.Length..];
                Assert.True(held.Length <= 3 && held.All(c => c == '\uFFFD'), $"held back: '{held}'");
            }

            Assert.Equal(prefixes[^1], given + decoder.Flush());
        }
    }
}

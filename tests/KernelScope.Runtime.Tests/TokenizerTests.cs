using System.Buffers;
using System.IO.Compression;
using System.Text.Json;
using KernelScope.Extensions;
using KernelScope.Text;
using Microsoft.ML.Tokenizers;

namespace KernelScope.Runtime.Tests;

/// <summary>The Tokenizer of Microsoft.ML.Tokenizers over ours, on the cases of sentencepiece.</summary>
public class TokenizerTests
{
    private static readonly GemmaTokenizer Ours = GemmaTokenizer.Open(PathOf("demo.model"));
    private static readonly Tokenizer Theirs = new KernelScopeTokenizer(Ours);

    [Fact]
    public void Ids_counts_and_places_are_right_for_every_text_of_sentencepiece()
    {
        int rows = 0;
        foreach (JsonElement row in Rows("encode"))
        {
            string text = row.GetProperty("text").GetString()!;
            int[] ids = [.. row.GetProperty("ids").EnumerateArray().Select(i => i.GetInt32())];
            Assert.Equal(ids, Theirs.EncodeToIds(text));
            Assert.Equal(ids.Length, Theirs.CountTokens(text));
            IReadOnlyList<EncodedToken> tokens = Theirs.EncodeToTokens(text, out string? normalized);
            Assert.Null(normalized);
            Assert.Equal(ids, tokens.Select(t => t.Id));
            int end = 0;
            foreach (EncodedToken token in tokens)
            {
                // Tokens lie side by side; the bytes of one character all lie on it.
                Assert.True(token.Offset.Start.Value == end || (Ours.IsByte(token.Id) && token.Offset.End.Value == end), text);
                end = token.Offset.End.Value;
                if (!Ours.IsByte(token.Id))
                    Assert.Equal(token.Value.Replace('\u2581', ' '), text[token.Offset].Replace('\u2581', ' '));
            }

            Assert.Equal(text.Length, end);
            rows++;
        }

        Assert.True(rows > 1800);
    }

    [Fact]
    public void A_limit_on_tokens_cuts_between_characters()
    {
        foreach (string text in (string[])["Let there be light, and there was light.", "你好 \U0001F600\U0001F600 naïve", "", "   \n\n  x"])
        {
            int[] ids = Ours.Encode(text);
            for (int most = 1; most <= ids.Length + 1; most++)
            {
                int index = Theirs.GetIndexByTokenCount(text, most, out _, out int count);
                Assert.True(count <= most && (index == text.Length || !char.IsLowSurrogate(text[index])));
                Assert.Equal(ids[..count], Theirs.EncodeToIds(text, most, out _, out int consumed));
                Assert.Equal(index, consumed);
                Assert.Equal(text[..index].Replace('\u2581', ' '), Ours.Decode(ids.AsSpan(0, count)));
                int fromEnd = Theirs.GetIndexByTokenCountFromEnd(text, most, out _, out count);
                Assert.True(count <= most);
                Assert.Equal(text[fromEnd..], Ours.Decode(ids.AsSpan(ids.Length - count)));
            }
        }
    }

    [Fact]
    public void Ids_decode_to_the_text_of_sentencepiece_also_into_a_span()
    {
        char[] room = new char[4096];
        foreach (JsonElement row in Rows("decode"))
        {
            int[] ids = [.. row.GetProperty("ids").EnumerateArray().Select(i => i.GetInt32())];
            string text = row.GetProperty("text").GetString()!;
            Assert.Equal(text, Theirs.Decode(ids));
            if (text.Length > room.Length)
                continue;
            Assert.Equal(OperationStatus.Done, Theirs.Decode(ids, room, out int consumed, out int written));
            Assert.Equal((ids.Length, text), (consumed, new string(room, 0, written)));
            if (text.Length > 0)
            {
                Assert.Equal(OperationStatus.DestinationTooSmall,
                    Theirs.Decode(ids, room.AsSpan(0, text.Length - 1), out consumed, out written));
                Assert.Equal(text[..written], Ours.Decode(ids.AsSpan(0, consumed)));
            }
        }

        Assert.Equal(OperationStatus.InvalidData, Theirs.Decode([562, 4096], room, out int before, out _));
        Assert.Equal(1, before);
    }

    private static List<JsonElement> Rows(string op)
    {
        using var stream = new GZipStream(File.OpenRead(PathOf("demo-cases.jsonl.gz")), CompressionMode.Decompress);
        using var reader = new StreamReader(stream);
        return [.. reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonElement.Parse(line))
            .Where(r => r.GetProperty("op").GetString() == op)];
    }

    private static string PathOf(string name)
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "KernelScope.sln")))
            folder = Path.GetDirectoryName(folder);
        return Path.Combine(folder!, "tests", "fixtures", "text", name);
    }
}

using System.Text.Json;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Evaluation;

/// <summary>Reads what an evaluation runs on.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class TokenFiles
{
    // 2 GB of text is half a billion tokens: weeks of evaluation.
    private const int MaxLength = int.MaxValue - 64;

    /// <summary>Token lists from JSON: a list of lists of ids, or an object with such a list under <c>sequences</c>.</summary>
    /// <exception cref="InvalidDataException">It is something else; the message says where.</exception>
    public static int[][] ReadJson(string path) => ReadJson(RawFile.ReadAll(path, MaxLength), path);

    /// <summary>The same of bytes that were read already, such as those of a pipe.</summary>
    /// <param name="json">The bytes; a UTF-8 mark before them is dropped.</param>
    /// <param name="path">What messages call them.</param>
    /// <exception cref="InvalidDataException">It is something else; the message says where.</exception>
    public static int[][] ReadJson(ReadOnlyMemory<byte> json, string path)
    {
        ReadOnlyMemory<byte> bytes = WithoutMark(json);
        JsonText.RequireUtf8(bytes.Span, path);
        try
        {
            using var document =
                JsonDocument.Parse(bytes, new JsonDocumentOptions { MaxDepth = JsonText.MaxDepth, AllowDuplicateProperties = false });
            JsonElement list = document.RootElement;
            JsonText.RequireText(list);
            if (list.ValueKind == JsonValueKind.Object && !list.TryGetProperty("sequences", out list))
                throw BadFile.At(path, "the object has no 'sequences'; a list of lists of token ids was expected there.");
            if (list.ValueKind != JsonValueKind.Array)
                throw BadFile.At(path, $"the sequences are {JsonText.Kind(list)}; a list of lists of token ids was expected.");
            return [.. list.EnumerateArray().Select((sequence, b) => Ids(sequence, b, path))];
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw JsonText.NotJson(path, e);
        }
    }

    /// <summary>A UTF-8 text, cut into sequences: BOS, then <paramref name="length"/> − 1 tokens each; the last is shorter.</summary>
    /// <exception cref="InvalidDataException">It cannot be read, or is not UTF-8.</exception>
    public static int[][] ReadText(string path, GemmaTokenizer tokenizer, int length, Gemma2Config config)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(length, 2);
        return ReadText(RawFile.ReadAll(path, MaxLength), path, tokenizer, length, config);
    }

    /// <summary>The same of bytes that were read already, such as those of a pipe.</summary>
    /// <param name="text">The bytes; a UTF-8 mark before them is dropped.</param>
    /// <param name="path">What messages call them.</param>
    /// <param name="tokenizer">Cuts it.</param>
    /// <param name="length">Tokens of a sequence, BOS included; at least 2.</param>
    /// <param name="config">Of the model.</param>
    /// <exception cref="InvalidDataException">It is not UTF-8, or empty.</exception>
    public static int[][] ReadText(ReadOnlyMemory<byte> text, string path, GemmaTokenizer tokenizer, int length, Gemma2Config config)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(config);
        ArgumentOutOfRangeException.ThrowIfLessThan(length, 2);
        ReadOnlySpan<byte> bytes = WithoutMark(text).Span;
        if (!System.Text.Unicode.Utf8.IsValid(bytes))
            throw BadFile.At(path, "the text is not valid UTF-8.");
        var ids = new List<int>();
        tokenizer.Encode(System.Text.Encoding.UTF8.GetString(bytes), ids);
        if (ids.Count == 0)
            throw BadFile.At(path, "the text is empty.");
        return [.. ids.Chunk(length - 1).Select(chunk => (int[])[config.BosId, .. chunk])];
    }

    /// <summary>The mark that some editors put before UTF-8 is not text.</summary>
    private static ReadOnlyMemory<byte> WithoutMark(ReadOnlyMemory<byte> bytes) => bytes.Span.StartsWith("\uFEFF"u8) ? bytes[3..] : bytes;

    private static int[] Ids(JsonElement sequence, int b, string path)
    {
        if (sequence.ValueKind != JsonValueKind.Array)
            throw BadFile.At(path, $"sequence {b} is {JsonText.Kind(sequence)}; a list of token ids was expected.");
        int[] ids = new int[sequence.GetArrayLength()];
        int t = 0;
        foreach (JsonElement id in sequence.EnumerateArray())
        {
            if (id.ValueKind != JsonValueKind.Number || !id.TryGetInt32(out ids[t]))
                throw BadFile.At(path, $"sequence {b}, position {t}: {JsonText.Kind(id)} is not a token id.");
            t++;
        }

        return ids;
    }
}

using System.Globalization;
using System.Text.Json;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>Texts and ids in bulk: a JSON object on each line in, one on each line out, in the same order.</summary>
internal sealed class TokenizeLines(GemmaTokenizer tokenizer, Streams streams, CancellationToken cancellation)
{
    private const int BufferLength = 1 << 16;

    /// <summary>Answers every line of a file ('-': of standard input).</summary>
    /// <exception cref="WorkException">A line is not such an object; the answers to those before it have been written.</exception>
    public void Run(string path)
    {
        using Stream input = path == "-" ? streams.OpenInput()
            : new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, BufferLength);
        string name = path == "-" ? "standard input" : Printable.Escape(path);
        int number = 0;
        // Lines end at \n alone: U+2028 and the like may stand inside one, so TextReader would cut it.
        foreach (ReadOnlyMemory<byte> line in Lines(input))
        {
            cancellation.ThrowIfCancellationRequested();
            number++;
            // Only a file's first line can begin with the mark that some editors put before UTF-8.
            streams.Output.Write(Answer(number == 1 ? StandardText.WithoutMark(line) : line,
                $"{name}, line {number.ToString(CultureInfo.InvariantCulture)}"));
            streams.Output.Write('\n');
        }
    }

    private string Answer(ReadOnlyMemory<byte> line, string place)
    {
        StandardText.Check(line.Span, place);
        try
        {
            using JsonDocument document = JsonDocument.Parse(line, PromptFiles.JsonLine);
            JsonElement root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object)
                throw new WorkException($"{place}: an object with \"text\" or \"ids\" was expected.");
            bool hasText = root.TryGetProperty("text", out JsonElement text), hasIds = root.TryGetProperty("ids", out JsonElement ids);
            if (hasText == hasIds)
            {
                throw new WorkException(hasText ? $"{place}: both \"text\" and \"ids\" are there; one was expected."
                    : $"{place}: neither \"text\" nor \"ids\" is there.");
            }

            return hasText ? Encode(text, place) : Decode(ids, place);
        }
        catch (JsonException e)
        {
            throw new WorkException($"{place}: this is not a JSON object, or has a name twice ({Where(e)}).");
        }
        catch (InvalidOperationException)
        {
            // What System.Text.Json says of an escaped half of a surrogate pair.
            throw new WorkException($"{place}: there is half of a surrogate pair in it, which is not valid Unicode.");
        }
    }

    private string Encode(JsonElement text, string place)
    {
        if (text.ValueKind != JsonValueKind.String)
            throw new WorkException($"{place}: \"text\" is not a string.");
        int[] ids = tokenizer.Encode(text.GetString());
        return JsonOutput.Line(new TokenizeResult(ids, [.. ids.Select(tokenizer.Piece)]));
    }

    private string Decode(JsonElement list, string place)
    {
        if (list.ValueKind != JsonValueKind.Array)
            throw new WorkException($"{place}: \"ids\" is not a list.");
        int[] ids = new int[list.GetArrayLength()];
        int count = 0;
        foreach (JsonElement item in list.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt32(out int id))
                throw new WorkException($"{place}: \"ids\" holds something that is not a token id.");
            if (!tokenizer.Contains(id))
                throw new WorkException($"{place}: {TokenText.Missing(tokenizer, id)}");
            ids[count++] = id;
        }

        return JsonOutput.Line(new TextResult(tokenizer.Decode(ids)));
    }

    private static string Where(JsonException e) => e.BytePositionInLine is long at
        ? string.Create(CultureInfo.InvariantCulture, $"byte {at}") : "it is cut off";

    /// <summary>Lines without their ends; what follows the last \n is one only if it is not empty. A line is valid until the next is asked for.</summary>
    private static IEnumerable<ReadOnlyMemory<byte>> Lines(Stream input)
    {
        byte[] buffer = new byte[BufferLength];
        int start = 0, end = 0;
        while (true)
        {
            int length = buffer.AsSpan(start, end - start).IndexOf((byte)'\n');
            if (length >= 0)
            {
                yield return buffer.AsMemory(start, length);
                start += length + 1;
                continue;
            }

            buffer.AsSpan(start, end - start).CopyTo(buffer);
            end -= start;
            start = 0;
            if (end == buffer.Length)
                Array.Resize(ref buffer, checked(2 * buffer.Length));
            // A pipe may stay silent for long; a signal ends the wait.
            int read = StandardInput.Wait(() => input.Read(buffer, end, buffer.Length - end), StandardInput.Cancellation);
            if (read == 0)
                break;
            end += read;
        }

        if (end > 0)
            yield return buffer.AsMemory(0, end);
    }
}

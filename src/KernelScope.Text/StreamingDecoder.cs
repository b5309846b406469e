using System.Buffers;
using System.Runtime.InteropServices;
using System.Text;

namespace KernelScope.Text;

/// <summary>
/// Decodes ids as they come. A character that has not fully arrived is held back, so what was given out is never revised; all of it
/// together, with <see cref="Flush"/>, equals <see cref="GemmaTokenizer.Decode"/> of all ids. (With a <c>tokenizer.json</c>, where one
/// wrong
/// byte spoils its whole run of byte pieces, the run is held back until it ends.) For one text and one thread at a time.
/// </summary>
/// <remarks>For one caller at a time.</remarks>
/// <example>
/// <code>
/// var decoder = new StreamingDecoder(tokenizer);
/// foreach (int id in tokens)
///     Console.Write(decoder.Append(id));
/// Console.Write(decoder.Flush());
/// </code>
/// </example>
public sealed class StreamingDecoder
{
    private readonly GemmaTokenizer _tokenizer;
    private readonly ArrayBufferWriter<byte> _text = new();

    /// <summary>Bytes that may yet become a character: at most three and the newest, or a whole run.</summary>
    private readonly List<byte> _held = [];

    /// <summary>A decoder at the beginning of a text.</summary>
    public StreamingDecoder(GemmaTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        _tokenizer = tokenizer;
    }

    /// <summary>Takes the next id, and gives the text that is complete with it.</summary>
    /// <returns>What is certain now and was not before; often empty.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such id; the text goes on as if it had not come.</exception>
    public string Append(int id)
    {
        _tokenizer.CheckId(id);
        if (_tokenizer.TryGetByte(id, out byte value))
        {
            _held.Add(value);
            if (!_tokenizer.RunsAreWhole)
                _held.RemoveRange(0, Utf8Repair.Write(CollectionsMarshal.AsSpan(_held), complete: false, _text));
        }
        else
        {
            _tokenizer.WriteRun(_held, _text);
            _tokenizer.WriteText(id, _text);
        }

        return Take();
    }

    /// <summary>
    /// Ends the text: an unfinished character becomes U+FFFD, one for each byte. The decoder is then ready for another text.
    /// </summary>
    public string Flush()
    {
        _tokenizer.WriteRun(_held, _text);
        return Take();
    }

    private string Take()
    {
        string text = Encoding.UTF8.GetString(_text.WrittenSpan);
        _text.ResetWrittenCount();
        return text;
    }
}

using System.Buffers;
using System.Text;

namespace KernelScope.Text;

/// <summary>
/// Decodes ids as they come. A character that has not fully arrived is held back, so what was given out is never revised; all of it
/// together, with <see cref="Flush"/>, equals <see cref="GemmaTokenizer.Decode"/> of all ids.
/// </summary>
public sealed class StreamingDecoder
{
    private readonly GemmaTokenizer _tokenizer;
    private readonly ArrayBufferWriter<byte> _text = new();

    /// <summary>At most three bytes that may yet become a character, and the newest.</summary>
    private readonly byte[] _held = new byte[4];
    private int _heldCount;

    /// <summary>Begins a new text.</summary>
    public StreamingDecoder(GemmaTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        _tokenizer = tokenizer;
    }

    /// <summary>Takes the next id.</summary>
    /// <returns>What is certain now and was not before; often empty.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such id; the text goes on as if it had not come.</exception>
    public string Append(int id)
    {
        _tokenizer.CheckId(id);
        if (_tokenizer.TryGetByte(id, out byte value))
        {
            _held[_heldCount++] = value;
            Release(complete: false);
        }
        else
        {
            Release(complete: true);
            _tokenizer.WriteText(id, _text);
        }

        return Take();
    }

    /// <summary>Ends the text: an unfinished character becomes U+FFFD, one for each byte. The decoder is then ready for another text.</summary>
    public string Flush()
    {
        Release(complete: true);
        return Take();
    }

    private void Release(bool complete)
    {
        int used = Utf8Repair.Write(_held.AsSpan(0, _heldCount), complete, _text);
        _held.AsSpan(used, _heldCount - used).CopyTo(_held);
        _heldCount -= used;
    }

    private string Take()
    {
        string text = Encoding.UTF8.GetString(_text.WrittenSpan);
        _text.ResetWrittenCount();
        return text;
    }
}

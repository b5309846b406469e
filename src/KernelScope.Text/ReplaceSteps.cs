using System.Buffers;

namespace KernelScope.Text;

/// <summary>
/// Replacements of one text by another, one after the other; an empty pattern puts its text before a text that is not empty.
/// </summary>
internal sealed class ReplaceSteps(IReadOnlyList<(byte[] Pattern, byte[] Text)> steps)
{
    /// <summary>Spaces become U+2581, as sentencepiece has it.</summary>
    public static ReplaceSteps EscapeSpaces { get; } = new([(" "u8.ToArray(), "\u2581"u8.ToArray())]);

    /// <summary>U+2581 becomes a space.</summary>
    public static ReplaceSteps RestoreSpaces { get; } = new([("\u2581"u8.ToArray(), " "u8.ToArray())]);

    /// <summary>The result as an array of its own.</summary>
    public byte[] Apply(byte[] text)
    {
        byte[] rented = Apply(text, 0, out int length);
        byte[] result = rented[..length];
        ArrayPool<byte>.Shared.Return(rented);
        return result;
    }

    /// <summary>The result in an array of the shared pool, which the caller returns there.</summary>
    /// <param name="text">What is replaced in.</param>
    /// <param name="padding">How many bytes the array has beyond the result, at least.</param>
    /// <param name="length">Of the result.</param>
    /// <exception cref="ArgumentException">The result is too long for an array.</exception>
    public byte[] Apply(ReadOnlySpan<byte> text, int padding, out int length)
    {
        byte[]? previous = null;
        length = text.Length;
        foreach ((byte[] pattern, byte[] replacement) in steps)
        {
            byte[] next = Replace(text, pattern, replacement, padding, out length);
            if (previous is not null)
                ArrayPool<byte>.Shared.Return(previous);
            previous = next;
            text = next.AsSpan(0, length);
        }

        if (previous is null)
        {
            previous = Rent(length, padding);
            text.CopyTo(previous);
        }

        return previous;
    }

    private static byte[] Replace(ReadOnlySpan<byte> text, byte[] pattern, byte[] replacement, int padding, out int length)
    {
        if (pattern.Length == 0)
        {
            int before = text.IsEmpty ? 0 : replacement.Length;
            byte[] prepended = Rent((long)text.Length + before, padding);
            replacement.AsSpan(0, before).CopyTo(prepended);
            text.CopyTo(prepended.AsSpan(before));
            length = text.Length + before;
            return prepended;
        }

        byte[] result = Rent(text.Length + ((long)text.Count(pattern) * (replacement.Length - pattern.Length)), padding);
        length = 0;
        for (int found; (found = text.IndexOf(pattern)) >= 0; text = text[(found + pattern.Length)..])
        {
            text[..found].CopyTo(result.AsSpan(length));
            replacement.CopyTo(result.AsSpan(length + found));
            length += found + replacement.Length;
        }

        text.CopyTo(result.AsSpan(length));
        length += text.Length;
        return result;
    }

    private static byte[] Rent(long length, int padding) => length + padding <= Array.MaxLength
        ? ArrayPool<byte>.Shared.Rent((int)length + padding)
        : throw new ArgumentException($"A text of {length} bytes is too long to tokenize at once; split it.");
}

using System.Buffers;

namespace KernelScope.Text;

/// <summary>
/// Finds the longest of some symbols at a place in a text. The symbols are sorted, so those that share a prefix lie together; each
/// further byte of the text narrows the range. Time grows with the match, not with the number of symbols.
/// </summary>
internal sealed class SymbolMatcher
{
    private readonly byte[][] _texts;
    private readonly int[] _ids;
    private readonly SearchValues<byte> _firstBytes;

    /// <summary>Symbols whose first byte is b are <c>_texts[_first[b].._first[b + 1]]</c>.</summary>
    private readonly int[] _first = new int[257];

    /// <summary>Matches some symbols, none of them empty, each with the number that finding it gives.</summary>
    public SymbolMatcher(IEnumerable<(byte[] Text, int Id)> symbols)
    {
        List<(byte[] Text, int Id)> sorted = [.. symbols];
        sorted.Sort((a, b) => a.Text.AsSpan().SequenceCompareTo(b.Text));
        _texts = [.. sorted.Select(s => s.Text)];
        _ids = [.. sorted.Select(s => s.Id)];
        foreach (byte[] text in _texts)
            _first[text[0] + 1]++;
        for (int b = 0; b < 256; b++)
            _first[b + 1] += _first[b];
        _firstBytes = SearchValues.Create([.. _texts.Select(t => t[0]).Distinct()]);
    }

    /// <summary>The first place where a symbol may begin, or −1.</summary>
    public int NextCandidate(ReadOnlySpan<byte> text) => text.IndexOfAny(_firstBytes);

    /// <summary>The number of the longest symbol that <paramref name="text"/> begins with, or −1.</summary>
    public int LongestPrefix(ReadOnlySpan<byte> text)
    {
        int low = _first[text[0]], high = _first[text[0] + 1], found = -1;
        for (int depth = 1; low < high; depth++)
        {
            // The shortest of the range is its first: it is the prefix itself, if that is a symbol.
            if (_texts[low].Length == depth)
            {
                found = _ids[low++];
                if (low == high)
                    break;
            }

            if (depth == text.Length)
                break;
            (low, high) = Narrow(low, high, depth, text[depth]);
        }

        return found;
    }

    /// <summary>The part of a range, all longer than <paramref name="depth"/>, whose next byte is <paramref name="value"/>.</summary>
    private (int Low, int High) Narrow(int low, int high, int depth, byte value)
    {
        byte least = _texts[low][depth], most = _texts[high - 1][depth];
        if (value < least || value > most)
            return (low, low);
        if (least == most)
            return (low, high);
        int from = Bound(low, high, depth, value);
        return (from, Bound(from, high, depth, value + 1));
    }

    /// <summary>The first of the range whose next byte is at least <paramref name="value"/>.</summary>
    private int Bound(int low, int high, int depth, int value)
    {
        while (low < high)
        {
            int middle = low + ((high - low) / 2);
            if (_texts[middle][depth] < value)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }
}

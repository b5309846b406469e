namespace KernelScope.Text;

/// <summary>
/// Finds the longest user-defined symbol at a place in a text. The symbols are sorted, so those that share a prefix lie together; each
/// further byte of the text narrows the range. Time grows with the match, not with the number of symbols.
/// </summary>
internal sealed class SymbolMatcher
{
    private readonly PieceTable _pieces;
    private readonly int[] _sorted;

    /// <summary>Symbols whose first byte is b are <c>_sorted[_first[b].._first[b + 1]]</c>.</summary>
    private readonly int[] _first = new int[257];

    public SymbolMatcher(PieceTable pieces)
    {
        _pieces = pieces;
        var symbols = new List<int>();
        for (int id = 0; id < pieces.Count; id++)
        {
            if (pieces[id].Type == PieceType.UserDefined)
                symbols.Add(id);
        }

        symbols.Sort((a, b) => pieces.Utf8(a).SequenceCompareTo(pieces.Utf8(b)));
        _sorted = [.. symbols];
        foreach (int id in _sorted)
            _first[pieces.Utf8(id)[0] + 1]++;
        for (int b = 0; b < 256; b++)
            _first[b + 1] += _first[b];
    }

    /// <summary>The longest symbol that <paramref name="text"/> begins with, or −1.</summary>
    public int LongestPrefix(ReadOnlySpan<byte> text)
    {
        int low = _first[text[0]], high = _first[text[0] + 1], found = -1;
        for (int depth = 1; low < high; depth++)
        {
            // The shortest of the range is its first: it is the prefix itself, if that is a symbol.
            if (_pieces[_sorted[low]].Length == depth)
            {
                found = _sorted[low++];
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
        byte least = ByteAt(low, depth), most = ByteAt(high - 1, depth);
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
            if (ByteAt(middle, depth) < value)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }

    private byte ByteAt(int index, int depth) => _pieces.Utf8(_sorted[index])[depth];
}

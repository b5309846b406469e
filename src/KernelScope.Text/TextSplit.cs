namespace KernelScope.Text;

/// <summary>What a pre-tokenizer of type Split does with the pattern that it finds.</summary>
internal enum SplitBehavior
{
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

/// <summary>Cuts a text at a fixed pattern, as the pre-tokenizer Split of Hugging Face's tokenizers library does.</summary>
internal sealed record TextSplit(byte[] Pattern, SplitBehavior Behavior, bool Invert)
{
    /// <summary>The parts of one part of a text, in order, without empty ones.</summary>
    public IEnumerable<Range> Apply(byte[] text, int start, int end)
    {
        List<(int Start, int End, bool IsMatch)> pieces = [.. Pieces(text, start, end)];
        return (Behavior switch
        {
            SplitBehavior.Removed => pieces.Where(p => !p.IsMatch),
            SplitBehavior.Isolated => pieces,
            SplitBehavior.Contiguous => Joined(pieces, (before, piece) => before.IsMatch == piece.IsMatch),
            SplitBehavior.MergedWithPrevious => Joined(pieces, (before, piece) => piece.IsMatch && !before.IsMatch),
            _ => Joined(pieces, (before, piece) => before.IsMatch && !piece.IsMatch),
        }).Where(p => p.End > p.Start).Select(p => p.Start..p.End);
    }

    /// <summary>The places of the pattern, and what lies between.</summary>
    private IEnumerable<(int Start, int End, bool IsMatch)> Pieces(byte[] text, int start, int end)
    {
        for (int found; (found = text.AsSpan(start, end - start).IndexOf(Pattern)) >= 0; start += found + Pattern.Length)
        {
            if (found > 0)
                yield return (start, start + found, Invert);
            yield return (start + found, start + found + Pattern.Length, !Invert);
        }

        if (start < end)
            yield return (start, end, Invert);
    }

    /// <summary>Neighbours joined where a rule says so of a piece and the one right before it.</summary>
    private static IEnumerable<(int Start, int End, bool IsMatch)> Joined(List<(int Start, int End, bool IsMatch)> pieces,
        Func<(int Start, int End, bool IsMatch), (int Start, int End, bool IsMatch), bool> joins)
    {
        for (int i = 0; i < pieces.Count;)
        {
            int start = pieces[i].Start, last = i;
            while (last + 1 < pieces.Count && joins(pieces[last], pieces[last + 1]))
                last++;
            yield return (start, pieces[last].End, false);
            i = last + 1;
        }
    }
}

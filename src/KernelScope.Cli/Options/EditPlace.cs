using System.Globalization;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>Where edits act: <c>all</c>, <c>all_but_bos</c>, <c>from_last</c>, or a list of positions such as <c>0,3,5-9,12-</c>.</summary>
internal sealed class EditPlace
{
    private readonly string _word;
    private readonly List<(int First, int Last)> _ranges = [];

    private EditPlace(string word) => _word = word;

    /// <summary>The default.</summary>
    public static EditPlace AllButBos { get; } = new("all_but_bos");

    /// <summary>Reads it.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    public static EditPlace Parse(string text)
    {
        var place = new EditPlace(text);
        if (text is "all" or "all_but_bos" or "from_last")
            return place;
        foreach (string part in text.Split(','))
        {
            string[] ends = part.Trim().Split('-');
            if (ends.Length > 2 || !Number(ends[0], out int first))
                throw Malformed(text);
            int last = first;
            if (ends is [_, ""])
                last = int.MaxValue;
            else if (ends is [_, string end] && (!Number(end, out last) || last < first))
                throw Malformed(text);
            place._ranges.Add((first, last));
        }

        return place;
    }

    /// <summary>Refuses a position that no token will have.</summary>
    /// <param name="count">Number of positions that there can be.</param>
    /// <exception cref="WorkException">There is one.</exception>
    public void Check(int count)
    {
        foreach ((int first, int last) in _ranges)
        {
            int named = last == int.MaxValue ? first : last;
            if (named >= count)
                throw new WorkException($"--edit-at {_word} names position {named}; there are positions 0 to {count - 1}.");
        }
    }

    /// <summary>The positions.</summary>
    public Positions Of(int bosId, int promptLength)
    {
        if (_ranges.Count > 0)
            return Positions.InRanges(_ranges);
        return _word switch
        {
            "all" => Positions.All,
            "from_last" => Positions.From(promptLength - 1),
            _ => Positions.AllBut(bosId),
        };
    }

    public override string ToString() => _word;

    private static bool Number(string text, out int number) =>
        int.TryParse(text.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out number);

    private static UsageException Malformed(string text) => new($"'{Printable.Escape(text)}' is not a place for edits: there are all, " +
        "all_but_bos, from_last, and lists of positions such as 0,3,5-9 (12- is 12 and all after it).");
}

using KernelScope.Devices;

namespace KernelScope.Hooks;

/// <summary>The rows of one hook point. Room grows by doubling, so that a sequence that comes token by token is not copied at every token.</summary>
/// <param name="point">The hook point.</param>
/// <param name="expected">Rows for which room is made at once.</param>
internal sealed class CapturedRows(HookPoint point, int expected)
{
    private float[] _values = [];

    /// <summary>End of each row in <see cref="_values"/>, where rows differ in width; null where they do not.</summary>
    private readonly List<int>? _ends = HookPoint.IsOverKeys(point.Site) ? [] : null;

    /// <summary>Values in the last row.</summary>
    public int Width { get; private set; }

    /// <summary>Number of rows.</summary>
    public int Count { get; private set; }

    /// <summary>The position of the first row.</summary>
    public int FirstPosition { get; private set; }

    /// <summary>Heads of scores or patterns.</summary>
    public int Heads { get; private set; }

    /// <summary>All rows, one after the other.</summary>
    public ReadOnlySpan<float> Values => _values.AsSpan(0, End(Count));

    /// <summary>One row.</summary>
    public ReadOnlySpan<float> Row(int row)
    {
        if ((uint)row >= (uint)Count)
            throw new ArgumentOutOfRangeException(nameof(row), $"There is no row {row} at {point}: there " +
                $"{(Count == 1 ? "is 1 row, row 0" : Count == 0 ? "are no rows" : $"are {Count} rows, 0 to {Count - 1}")}.");
        return _values.AsSpan(End(row)..End(row + 1));
    }

    /// <summary>Adds a call's rows in place of those that the sequence no longer has.</summary>
    public void Take(HookCall call, Mat value)
    {
        Keep(Math.Max(0, call.Position - FirstPosition));
        if (Count == 0 || call.Position != FirstPosition + Count)
        {
            Keep(0);
            FirstPosition = call.Position;
        }

        int start = End(Count);
        long size = (long)value.Rows * value.Columns;
        if (start + size > Array.MaxLength)
            throw new InvalidOperationException($"{point} has more than {Array.MaxLength} values in {Count + value.Rows} rows, more " +
                "than can be captured at once; use a shorter text.");
        MakeRoom(start + (int)size, value.Columns);
        call.Device.Read(value, _values.AsSpan(start, (int)size));
        Width = value.Columns;
        Heads = call.HeadCount;
        for (int r = 1; _ends is not null && r <= value.Rows; r++)
            _ends.Add(start + (r * value.Columns));
        Count += value.Rows;
    }

    /// <summary>Keeps the first <paramref name="rows"/> rows at most.</summary>
    public void Keep(int rows)
    {
        if (rows >= Count)
            return;
        _ends?.RemoveRange(rows, Count - rows);
        Count = rows;
    }

    /// <summary>Scores or patterns as [heads, rows, rows]: what a row's call had no key for yet is masked.</summary>
    public float[] Square()
    {
        if (FirstPosition != 0)
            throw new InvalidOperationException($"{point} was captured from position {FirstPosition} on, so its rows have keys " +
                "without rows; read them one by one.");
        if ((long)Heads * Count * Count > Array.MaxLength)
            throw new InvalidOperationException($"{point} of {Count} tokens has more than {Array.MaxLength} values; read it row by row.");
        float[] square = new float[Heads * Count * Count];
        if (point.Site == Site.AttnScores)
            square.AsSpan().Fill(float.NegativeInfinity);
        for (int t = 0; t < Count; t++)
        {
            ReadOnlySpan<float> row = Row(t);
            int keys = row.Length / Heads, seen = Math.Min(keys, Count);
            for (int h = 0; h < Heads; h++)
                row.Slice(h * keys, seen).CopyTo(square.AsSpan(((h * Count) + t) * Count));
        }

        return square;
    }

    private int End(int row) => _ends is null ? row * Width : row == 0 ? 0 : _ends[row - 1];

    private void MakeRoom(int values, int width)
    {
        if (values <= _values.Length)
            return;
        long first = _ends is null ? (long)expected * width : 0;
        Array.Resize(ref _values, (int)Math.Min(Array.MaxLength, Math.Max(Math.Max(values, first), 2L * _values.Length)));
    }
}

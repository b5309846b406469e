namespace KernelScope.Conformance.Ops;

/// <summary>
/// What an error of attention is divided by: the largest visible |v| times 1 + 2(scale·‖q‖·‖k‖ + cap). Columns of one row and head are asked
/// for one after the other, so the last row and head are kept: thousands of keys are read once for each, not once a column.
/// </summary>
/// <param name="c">The case.</param>
/// <param name="cache">Its keys and values.</param>
/// <param name="q">The queries.</param>
/// <param name="firstRow">The sequence's first row of <paramref name="q"/>.</param>
internal sealed class AttendSizes(AttendCases.Setup c, TrialCache cache, TrialMatrix q, int firstRow)
{
    private readonly double[] _keyNorms = [.. Enumerable.Repeat(-1.0, cache.Keys.Rows)];
    private readonly double[] _values = new double[c.HeadDim];
    private (int Row, int Head) _last = (-1, -1);
    private double _scores;

    /// <summary>For column <paramref name="column"/> of the sequence's row <paramref name="r"/>.</summary>
    public double this[int r, int column]
    {
        get
        {
            int head = column / c.HeadDim;
            if (_last != (r, head))
                Find(r, head);
            return _values[column % c.HeadDim] * (1 + (2 * _scores));
        }
    }

    private void Find(int r, int head)
    {
        _last = (r, head);
        Array.Clear(_values);
        double key = 0;
        for (int p = AttendCases.FirstKey(c, c.Position + r); p <= c.Position + r; p++)
        {
            int row = cache.RowOf(head / (c.Heads / c.KvHeads), p);
            key = Math.Max(key, KeyNorm(row));
            for (int i = 0; i < c.HeadDim; i++)
                _values[i] = Math.Max(_values[i], Math.Abs((double)cache.At(cache.Values, row, i)));
        }

        double query = 0;
        for (int i = 0; i < c.HeadDim; i++)
            query += Math.Pow(q[firstRow + r, (head * c.HeadDim) + i], 2);
        _scores = (c.Scale * Math.Sqrt(query) * key) + c.Cap;
    }

    private double KeyNorm(int row)
    {
        if (!(_keyNorms[row] >= 0))
            _keyNorms[row] = cache.NormOfKey(row);
        return _keyNorms[row];
    }
}

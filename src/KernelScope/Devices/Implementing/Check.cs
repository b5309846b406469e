namespace KernelScope.Devices;

/// <summary>The shape checks of <see cref="Device"/>: nanoseconds each, and a wrong kernel is a day.</summary>
internal static class Check
{
    public static void Shape(Mat x, int rows, int columns)
    {
        if (x.Rows != rows || x.Columns != columns)
            throw new ArgumentException($"{x} should be [{rows}, {columns}].");
    }

    public static void SameShape(Mat x, Mat y)
    {
        if (x.Rows != y.Rows || x.Columns != y.Columns)
            throw new ArgumentException($"{x} and {y} should have one shape.");
    }

    public static void Length(int length, Mat x)
    {
        if (length != (long)x.Rows * x.Columns)
            throw new ArgumentException($"{x} does not hold {length} values.");
    }

    public static void Positions(int position, int rows, int limit)
    {
        if (position < 0 || (long)position + rows > limit)
            throw new ArgumentOutOfRangeException(nameof(position), $"Positions {position} to {(long)position + rows - 1} are outside 0 " +
                $"to {limit - 1}.");
    }

    public static void Sequences(ReadOnlySpan<SequenceRows> sequences, Mat x)
    {
        int end = 0;
        foreach (SequenceRows s in sequences)
        {
            if (s.Cache is null || s.RowCount <= 0 || s.FirstRow < end || s.RowCount > x.Rows - s.FirstRow)
                throw new ArgumentException($"{s} is not a run of rows of {x} behind row {end - 1}.", nameof(sequences));
            if ((s.Cache.KvHeadCount, s.Cache.HeadDim, s.Cache.Type)
                != (sequences[0].Cache.KvHeadCount, sequences[0].Cache.HeadDim, sequences[0].Cache.Type))
                throw new ArgumentException($"{s} has another number, size or type of heads than the first sequence.", nameof(sequences));
            end = s.FirstRow + s.RowCount;
        }
    }

    public static void Lists(SparseCodes codes, int first, int count)
    {
        if (first < 0 || first > codes.Rows - count)
            throw new ArgumentOutOfRangeException(nameof(first), $"Lists {first} to {(long)first + count - 1} are outside " +
                $"'{codes.Name}', which has {codes.Rows}.");
    }

    public static void Features(SparseCodes codes, SaeParameters sae)
    {
        if (codes.FeatureCount != sae.FeatureCount)
            throw new ArgumentException($"'{codes.Name}' is for {codes.FeatureCount} features; the SAE has {sae.FeatureCount}.");
    }
}

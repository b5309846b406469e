namespace KernelScope.Conformance;

/// <summary>Sizes that kernels trip over: below, at and above the widths of vectors, warps and tiles, and of real heads and models.</summary>
internal sealed record Shapes(ConformanceScale Scale, int[] Sizes, int[] Rows, long MaxWork)
{
    public static Shapes For(ConformanceScale scale) => scale == ConformanceScale.Tiny
        ? new(scale, [1, 2, 3, 7, 8, 9, 16, 17, 33, 65], [1, 3, 8, 17], 20_000)
        : new(scale, [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 224, 255, 256, 257, 300],
            [1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 32, 33, 64, 65, 128, 130], 2_000_000);

    public bool IsTiny => Scale == ConformanceScale.Tiny;

    public bool IsLarge => Scale == ConformanceScale.Large;

    /// <summary>A size by turn; turns may pass the end.</summary>
    public int Size(int turn) => Sizes[turn % Sizes.Length];

    /// <summary>A number of rows by turn, small enough that rows · <paramref name="workOfRow"/> stays within the scale.</summary>
    public int RowsFor(int turn, long workOfRow)
    {
        int rows = Rows[turn % Rows.Length];
        return (int)Math.Clamp(MaxWork / Math.Max(1, workOfRow), 1, rows);
    }
}

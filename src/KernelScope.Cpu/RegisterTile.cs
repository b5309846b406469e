using System.Runtime.CompilerServices;

namespace KernelScope.Cpu;

/// <summary>The innermost loop of a matrix product: a tile of c, 12, 8 or 6 rows by two vectors, lives in registers while the inputs pass by.</summary>
/// <remarks>
/// Equation: c[m, n] (+)= Σ_i a[i, m]·b[i, n], one multiply-add after the other in the order of i. a is packed by rows of the tile ([depth][rows]);
/// b's rows are <c>bStride</c> apart. This is the micro-kernel of Goto and van de Geijn's product; blocks of weights (NC by KC there) and of rows (MC) are <see cref="ProductPlan"/>'s. Flops: 2·rows·2·lanes for each input, with rows + 2 loads.
/// </remarks>
internal static unsafe class RegisterTile<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>Columns of a tile.</summary>
    public static int Columns => 2 * S.Lanes;

    /// <summary>Rows of the tile that takes <paramref name="rows"/> rows: 6, or 8 or 12 where the registers hold them.</summary>
    public static int Height(int rows) => rows <= 6 ? 6 : Math.Min(rows <= 8 ? 8 : 12, S.TileRows);

    /// <summary>Packs up to a tile's number of rows for <see cref="Run"/>: their values side by side for each column, zeros for rows that are missing.</summary>
    /// <remarks>A cache line of every row at a time: the destination is then written line by line too.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackRows(float* x, long stride, int rows, int columns, float* packed)
    {
        int height = Height(rows);
        int whole = columns / S.Lanes * S.Lanes;
        for (int i = 0; i < whole; i += S.Lanes)
        {
            int m = 0;
            for (; m + 4 <= rows; m += 4)
                S.TurnFour(x + (m * stride) + i, stride, packed + ((long)i * height) + m, height);
            PackEdge(x + i, stride, m, rows, S.Lanes, packed + ((long)i * height), height);
        }

        PackEdge(x + whole, stride, 0, rows, columns - whole, packed + ((long)whole * height), height);
    }

    private static void PackEdge(float* x, long stride, int firstRow, int rows, int columns, float* packed, int height)
    {
        for (int m = firstRow; m < height; m++)
        {
            for (int i = 0; i < columns; i++)
                packed[(i * height) + m] = m < rows ? x[(m * stride) + i] : 0;
        }
    }

    /// <summary>Computes a tile of which only some rows and columns exist in c: <paramref name="columns"/> columns behind the first <paramref name="skip"/>. With <paramref name="apart"/>, sums are made from 0 and then added.</summary>
    public static void Run(int height, int rows, int skip, int columns, int depth, float* a, float* b, long bStride, float* c, long stride,
        bool add, bool apart = false)
    {
        if (rows == height && columns == Columns)
        {
            Whole(height, depth, a, b, bStride, c, stride, add, apart);
            return;
        }

        float* whole = stackalloc float[12 * 32];
        for (int m = 0; m < rows && add; m++)
            new ReadOnlySpan<float>(c + (m * stride), columns).CopyTo(new Span<float>(whole + (m * Columns) + skip, columns));
        Whole(height, depth, a, b, bStride, whole, Columns, add, apart);
        for (int m = 0; m < rows; m++)
            new ReadOnlySpan<float>(whole + (m * Columns) + skip, columns).CopyTo(new Span<float>(c + (m * stride), columns));
    }

    private static void Whole(int height, int depth, float* a, float* b, long bStride, float* c, long stride, bool add, bool apart)
    {
        if (height == 12)
            Tile<TwelveRows>(depth, a, b, bStride, c, stride, add && !apart, add && apart);
        else if (height == 8)
            Tile<EightRows>(depth, a, b, bStride, c, stride, add && !apart, add && apart);
        else
            Tile<SixRows>(depth, a, b, bStride, c, stride, add && !apart, add && apart);
    }

    // c_mn: row m of the tile, vector n. They start from c, so an element's sum does not depend on how the inputs are cut, or join it at the end. Branches on T.Rows vanish.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Tile<T>(int depth, float* a, float* b, long bStride, float* c, long stride, bool from, bool join)
        where T : struct, IRowCount
    {
        V c00 = default, c01 = default, c10 = default, c11 = default, c20 = default, c21 = default;
        V c30 = default, c31 = default, c40 = default, c41 = default, c50 = default, c51 = default;
        V c60 = default, c61 = default, c70 = default, c71 = default, c80 = default, c81 = default;
        V c90 = default, c91 = default, cA0 = default, cA1 = default, cB0 = default, cB1 = default;
        if (from)
        {
            float* row = c;
            Load(row, out c00, out c01);
            Load(row += stride, out c10, out c11);
            Load(row += stride, out c20, out c21);
            Load(row += stride, out c30, out c31);
            Load(row += stride, out c40, out c41);
            Load(row += stride, out c50, out c51);
            if (T.Rows > 6)
            {
                Load(row += stride, out c60, out c61);
                Load(row += stride, out c70, out c71);
            }

            if (T.Rows > 8)
            {
                Load(row += stride, out c80, out c81);
                Load(row += stride, out c90, out c91);
                Load(row += stride, out cA0, out cA1);
                Load(row += stride, out cB0, out cB1);
            }
        }

        for (int i = 0; i < depth; i++)
        {
            V b0 = S.Load(b), b1 = S.Load(b + S.Lanes);
            Add(a[0], b0, b1, ref c00, ref c01);
            Add(a[1], b0, b1, ref c10, ref c11);
            Add(a[2], b0, b1, ref c20, ref c21);
            Add(a[3], b0, b1, ref c30, ref c31);
            Add(a[4], b0, b1, ref c40, ref c41);
            Add(a[5], b0, b1, ref c50, ref c51);
            if (T.Rows > 6)
            {
                Add(a[6], b0, b1, ref c60, ref c61);
                Add(a[7], b0, b1, ref c70, ref c71);
            }

            if (T.Rows > 8)
            {
                Add(a[8], b0, b1, ref c80, ref c81);
                Add(a[9], b0, b1, ref c90, ref c91);
                Add(a[10], b0, b1, ref cA0, ref cA1);
                Add(a[11], b0, b1, ref cB0, ref cB1);
            }

            a += T.Rows;
            b += bStride;
        }

        float* y = c;
        Store(c00, c01, y, join);
        Store(c10, c11, y += stride, join);
        Store(c20, c21, y += stride, join);
        Store(c30, c31, y += stride, join);
        Store(c40, c41, y += stride, join);
        Store(c50, c51, y += stride, join);
        if (T.Rows > 6)
        {
            Store(c60, c61, y += stride, join);
            Store(c70, c71, y += stride, join);
        }

        if (T.Rows > 8)
        {
            Store(c80, c81, y += stride, join);
            Store(c90, c91, y += stride, join);
            Store(cA0, cA1, y += stride, join);
            Store(cB0, cB1, y += stride, join);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Load(float* row, out V c0, out V c1)
    {
        c0 = S.Load(row);
        c1 = S.Load(row + S.Lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add(float a, V b0, V b1, ref V c0, ref V c1)
    {
        V u = S.All(a);
        c0 = S.MultiplyAdd(u, b0, c0);
        c1 = S.MultiplyAdd(u, b1, c1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(V c0, V c1, float* row, bool join)
    {
        S.Store(join ? S.Add(S.Load(row), c0) : c0, row);
        S.Store(join ? S.Add(S.Load(row + S.Lanes), c1) : c1, row + S.Lanes);
    }
}

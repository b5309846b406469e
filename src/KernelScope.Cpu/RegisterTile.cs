using System.Runtime.CompilerServices;

namespace KernelScope.Cpu;

/// <summary>The innermost loop of a matrix product: a tile of c, 12, 8 or 6 rows by two vectors, lives in registers while the inputs pass by.</summary>
/// <remarks>
/// Equation: c[m, n] (+)= Σ_i a[i, m]·b[i, n], one multiply-add after the other in the order of i. a is packed by rows of the tile ([depth][rows]);
/// b's rows are <c>bStride</c> apart. Flops: 2·rows·2·lanes for each input, with rows + 2 loads.
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

    /// <summary>Computes a tile of which only some rows and columns exist in c: <paramref name="columns"/> columns behind the first <paramref name="skip"/>.</summary>
    public static void Run(int height, int rows, int skip, int columns, int depth, float* a, float* b, long bStride, float* c, long stride, bool add)
    {
        if (rows == height && columns == Columns)
        {
            Whole(height, depth, a, b, bStride, c, stride, add);
            return;
        }

        float* whole = stackalloc float[12 * 32];
        for (int m = 0; m < rows && add; m++)
            new ReadOnlySpan<float>(c + (m * stride), columns).CopyTo(new Span<float>(whole + (m * Columns) + skip, columns));
        Whole(height, depth, a, b, bStride, whole, Columns, add);
        for (int m = 0; m < rows; m++)
            new ReadOnlySpan<float>(whole + (m * Columns) + skip, columns).CopyTo(new Span<float>(c + (m * stride), columns));
    }

    private static void Whole(int height, int depth, float* a, float* b, long bStride, float* c, long stride, bool add)
    {
        if (height == 12)
            Tile12(depth, a, b, bStride, c, stride, add);
        else if (height == 8)
            Tile8(depth, a, b, bStride, c, stride, add);
        else
            Tile6(depth, a, b, bStride, c, stride, add);
    }

    // c_mn: row m of the tile, vector n. The accumulators start from c, so an element's sum does not depend on how the inputs are cut.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile12(int depth, float* a, float* b, long bStride, float* c, long stride, bool add)
    {
        V c00 = default, c01 = default;
        V c10 = default, c11 = default;
        V c20 = default, c21 = default;
        V c30 = default, c31 = default;
        V c40 = default, c41 = default;
        V c50 = default, c51 = default;
        V c60 = default, c61 = default;
        V c70 = default, c71 = default;
        V c80 = default, c81 = default;
        V c90 = default, c91 = default;
        V cA0 = default, cA1 = default;
        V cB0 = default, cB1 = default;
        if (add)
        {
            float* row = c;
            c00 = S.Load(row);
            c01 = S.Load(row + S.Lanes);
            row += stride;
            c10 = S.Load(row);
            c11 = S.Load(row + S.Lanes);
            row += stride;
            c20 = S.Load(row);
            c21 = S.Load(row + S.Lanes);
            row += stride;
            c30 = S.Load(row);
            c31 = S.Load(row + S.Lanes);
            row += stride;
            c40 = S.Load(row);
            c41 = S.Load(row + S.Lanes);
            row += stride;
            c50 = S.Load(row);
            c51 = S.Load(row + S.Lanes);
            row += stride;
            c60 = S.Load(row);
            c61 = S.Load(row + S.Lanes);
            row += stride;
            c70 = S.Load(row);
            c71 = S.Load(row + S.Lanes);
            row += stride;
            c80 = S.Load(row);
            c81 = S.Load(row + S.Lanes);
            row += stride;
            c90 = S.Load(row);
            c91 = S.Load(row + S.Lanes);
            row += stride;
            cA0 = S.Load(row);
            cA1 = S.Load(row + S.Lanes);
            row += stride;
            cB0 = S.Load(row);
            cB1 = S.Load(row + S.Lanes);
        }

        for (int i = 0; i < depth; i++)
        {
            V b0 = S.Load(b), b1 = S.Load(b + S.Lanes);
            V u;
            u = S.All(a[0]);
            c00 = S.MultiplyAdd(u, b0, c00);
            c01 = S.MultiplyAdd(u, b1, c01);
            u = S.All(a[1]);
            c10 = S.MultiplyAdd(u, b0, c10);
            c11 = S.MultiplyAdd(u, b1, c11);
            u = S.All(a[2]);
            c20 = S.MultiplyAdd(u, b0, c20);
            c21 = S.MultiplyAdd(u, b1, c21);
            u = S.All(a[3]);
            c30 = S.MultiplyAdd(u, b0, c30);
            c31 = S.MultiplyAdd(u, b1, c31);
            u = S.All(a[4]);
            c40 = S.MultiplyAdd(u, b0, c40);
            c41 = S.MultiplyAdd(u, b1, c41);
            u = S.All(a[5]);
            c50 = S.MultiplyAdd(u, b0, c50);
            c51 = S.MultiplyAdd(u, b1, c51);
            u = S.All(a[6]);
            c60 = S.MultiplyAdd(u, b0, c60);
            c61 = S.MultiplyAdd(u, b1, c61);
            u = S.All(a[7]);
            c70 = S.MultiplyAdd(u, b0, c70);
            c71 = S.MultiplyAdd(u, b1, c71);
            u = S.All(a[8]);
            c80 = S.MultiplyAdd(u, b0, c80);
            c81 = S.MultiplyAdd(u, b1, c81);
            u = S.All(a[9]);
            c90 = S.MultiplyAdd(u, b0, c90);
            c91 = S.MultiplyAdd(u, b1, c91);
            u = S.All(a[10]);
            cA0 = S.MultiplyAdd(u, b0, cA0);
            cA1 = S.MultiplyAdd(u, b1, cA1);
            u = S.All(a[11]);
            cB0 = S.MultiplyAdd(u, b0, cB0);
            cB1 = S.MultiplyAdd(u, b1, cB1);
            a += 12;
            b += bStride;
        }

        float* y = c;
        S.Store(c00, y);
        S.Store(c01, y + S.Lanes);
        y += stride;
        S.Store(c10, y);
        S.Store(c11, y + S.Lanes);
        y += stride;
        S.Store(c20, y);
        S.Store(c21, y + S.Lanes);
        y += stride;
        S.Store(c30, y);
        S.Store(c31, y + S.Lanes);
        y += stride;
        S.Store(c40, y);
        S.Store(c41, y + S.Lanes);
        y += stride;
        S.Store(c50, y);
        S.Store(c51, y + S.Lanes);
        y += stride;
        S.Store(c60, y);
        S.Store(c61, y + S.Lanes);
        y += stride;
        S.Store(c70, y);
        S.Store(c71, y + S.Lanes);
        y += stride;
        S.Store(c80, y);
        S.Store(c81, y + S.Lanes);
        y += stride;
        S.Store(c90, y);
        S.Store(c91, y + S.Lanes);
        y += stride;
        S.Store(cA0, y);
        S.Store(cA1, y + S.Lanes);
        y += stride;
        S.Store(cB0, y);
        S.Store(cB1, y + S.Lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile8(int depth, float* a, float* b, long bStride, float* c, long stride, bool add)
    {
        V c00 = default, c01 = default;
        V c10 = default, c11 = default;
        V c20 = default, c21 = default;
        V c30 = default, c31 = default;
        V c40 = default, c41 = default;
        V c50 = default, c51 = default;
        V c60 = default, c61 = default;
        V c70 = default, c71 = default;
        if (add)
        {
            float* row = c;
            c00 = S.Load(row);
            c01 = S.Load(row + S.Lanes);
            row += stride;
            c10 = S.Load(row);
            c11 = S.Load(row + S.Lanes);
            row += stride;
            c20 = S.Load(row);
            c21 = S.Load(row + S.Lanes);
            row += stride;
            c30 = S.Load(row);
            c31 = S.Load(row + S.Lanes);
            row += stride;
            c40 = S.Load(row);
            c41 = S.Load(row + S.Lanes);
            row += stride;
            c50 = S.Load(row);
            c51 = S.Load(row + S.Lanes);
            row += stride;
            c60 = S.Load(row);
            c61 = S.Load(row + S.Lanes);
            row += stride;
            c70 = S.Load(row);
            c71 = S.Load(row + S.Lanes);
        }

        for (int i = 0; i < depth; i++)
        {
            V b0 = S.Load(b), b1 = S.Load(b + S.Lanes);
            V u;
            u = S.All(a[0]);
            c00 = S.MultiplyAdd(u, b0, c00);
            c01 = S.MultiplyAdd(u, b1, c01);
            u = S.All(a[1]);
            c10 = S.MultiplyAdd(u, b0, c10);
            c11 = S.MultiplyAdd(u, b1, c11);
            u = S.All(a[2]);
            c20 = S.MultiplyAdd(u, b0, c20);
            c21 = S.MultiplyAdd(u, b1, c21);
            u = S.All(a[3]);
            c30 = S.MultiplyAdd(u, b0, c30);
            c31 = S.MultiplyAdd(u, b1, c31);
            u = S.All(a[4]);
            c40 = S.MultiplyAdd(u, b0, c40);
            c41 = S.MultiplyAdd(u, b1, c41);
            u = S.All(a[5]);
            c50 = S.MultiplyAdd(u, b0, c50);
            c51 = S.MultiplyAdd(u, b1, c51);
            u = S.All(a[6]);
            c60 = S.MultiplyAdd(u, b0, c60);
            c61 = S.MultiplyAdd(u, b1, c61);
            u = S.All(a[7]);
            c70 = S.MultiplyAdd(u, b0, c70);
            c71 = S.MultiplyAdd(u, b1, c71);
            a += 8;
            b += bStride;
        }

        float* y = c;
        S.Store(c00, y);
        S.Store(c01, y + S.Lanes);
        y += stride;
        S.Store(c10, y);
        S.Store(c11, y + S.Lanes);
        y += stride;
        S.Store(c20, y);
        S.Store(c21, y + S.Lanes);
        y += stride;
        S.Store(c30, y);
        S.Store(c31, y + S.Lanes);
        y += stride;
        S.Store(c40, y);
        S.Store(c41, y + S.Lanes);
        y += stride;
        S.Store(c50, y);
        S.Store(c51, y + S.Lanes);
        y += stride;
        S.Store(c60, y);
        S.Store(c61, y + S.Lanes);
        y += stride;
        S.Store(c70, y);
        S.Store(c71, y + S.Lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile6(int depth, float* a, float* b, long bStride, float* c, long stride, bool add)
    {
        V c00 = default, c01 = default;
        V c10 = default, c11 = default;
        V c20 = default, c21 = default;
        V c30 = default, c31 = default;
        V c40 = default, c41 = default;
        V c50 = default, c51 = default;
        if (add)
        {
            float* row = c;
            c00 = S.Load(row);
            c01 = S.Load(row + S.Lanes);
            row += stride;
            c10 = S.Load(row);
            c11 = S.Load(row + S.Lanes);
            row += stride;
            c20 = S.Load(row);
            c21 = S.Load(row + S.Lanes);
            row += stride;
            c30 = S.Load(row);
            c31 = S.Load(row + S.Lanes);
            row += stride;
            c40 = S.Load(row);
            c41 = S.Load(row + S.Lanes);
            row += stride;
            c50 = S.Load(row);
            c51 = S.Load(row + S.Lanes);
        }

        for (int i = 0; i < depth; i++)
        {
            V b0 = S.Load(b), b1 = S.Load(b + S.Lanes);
            V u;
            u = S.All(a[0]);
            c00 = S.MultiplyAdd(u, b0, c00);
            c01 = S.MultiplyAdd(u, b1, c01);
            u = S.All(a[1]);
            c10 = S.MultiplyAdd(u, b0, c10);
            c11 = S.MultiplyAdd(u, b1, c11);
            u = S.All(a[2]);
            c20 = S.MultiplyAdd(u, b0, c20);
            c21 = S.MultiplyAdd(u, b1, c21);
            u = S.All(a[3]);
            c30 = S.MultiplyAdd(u, b0, c30);
            c31 = S.MultiplyAdd(u, b1, c31);
            u = S.All(a[4]);
            c40 = S.MultiplyAdd(u, b0, c40);
            c41 = S.MultiplyAdd(u, b1, c41);
            u = S.All(a[5]);
            c50 = S.MultiplyAdd(u, b0, c50);
            c51 = S.MultiplyAdd(u, b1, c51);
            a += 6;
            b += bStride;
        }

        float* y = c;
        S.Store(c00, y);
        S.Store(c01, y + S.Lanes);
        y += stride;
        S.Store(c10, y);
        S.Store(c11, y + S.Lanes);
        y += stride;
        S.Store(c20, y);
        S.Store(c21, y + S.Lanes);
        y += stride;
        S.Store(c30, y);
        S.Store(c31, y + S.Lanes);
        y += stride;
        S.Store(c40, y);
        S.Store(c41, y + S.Lanes);
        y += stride;
        S.Store(c50, y);
        S.Store(c51, y + S.Lanes);
    }
}

using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KernelScope.Attribution;

/// <summary>Small matrix products in double, four lanes of 256 bits on every machine, each element's sum in one fixed order.</summary>
/// <remarks>Columns that vectors lie along are padded to multiples of <see cref="Lanes"/> by the caller.</remarks>
internal static unsafe class DoubleTiles
{
    public const int Lanes = 4;

    /// <summary>The next multiple of <see cref="Lanes"/>.</summary>
    public static int Padded(int count) => (count + Lanes - 1) / Lanes * Lanes;

    /// <summary>c[i, j] = Σ_d a[i, d]·b[j, d] over <paramref name="depth"/> padded values; rows of a and b are as far apart.</summary>
    public static void Dots(double* a, int rows, double* b, int columns, int depth, double* c, long stride)
    {
        for (int j = 0; j < columns; j += 2)
        {
            for (int i = 0; i < rows; i += 4)
            {
                if (rows - i >= 4 && columns - j >= 2)
                    Dots4x2(a + ((long)i * depth), b + ((long)j * depth), depth, c + (i * stride) + j, stride);
                else
                    DotsEdge(a + ((long)i * depth), Math.Min(4, rows - i), b + ((long)j * depth), Math.Min(2, columns - j),
                        depth, c + (i * stride) + j, stride);
            }
        }
    }

    /// <summary>c[i, :] += Σ_j a(i, j)·b[j, :] with a(i, j) at a + i·<paramref name="aRow"/> + j·<paramref name="aColumn"/>; rows of b and c have <paramref name="columns"/> padded values.</summary>
    public static void Mix(double* a, long aRow, long aColumn, int rows, double* b, int depth, double* c, int columns)
    {
        for (int i = 0; i < rows; i += 4)
        {
            int d = 0;
            for (; rows - i >= 4 && d + (2 * Lanes) <= columns; d += 2 * Lanes)
                Mix4x2(a + (i * aRow), aRow, aColumn, b + d, depth, c + ((long)i * columns) + d, columns);
            for (; d < columns; d += Lanes)
            {
                for (int r = i; r < Math.Min(rows, i + 4); r++)
                    MixEdge(a + (r * aRow), aColumn, b + d, depth, c + ((long)r * columns) + d, columns);
            }
        }
    }

    // The edge sums as the tile does, so that an element does not depend on where it falls.
    private static void DotsEdge(double* a, int rows, double* b, int columns, int depth, double* c, long stride)
    {
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                Vector256<double> sum = default;
                for (int d = 0; d < depth; d += Lanes)
                    sum = Vector256.FusedMultiplyAdd(Vector256.Load(a + ((long)i * depth) + d), Vector256.Load(b + ((long)j * depth) + d),
                        sum);
                c[(i * stride) + j] = Vector256.Sum(sum);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots4x2(double* a, double* b, int depth, double* c, long stride)
    {
        double* a1 = a + depth, a2 = a1 + depth, a3 = a2 + depth, b1 = b + depth;
        Vector256<double> c00 = default, c01 = default, c10 = default, c11 = default, c20 = default, c21 = default, c30 = default,
            c31 = default;
        for (int d = 0; d < depth; d += Lanes)
        {
            Vector256<double> x = Vector256.Load(b + d), y = Vector256.Load(b1 + d), row = Vector256.Load(a + d);
            c00 = Vector256.FusedMultiplyAdd(row, x, c00);
            c01 = Vector256.FusedMultiplyAdd(row, y, c01);
            row = Vector256.Load(a1 + d);
            c10 = Vector256.FusedMultiplyAdd(row, x, c10);
            c11 = Vector256.FusedMultiplyAdd(row, y, c11);
            row = Vector256.Load(a2 + d);
            c20 = Vector256.FusedMultiplyAdd(row, x, c20);
            c21 = Vector256.FusedMultiplyAdd(row, y, c21);
            row = Vector256.Load(a3 + d);
            c30 = Vector256.FusedMultiplyAdd(row, x, c30);
            c31 = Vector256.FusedMultiplyAdd(row, y, c31);
        }

        (c[0], c[1]) = (Vector256.Sum(c00), Vector256.Sum(c01));
        (c[stride], c[stride + 1]) = (Vector256.Sum(c10), Vector256.Sum(c11));
        (c[2 * stride], c[(2 * stride) + 1]) = (Vector256.Sum(c20), Vector256.Sum(c21));
        (c[3 * stride], c[(3 * stride) + 1]) = (Vector256.Sum(c30), Vector256.Sum(c31));
    }

    private static void MixEdge(double* a, long aColumn, double* b, int depth, double* c, long bStride)
    {
        Vector256<double> sum = Vector256.Load(c);
        for (int j = 0; j < depth; j++)
            sum = Vector256.FusedMultiplyAdd(Vector256.Create(a[j * aColumn]), Vector256.Load(b + (j * bStride)), sum);
        sum.Store(c);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Mix4x2(double* a, long aRow, long aColumn, double* b, int depth, double* c, int columns)
    {
        double* c1 = c + columns, c2 = c1 + columns, c3 = c2 + columns;
        Vector256<double> c00 = Vector256.Load(c), c01 = Vector256.Load(c + Lanes), c10 = Vector256.Load(c1),
            c11 = Vector256.Load(c1 + Lanes);
        Vector256<double> c20 = Vector256.Load(c2), c21 = Vector256.Load(c2 + Lanes), c30 = Vector256.Load(c3),
            c31 = Vector256.Load(c3 + Lanes);
        for (int j = 0; j < depth; j++)
        {
            Vector256<double> x = Vector256.Load(b), y = Vector256.Load(b + Lanes), factor = Vector256.Create(a[0]);
            c00 = Vector256.FusedMultiplyAdd(factor, x, c00);
            c01 = Vector256.FusedMultiplyAdd(factor, y, c01);
            factor = Vector256.Create(a[aRow]);
            c10 = Vector256.FusedMultiplyAdd(factor, x, c10);
            c11 = Vector256.FusedMultiplyAdd(factor, y, c11);
            factor = Vector256.Create(a[2 * aRow]);
            c20 = Vector256.FusedMultiplyAdd(factor, x, c20);
            c21 = Vector256.FusedMultiplyAdd(factor, y, c21);
            factor = Vector256.Create(a[3 * aRow]);
            c30 = Vector256.FusedMultiplyAdd(factor, x, c30);
            c31 = Vector256.FusedMultiplyAdd(factor, y, c31);
            a += aColumn;
            b += columns;
        }

        c00.Store(c);
        c01.Store(c + Lanes);
        c10.Store(c1);
        c11.Store(c1 + Lanes);
        c20.Store(c2);
        c21.Store(c2 + Lanes);
        c30.Store(c3);
        c31.Store(c3 + Lanes);
    }
}

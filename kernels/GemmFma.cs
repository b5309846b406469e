using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>The 4 × 4 results of one thread: row i of the tile, column j.</summary>
public struct Tile4X4
{
#pragma warning disable CS1591 // Row i of four columns.
    public Float4 R0, R1, R2, R3;
#pragma warning restore CS1591
}

/// <summary>
/// y = x·Wᵀ for many rows, in float32 on every GPU. Grid (⌈out/64⌉, ⌈rows/64⌉), group 256; a group makes 64 × 64 results, a thread 4 × 4 of them, over
/// slices of 16 inputs that lie in shared memory, inputs outermost. Any shape, stride and alignment.
/// </summary>
/// <remarks>
/// 2·rows·out·in flops; reads out·in weights ⌈rows/64⌉ times and rows·in activations ⌈out/64⌉ times, in runs of 16 values.
/// Bank conflicts: none. Rows of a slice have 68 values, so that 16-byte reads are aligned; a warp stores inputs 0–15 of two rows, of which inputs n and n + 8 would meet on a
/// bank: from input 8 on the two halves of every four values change places, and are read back so.
/// The four results of a thread lie beside each other and are written one at a time, because a row may start anywhere: each store touches every sector of its 256 bytes for a
/// quarter of it, and the L2 cache puts the four together.
/// The definition is <see cref="Gemv.Plain"/> with a grid row for each row of x; this is the form that older GPUs keep and the oracle of the tensor-core form.
/// </remarks>
public static class GemmFma
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    /// <summary>Rows of x that a group covers.</summary>
    public const int TileRows = 64;

    /// <summary>Outputs that a group covers.</summary>
    public const int TileColumns = 64;

    private const int Slice = 16;
    private const int Pitch = 68;

    /// <summary>y = x·Wᵀ. x [rows, columns], W [outputs, columns] dense.</summary>
    public static void Linear<TWeight>(
        ArrayView<float> x, ArrayView<TWeight> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        ArrayView<Float4> xs = SharedMemory.Allocate1D<Float4>(Slice * Pitch / 4);
        ArrayView<Float4> ws = SharedMemory.Allocate1D<Float4>(Slice * Pitch / 4);
        int output = (Grid.IdxX * TileColumns) + (Group.IdxX / Slice);
        Tile4X4 tile = default;
        Accumulate(x, weight, xs, ws, output, Slice, outputs, rows, columns, xStride, ref tile);
        int column = (Grid.IdxX * TileColumns) + (Group.IdxX % 16 * 4);
        int row = FirstRow();
        WriteRow(destination, tile.R0, row, column, rows, outputs, stride);
        WriteRow(destination, tile.R1, row + 1, column, rows, outputs, stride);
        WriteRow(destination, tile.R2, row + 2, column, rows, outputs, stride);
        WriteRow(destination, tile.R3, row + 3, column, rows, outputs, stride);
    }

    /// <summary>
    /// h = gelu(x·Gᵀ) ⊙ (x·Uᵀ), weight [2·outputs, columns] with G above U. Grid (⌈outputs/32⌉, ⌈rows/64⌉): a thread's columns are two gates, each beside its up.
    /// </summary>
    public static void Gated<TWeight>(
        ArrayView<float> x, ArrayView<TWeight> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        ArrayView<Float4> xs = SharedMemory.Allocate1D<Float4>(Slice * Pitch / 4);
        ArrayView<Float4> ws = SharedMemory.Allocate1D<Float4>(Slice * Pitch / 4);
        int n = Group.IdxX / Slice;
        int pair = (Grid.IdxX * TileColumns / 2) + (n / 2);
        // Column n of the tile and column n + 16 have the same parity: gate stays gate.
        int output = n % 2 == 0 ? pair : outputs + pair;
        Tile4X4 tile = default;
        Accumulate(x, weight, xs, ws, output, Slice / 2, n % 2 == 0 ? outputs : 2 * outputs, rows, columns, xStride, ref tile);
        int column = (Grid.IdxX * TileColumns / 2) + (Group.IdxX % 16 * 2);
        int row = FirstRow();
        WriteGated(destination, tile.R0, row, column, rows, outputs, stride);
        WriteGated(destination, tile.R1, row + 1, column, rows, outputs, stride);
        WriteGated(destination, tile.R2, row + 2, column, rows, outputs, stride);
        WriteGated(destination, tile.R3, row + 3, column, rows, outputs, stride);
    }

    /// <summary>The first of the four rows of this thread's results.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static int FirstRow() => (Grid.IdxY * TileRows) + (Group.IdxX / 16 * 4);

    /// <summary>
    /// Adds the products of a tile. Thread g loads input g mod 16 of weight rows <paramref name="output"/> + n·<paramref name="outputStep"/>, n = 0 … 3,
    /// where they are below <paramref name="outputEnd"/>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Accumulate<TWeight>(
        ArrayView<float> x,
        ArrayView<TWeight> weight,
        ArrayView<Float4> xs,
        ArrayView<Float4> ws,
        int output,
        int outputStep,
        int outputEnd,
        int rows,
        int columns,
        int xStride,
        ref Tile4X4 tile)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        int k = Ptx.Once(Group.IdxX % Slice);
        int m = Ptx.Once(Group.IdxX / Slice);
        int place = Ptx.Once((k * Pitch) + (m ^ ((k & 8) >> 2)));
        int row = Ptx.Once((Grid.IdxY * TileRows) + m);
        ArrayView<float> xValues = xs.Cast<float>(), wValues = ws.Cast<float>();
        int xQuad = Ptx.Once(Group.IdxX / 16), wQuad = Ptx.Once(Group.IdxX % 16);
        for (int start = 0; start < columns; start += Slice)
        {
            int i = start + k;
            for (int n = 0; n < 4; n++)
            {
                int r = row + (n * Slice);
                int o = output + (n * outputStep);
                float xValue = 0f, wValue = 0f;
                if (i < columns && r < rows)
                    xValue = x[((long)r * xStride) + i];
                if (i < columns && o < outputEnd)
                    wValue = TWeight.Widen(weight[((long)o * columns) + i]);
                xValues[place + (n * Slice)] = xValue;
                wValues[place + (n * Slice)] = wValue;
            }

            Group.Barrier();
            for (int j = 0; j < Slice / 2; j++)
                AddOuter(xs[(j * (Pitch / 4)) + xQuad], ws[(j * (Pitch / 4)) + wQuad], ref tile);
            for (int j = Slice / 2; j < Slice; j++)
                AddOuter(Swapped(xs[(j * (Pitch / 4)) + xQuad]), Swapped(ws[(j * (Pitch / 4)) + wQuad]), ref tile);

            Group.Barrier();
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Swapped(Float4 quad) => new() { X = quad.Z, Y = quad.W, Z = quad.X, W = quad.Y };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddOuter(Float4 a, Float4 b, ref Tile4X4 tile)
    {
        AddRow(a.X, b, ref tile.R0);
        AddRow(a.Y, b, ref tile.R1);
        AddRow(a.Z, b, ref tile.R2);
        AddRow(a.W, b, ref tile.R3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRow(float a, Float4 b, ref Float4 sum)
    {
        sum.X = Ptx.MultiplyAdd(a, b.X, sum.X);
        sum.Y = Ptx.MultiplyAdd(a, b.Y, sum.Y);
        sum.Z = Ptx.MultiplyAdd(a, b.Z, sum.Z);
        sum.W = Ptx.MultiplyAdd(a, b.W, sum.W);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteRow(ArrayView<float> destination, Float4 values, int row, int column, int rows, int outputs, int stride)
    {
        if (row >= rows)
            return;
        long at = ((long)row * stride) + column;
        if (column < outputs)
            destination[at] = values.X;
        if (column + 1 < outputs)
            destination[at + 1] = values.Y;
        if (column + 2 < outputs)
            destination[at + 2] = values.Z;
        if (column + 3 < outputs)
            destination[at + 3] = values.W;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteGated(ArrayView<float> destination, Float4 values, int row, int column, int rows, int outputs, int stride)
    {
        if (row >= rows)
            return;
        long at = ((long)row * stride) + column;
        if (column < outputs)
            destination[at] = KernelMath.Gelu(values.X) * values.Y;
        if (column + 1 < outputs)
            destination[at + 1] = KernelMath.Gelu(values.Z) * values.W;
    }
}

using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>The results of one warp: two blocks of 16 rows, up to four blocks of 8 columns, in the layout of <see cref="Ptx.MultiplyAddBFloat16"/>.</summary>
public struct WarpTile
{
#pragma warning disable CS1591 // Row block m, column block n.
    public Float4 M0N0, M0N1, M0N2, M0N3, M1N0, M1N1, M1N2, M1N3;
#pragma warning restore CS1591
}

/// <summary>A 16 × 16 block of x for <c>mma</c>: four words of bfloat16 pairs for each term of x = high + middle + low.</summary>
public struct XFragment
{
    /// <summary>x rounded to bfloat16.</summary>
    public Words4 High;

    /// <summary>What is left, rounded.</summary>
    public Words4 Middle;

    /// <summary>What is left then: exact.</summary>
    public Words4 Low;
}

/// <summary>A 16 × 8 block of Wᵀ for <c>mma</c>: two words for each term of w.</summary>
public struct WFragment
{
#pragma warning disable CS1591 // Term, then word.
    public uint High0, High1, Middle0, Middle1, Low0, Low1;
#pragma warning restore CS1591
}

/// <summary>What a thread copies of every slice.</summary>
public struct CopyPiece
{
    /// <summary>Inputs from this piece's first on; slices that start at or beyond it are zeros.</summary>
    public int Inputs;

    /// <summary>Word of the matrix that it comes from in slice 0.</summary>
    public long Source;
}

/// <summary>
/// y = x·Wᵀ for many rows on tensor cores (sm_80): bf16 products of 16 × 8 × 16, sums in float32. Grid (⌈out/TileColumns⌉, ⌈rows/64⌉), group 256,
/// static shared 48 KiB. TileColumns: 128 for weights of two bytes, 64 for float32. Inputs a multiple of 8; rows of x and W 16-byte aligned.
/// </summary>
/// <remarks>
/// A group makes 64 rows × TileColumns outputs, a warp 32 × 32 (or 32 × 16), over slices of 32 inputs in a ring of three stages: while one slice is multiplied the next
/// two are on their way (<c>cp.async</c>, 16 bytes a thread and copy, zeros beyond the matrix). x stays float32 in shared memory and is split in registers,
/// so that no other copy of x exists: exact, x = high + middle + low, 8 bits each. Weights of bf16 come by <c>ldmatrix</c>; f16 likewise, then each
/// is exactly high + low in bf16; f32 is read like x. Products: bf16 3, f16 5, f32 6 (those below 2⁻²⁴ are left out), smallest terms first; the fast form rounds x and
/// W to bf16 and makes 1. Bytes: W ⌈rows/64⌉ times, x ⌈out/TileColumns⌉ times, mostly from the L2 cache.
/// Bank conflicts: none in the loop. A 16-byte piece p of row r of x (or of f32 W) lies at p ^ (r mod 4)·2; of 2-byte W, whose rows share 128 bytes in pairs, at
/// p ^ (r/2 mod 4). A lane writes the two results that it has beside each other one at a time, because a row may start anywhere: each store touches sectors for half of them,
/// and the other half follows at once.
/// </remarks>
public static class GemmTensor
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    /// <summary>Rows of x that a group covers.</summary>
    public const int TileRows = 64;

    internal const int SharedWords = Stages * StageWords;

    private const int Slice = 32;
    private const int Stages = 3;
    private const int StageWords = 4096;
    private const int WeightWords = 2048;
    private const int PieceWords = 4 * GroupSize;

    /// <summary>y = x·Wᵀ.</summary>
    public static void Linear<TOperand>(
        ArrayView<uint> x, ArrayView<uint> weight, ArrayView<float> destination, int rows, int columns, int outputs, int xStride,
        int stride)
        where TOperand : struct, ITensorOperand
    {
        ArrayView<uint> shared = SharedMemory.Allocate1D<uint>(SharedWords);
        int first = Grid.IdxX * TileColumns<TOperand>();
        WarpTile tile = default;
        Multiply<TOperand>(x, weight, shared, first, 0, outputs, rows, columns, xStride, ref tile);
        int row = WarpRow();
        int column = first + WarpColumn<TOperand>() + LaneColumn();
        WriteBlock(destination, tile.M0N0, row, column, rows, outputs, stride);
        WriteBlock(destination, tile.M0N1, row, column + 8, rows, outputs, stride);
        WriteBlock(destination, tile.M1N0, row + 16, column, rows, outputs, stride);
        WriteBlock(destination, tile.M1N1, row + 16, column + 8, rows, outputs, stride);
        if (TOperand.ColumnBlocks > 2)
        {
            WriteBlock(destination, tile.M0N2, row, column + 16, rows, outputs, stride);
            WriteBlock(destination, tile.M0N3, row, column + 24, rows, outputs, stride);
            WriteBlock(destination, tile.M1N2, row + 16, column + 16, rows, outputs, stride);
            WriteBlock(destination, tile.M1N3, row + 16, column + 24, rows, outputs, stride);
        }
    }

    /// <summary>
    /// h = gelu(x·Gᵀ) ⊙ (x·Uᵀ), weight [2·outputs, columns] with G above U. Grid (⌈2·outputs/TileColumns⌉, ⌈rows/64⌉): the first half of a warp's columns
    /// are gates, the second half their ups, so that both are in one thread.
    /// </summary>
    public static void Gated<TOperand>(
        ArrayView<uint> x, ArrayView<uint> weight, ArrayView<float> destination, int rows, int columns, int outputs, int xStride,
        int stride)
        where TOperand : struct, ITensorOperand
    {
        ArrayView<uint> shared = SharedMemory.Allocate1D<uint>(SharedWords);
        int first = Grid.IdxX * (TileColumns<TOperand>() / 2);
        WarpTile tile = default;
        Multiply<TOperand>(x, weight, shared, first, outputs, outputs, rows, columns, xStride, ref tile);
        int row = WarpRow();
        int column = first + (WarpColumn<TOperand>() / 2) + LaneColumn();
        if (TOperand.ColumnBlocks > 2)
        {
            WriteBlock(destination, Gate(tile.M0N0, tile.M0N2), row, column, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M0N1, tile.M0N3), row, column + 8, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M1N0, tile.M1N2), row + 16, column, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M1N1, tile.M1N3), row + 16, column + 8, rows, outputs, stride);
        }
        else
        {
            WriteBlock(destination, Gate(tile.M0N0, tile.M0N1), row, column, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M1N0, tile.M1N1), row + 16, column, rows, outputs, stride);
        }
    }

    /// <summary>
    /// The SAE encoder for many rows; see <see cref="SaeEncode.Tile"/>. Grid (⌈features/TileColumns⌉, ⌈rows/64⌉); a tile of activations takes the place of the slices
    /// in shared memory when the products are done.
    /// </summary>
    public static void SaeEncodeTile<TOperand>(
        ArrayView<uint> x,
        ArrayView<uint> weight,
        ArrayView<float> bias,
        ArrayView<float> threshold,
        ArrayView<int> counts,
        ArrayView<long> offsets,
        ArrayView<int> features,
        ArrayView<float> values,
        ArrayView<long> cursor,
        long capacity,
        int rows,
        int columns,
        int featureCount,
        int xStride)
        where TOperand : struct, ITensorOperand
    {
        ArrayView<uint> shared = SharedMemory.Allocate1D<uint>(SharedWords);
        int first = Grid.IdxX * TileColumns<TOperand>();
        WarpTile tile = default;
        Multiply<TOperand>(x, weight, shared, first, 0, featureCount, rows, columns, xStride, ref tile);
        Group.Barrier();
        ArrayView<float> activations = shared.Cast<float>();
        int row = WarpRow() - (Grid.IdxY * TileRows);
        int n = WarpColumn<TOperand>() + LaneColumn();
        int pitch = SaeEncode.Pitch(TileColumns<TOperand>());
        KeepBlock(activations, tile.M0N0, bias, threshold, row, n, first, pitch, featureCount);
        KeepBlock(activations, tile.M0N1, bias, threshold, row, n + 8, first, pitch, featureCount);
        KeepBlock(activations, tile.M1N0, bias, threshold, row + 16, n, first, pitch, featureCount);
        KeepBlock(activations, tile.M1N1, bias, threshold, row + 16, n + 8, first, pitch, featureCount);
        if (TOperand.ColumnBlocks > 2)
        {
            KeepBlock(activations, tile.M0N2, bias, threshold, row, n + 16, first, pitch, featureCount);
            KeepBlock(activations, tile.M0N3, bias, threshold, row, n + 24, first, pitch, featureCount);
            KeepBlock(activations, tile.M1N2, bias, threshold, row + 16, n + 16, first, pitch, featureCount);
            KeepBlock(activations, tile.M1N3, bias, threshold, row + 16, n + 24, first, pitch, featureCount);
        }

        Group.Barrier();
        SaeEncode.WriteLists(activations, TileColumns<TOperand>(), TileRows, GroupSize, rows, counts, offsets, features,
            values, cursor, capacity);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int TileColumns<TOperand>()
        where TOperand : struct, ITensorOperand => 4 * 8 * TOperand.ColumnBlocks;

    // Warps: two down the rows, four across the columns.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WarpRow() => (Grid.IdxY * TileRows) + (Group.IdxX / 128 * 32) + ((Group.IdxX & 31) / 4);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WarpColumn<TOperand>()
        where TOperand : struct, ITensorOperand => ((Group.IdxX >> 5) & 3) * (8 * TOperand.ColumnBlocks);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int LaneColumn() => (Group.IdxX & 3) * 2;

    /// <summary>
    /// The products of a group's tile. With <paramref name="upOffset"/> 0, column n of the tile is output <paramref name="first"/> + n. Otherwise the columns of a warp
    /// are gates, then ups: output first + w·half + n for both, the up in row upOffset + output of W; <paramref name="outputs"/> bounds the output.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Multiply<TOperand>(
        ArrayView<uint> x,
        ArrayView<uint> weight,
        ArrayView<uint> shared,
        int first,
        int upOffset,
        int outputs,
        int rows,
        int columns,
        int xStride,
        ref WarpTile tile)
        where TOperand : struct, ITensorOperand
    {
        int slices = Ptx.Once((columns + Slice - 1) / Slice);
        // The second piece of a thread lies 1,024 words behind its first: 32 rows of float32, 64 of two bytes.
        int xPlace = Ptx.Once(Place(Group.IdxX >> 3, Group.IdxX & 7));
        int wPlace = Ptx.Once(WeightWords + WeightPlace<TOperand>(Group.IdxX / TOperand.RowPieces, Group.IdxX & (TOperand.RowPieces - 1)));
        CopyPiece x0 = XPiece(Group.IdxX, rows, columns, xStride), x1 = XPiece(Group.IdxX + GroupSize, rows, columns, xStride);
        CopyPiece w0 = WeightPiece<TOperand>(Group.IdxX, first, upOffset, outputs, columns);
        CopyPiece w1 = WeightPiece<TOperand>(Group.IdxX + GroupSize, first, upOffset, outputs, columns);
        Copy<TOperand>(x, weight, shared, xPlace, wPlace, 0, x0, x1, w0, w1);
        Copy<TOperand>(x, weight, shared, xPlace + StageWords, wPlace + StageWords, 1, x0, x1, w0, w1);
        // Where this lane's fragments begin in a stage. Those 8 and 16 inputs further differ in one bit of the piece each:
        // an xor, not a register.
        int row = Ptx.Once((Group.IdxX / 128 * 32) + ((Group.IdxX & 31) >> 2)), lane = Ptx.Once(Group.IdxX & 31);
        int xFirst = Ptx.Once(TensorFragments.PairAt(row, 0, lane));
        int wFirst = Ptx.Once(WeightWords + TOperand.FragmentAt(WarpColumn<TOperand>(), 0, lane));
        int stage = 0;
        for (int s = 0; s < slices; s++)
        {
            Ptx.WaitForAllCopiesButOne();
            Group.Barrier();
            int to = Ptx.Once((stage == 0 ? 2 : stage - 1) * StageWords);
            Copy<TOperand>(x, weight, shared, to + xPlace, to + wPlace, s + 2, x0, x1, w0, w1);
            int at = Ptx.Once(stage * StageWords);
            MultiplySlice<TOperand>(shared, Ptx.Once(at + xFirst), Ptx.Once(at + wFirst), ref tile);
            MultiplySlice<TOperand>(
                shared, Ptx.Once((at + xFirst) ^ 16), Ptx.Once((at + wFirst) ^ (16 / TOperand.WeightsInWord)), ref tile);
            stage = stage == 2 ? 0 : stage + 1;
        }

        Ptx.WaitForAllCopies();
    }

    // Slice s of both matrices into a stage: two 16-byte pieces of each for every thread.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Copy<TOperand>(
        ArrayView<uint> x, ArrayView<uint> weight, ArrayView<uint> shared, int xPlace, int wPlace, int s, CopyPiece x0,
        CopyPiece x1, CopyPiece w0, CopyPiece w1)
        where TOperand : struct, ITensorOperand
    {
        int input = Ptx.Once(s * Slice);
        CopyOne(x, shared, xPlace, input, input, x0);
        CopyOne(x, shared, xPlace + PieceWords, input, input, x1);
        CopyOne(weight, shared, wPlace, input, input / TOperand.WeightsInWord, w0);
        CopyOne(weight, shared, wPlace + PieceWords, input, input / TOperand.WeightsInWord, w1);
        Ptx.CommitCopies();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void CopyOne(ArrayView<uint> source, ArrayView<uint> shared, int place, int input, int words, CopyPiece piece)
    {
        bool inside = input < piece.Inputs;
        Ptx.CopyAsync(ref shared[place], ref source[piece.Source + (inside ? words : 0)], inside ? 16 : 0);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static CopyPiece XPiece(int index, int rows, int columns, int xStride)
    {
        int n = index >> 3, piece = index & 7;
        int row = (Grid.IdxY * TileRows) + n;
        return new CopyPiece
        {
            Inputs = Ptx.Once(row < rows ? columns - (4 * piece) : 0),
            Source = Ptx.Once(row < rows && 4 * piece < columns ? ((long)row * xStride) + (4 * piece) : 0L),
        };
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static CopyPiece WeightPiece<TOperand>(int index, int first, int upOffset, int outputs, int columns)
        where TOperand : struct, ITensorOperand
    {
        int column = index / TOperand.RowPieces, piece = index & (TOperand.RowPieces - 1);
        int skipped = piece * (4 * TOperand.WeightsInWord);
        int output = OutputOf<TOperand>(column, first, upOffset > 0);
        int row = IsUp<TOperand>(column, upOffset > 0) ? upOffset + output : output;
        return new CopyPiece
        {
            Inputs = Ptx.Once(output < outputs ? columns - skipped : 0),
            Source = Ptx.Once(output < outputs && skipped < columns ? (((long)row * columns) + skipped) / TOperand.WeightsInWord : 0L),
        };
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int OutputOf<TOperand>(int column, int first, bool gated)
        where TOperand : struct, ITensorOperand
    {
        int half = 4 * TOperand.ColumnBlocks;
        return first + (gated ? (column / (2 * half) * half) + (column & (half - 1)) : column);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsUp<TOperand>(int column, bool gated)
        where TOperand : struct, ITensorOperand => gated && (column & (4 * TOperand.ColumnBlocks)) != 0;

    // The word where piece p of a row of 32 float32 values lies.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static int Place(int row, int piece) => (row * 32) + ((piece ^ ((row & 3) << 1)) * 4);

    // The same for rows of 32 values of two bytes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static int HalfPlace(int row, int piece) => (row * 16) + ((piece ^ ((row >> 1) & 3)) * 4);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WeightPlace<TOperand>(int row, int piece)
        where TOperand : struct, ITensorOperand => TOperand.WeightsInWord == 1 ? Place(row, piece) : HalfPlace(row, piece);

    // 16 inputs of a slice, the first eight of them at words x0 and w0 of this lane.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MultiplySlice<TOperand>(ArrayView<uint> shared, int x0, int w0, ref WarpTile tile)
        where TOperand : struct, ITensorOperand
    {
        int x1 = Ptx.Once(x0 ^ 8), w1 = Ptx.Once(w0 ^ (8 / TOperand.WeightsInWord));
        XFragment m0 = TensorFragments.LoadX<TOperand>(shared, x0, x1);
        XFragment m1 = TensorFragments.LoadX<TOperand>(shared, x0 + (16 * Slice), x1 + (16 * Slice));
        TOperand.LoadPair(shared, w0, w1, out WFragment n0, out WFragment n1);
        tile.M0N0 = TOperand.MultiplyAdd(tile.M0N0, m0, n0);
        tile.M1N0 = TOperand.MultiplyAdd(tile.M1N0, m1, n0);
        tile.M0N1 = TOperand.MultiplyAdd(tile.M0N1, m0, n1);
        tile.M1N1 = TOperand.MultiplyAdd(tile.M1N1, m1, n1);
        if (TOperand.ColumnBlocks > 2)
        {
            int sixteen = 16 * Slice / TOperand.WeightsInWord;
            TOperand.LoadPair(shared, w0 + sixteen, w1 + sixteen, out WFragment n2, out WFragment n3);
            tile.M0N2 = TOperand.MultiplyAdd(tile.M0N2, m0, n2);
            tile.M1N2 = TOperand.MultiplyAdd(tile.M1N2, m1, n2);
            tile.M0N3 = TOperand.MultiplyAdd(tile.M0N3, m0, n3);
            tile.M1N3 = TOperand.MultiplyAdd(tile.M1N3, m1, n3);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteBlock(ArrayView<float> destination, Float4 block, int row, int column, int rows, int outputs, int stride)
    {
        WritePair(destination, block.X, block.Y, row, column, rows, outputs, stride);
        WritePair(destination, block.Z, block.W, row + 8, column, rows, outputs, stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WritePair(ArrayView<float> destination, float a, float b, int row, int column, int rows, int outputs, int stride)
    {
        if (row >= rows)
            return;
        long at = ((long)row * stride) + column;
        if (column < outputs)
            destination[at] = a;
        if (column + 1 < outputs)
            destination[at + 1] = b;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Gate(Float4 gate, Float4 up) => new()
    {
        X = KernelMath.Gelu(gate.X) * up.X,
        Y = KernelMath.Gelu(gate.Y) * up.Y,
        Z = KernelMath.Gelu(gate.Z) * up.Z,
        W = KernelMath.Gelu(gate.W) * up.W,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void KeepBlock(
        ArrayView<float> shared, Float4 block, ArrayView<float> bias, ArrayView<float> threshold, int row, int n, int first,
        int pitch, int featureCount)
    {
        float a = 0f, b = 0f, c = 0f, d = 0f;
        int f = first + n;
        if (f < featureCount)
        {
            float b0 = Ptx.Once(bias[f]), theta0 = Ptx.Once(threshold[f]);
            a = SaeEncode.Activate(block.X, b0, theta0);
            c = SaeEncode.Activate(block.Z, b0, theta0);
        }

        if (f + 1 < featureCount)
        {
            float b1 = Ptx.Once(bias[f + 1]), theta1 = Ptx.Once(threshold[f + 1]);
            b = SaeEncode.Activate(block.Y, b1, theta1);
            d = SaeEncode.Activate(block.W, b1, theta1);
        }

        shared[(row * pitch) + n] = a;
        shared[(row * pitch) + n + 1] = b;
        shared[((row + 8) * pitch) + n] = c;
        shared[((row + 8) * pitch) + n + 1] = d;
    }
}

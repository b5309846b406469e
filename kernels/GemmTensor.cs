using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>The results of one warp: two blocks of 16 rows, up to eight blocks of 8 columns, in the layout of <see cref="Ptx.MultiplyAddBFloat16"/>.</summary>
public struct WarpTile
{
#pragma warning disable CS1591 // Row block m, column block n.
    public Float4 M0N0, M0N1, M0N2, M0N3, M0N4, M0N5, M0N6, M0N7, M1N0, M1N1, M1N2, M1N3, M1N4, M1N5, M1N6, M1N7;
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
/// static shared 42 KiB. TileColumns: 256 for weights of two bytes, 128 for float32. Inputs a multiple of 8; rows of W 16-byte aligned; x as planes of bfloat16
/// (<see cref="SplitTerms"/>) [terms, rows, inputs]: three in exact, one in fast.
/// </summary>
/// <remarks>
/// A group makes 64 rows × TileColumns outputs, a warp 32 × 64 (or 32 × 32), over slices of 16 inputs in a ring of three stages: while one slice is multiplied the next
/// two are on their way (<c>cp.async</c>, 16 bytes a thread and copy, zeros beyond the matrix). x was split once, before the launch, x = high + middle + low, 8 bits each, so that a
/// fragment of a term comes by one <c>ldmatrix</c>, and no warp splits what others have split. Weights of bf16 come by <c>ldmatrix</c>; f16 likewise, then each
/// is exactly high + low in bf16; f32 is split in registers. Products: bf16 3, f16 5, f32 6 (those below 2⁻²⁴ are left out), smallest terms first; the fast form rounds x and
/// W to bf16 and makes 1. Bytes: W ⌈rows/64⌉ times, the planes ⌈out/TileColumns⌉ times, mostly from the L2 cache. The first version split x in registers, 576 times for the
/// widest product of the 2B model: the same products in the same order, and so the same bits.
/// Of bf16 weights in exact the loop has 219 instructions for 48 <c>mma</c> (gated 213; the first version 413), at 128 registers and two groups a multiprocessor, as all forms but <c>gemm_tensor_f16_exact</c>,
/// whose 168 leave room for one: at 128 it would spill 68 bytes on sm_90.
/// Bank conflicts: none in the loop. A 16-byte piece p of row r of a plane or of 2-byte W, whose rows share 128 bytes by fours, lies at p ^ (r/4 mod 2); of f32 W, whose rows do in pairs, at
/// p ^ (r/2 mod 2)·2. A lane writes the two results that it has beside each other one at a time, because a row may start anywhere: each store touches sectors for half of them,
/// and the other half follows at once.
/// </remarks>
public static class GemmTensor
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    /// <summary>Rows of x that a group covers.</summary>
    public const int TileRows = 64;

    internal const int SharedWords = Stages * ((3 * PlaneWords) + WeightWords);

    private const int Slice = 16;
    private const int Stages = 3;

    /// <summary>Words of a plane's slice: 64 rows of 16 values.</summary>
    private const int PlaneWords = 512;

    /// <summary>Words of a slice of weights: 256 rows of 16 values of two bytes, or 128 of float32.</summary>
    private const int WeightWords = 2048;
    private const int PieceWords = 4 * GroupSize;

    /// <summary>Threads that a plane's slice needs, 16 bytes each.</summary>
    private const int PlanePieces = 128;

    /// <summary>y = x·Wᵀ.</summary>
    public static void Linear<TOperand>(
        ArrayView<uint> planes, ArrayView<uint> weight, ArrayView<float> destination, int rows, int columns, int outputs, int stride)
        where TOperand : struct, ITensorOperand
    {
        ArrayView<uint> shared = SharedMemory.Allocate1D<uint>(SharedWords);
        int first = Grid.IdxX * TileColumns<TOperand>();
        WarpTile tile = default;
        Multiply<TOperand>(planes, weight, shared, first, 0, outputs, rows, columns, ref tile);
        int row = WarpRow();
        int column = first + WarpColumn<TOperand>() + LaneColumn();
        WriteBlock(destination, tile.M0N0, row, column, rows, outputs, stride);
        WriteBlock(destination, tile.M0N1, row, column + 8, rows, outputs, stride);
        WriteBlock(destination, tile.M0N2, row, column + 16, rows, outputs, stride);
        WriteBlock(destination, tile.M0N3, row, column + 24, rows, outputs, stride);
        WriteBlock(destination, tile.M1N0, row + 16, column, rows, outputs, stride);
        WriteBlock(destination, tile.M1N1, row + 16, column + 8, rows, outputs, stride);
        WriteBlock(destination, tile.M1N2, row + 16, column + 16, rows, outputs, stride);
        WriteBlock(destination, tile.M1N3, row + 16, column + 24, rows, outputs, stride);
        if (TOperand.ColumnBlocks > 4)
        {
            WriteBlock(destination, tile.M0N4, row, column + 32, rows, outputs, stride);
            WriteBlock(destination, tile.M0N5, row, column + 40, rows, outputs, stride);
            WriteBlock(destination, tile.M0N6, row, column + 48, rows, outputs, stride);
            WriteBlock(destination, tile.M0N7, row, column + 56, rows, outputs, stride);
            WriteBlock(destination, tile.M1N4, row + 16, column + 32, rows, outputs, stride);
            WriteBlock(destination, tile.M1N5, row + 16, column + 40, rows, outputs, stride);
            WriteBlock(destination, tile.M1N6, row + 16, column + 48, rows, outputs, stride);
            WriteBlock(destination, tile.M1N7, row + 16, column + 56, rows, outputs, stride);
        }
    }

    /// <summary>
    /// h = gelu(x·Gᵀ) ⊙ (x·Uᵀ), weight [2·outputs, columns] with G above U. Grid (⌈2·outputs/TileColumns⌉, ⌈rows/64⌉): the first half of a warp's columns
    /// are gates, the second half their ups, so that both are in one thread.
    /// </summary>
    public static void Gated<TOperand>(
        ArrayView<uint> planes, ArrayView<uint> weight, ArrayView<float> destination, int rows, int columns, int outputs, int stride)
        where TOperand : struct, ITensorOperand
    {
        ArrayView<uint> shared = SharedMemory.Allocate1D<uint>(SharedWords);
        int first = Grid.IdxX * (TileColumns<TOperand>() / 2);
        WarpTile tile = default;
        Multiply<TOperand>(planes, weight, shared, first, outputs, outputs, rows, columns, ref tile);
        int row = WarpRow();
        int column = first + (WarpColumn<TOperand>() / 2) + LaneColumn();
        if (TOperand.ColumnBlocks > 4)
        {
            WriteBlock(destination, Gate(tile.M0N0, tile.M0N4), row, column, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M0N1, tile.M0N5), row, column + 8, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M0N2, tile.M0N6), row, column + 16, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M0N3, tile.M0N7), row, column + 24, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M1N0, tile.M1N4), row + 16, column, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M1N1, tile.M1N5), row + 16, column + 8, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M1N2, tile.M1N6), row + 16, column + 16, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M1N3, tile.M1N7), row + 16, column + 24, rows, outputs, stride);
        }
        else
        {
            WriteBlock(destination, Gate(tile.M0N0, tile.M0N2), row, column, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M0N1, tile.M0N3), row, column + 8, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M1N0, tile.M1N2), row + 16, column, rows, outputs, stride);
            WriteBlock(destination, Gate(tile.M1N1, tile.M1N3), row + 16, column + 8, rows, outputs, stride);
        }
    }

    /// <summary>
    /// The SAE encoder for many rows; see <see cref="SaeEncode.Tile"/>. Grid (⌈features/TileColumns⌉, ⌈rows/64⌉); the activations of 32 rows, then of the other 32, take the place of the slices
    /// in shared memory when the products are done.
    /// </summary>
    public static void SaeEncodeTile<TOperand>(
        ArrayView<uint> planes,
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
        int featureCount)
        where TOperand : struct, ITensorOperand
    {
        ArrayView<uint> shared = SharedMemory.Allocate1D<uint>(SharedWords);
        int first = Grid.IdxX * TileColumns<TOperand>();
        WarpTile tile = default;
        Multiply<TOperand>(planes, weight, shared, first, 0, featureCount, rows, columns, ref tile);
        ArrayView<float> activations = shared.Cast<float>();
        int row = Ptx.Once((Group.IdxX & 31) / 4);
        int n = Ptx.Once(WarpColumn<TOperand>() + LaneColumn());
        int pitch = SaeEncode.Pitch(TileColumns<TOperand>());
        for (int half = 0; half < 2; half++)
        {
            Group.Barrier();
            if (Group.IdxX / (GroupSize / 2) == half)
            {
                KeepBlock(activations, tile.M0N0, bias, threshold, row, n, first, pitch, featureCount);
                KeepBlock(activations, tile.M0N1, bias, threshold, row, n + 8, first, pitch, featureCount);
                KeepBlock(activations, tile.M0N2, bias, threshold, row, n + 16, first, pitch, featureCount);
                KeepBlock(activations, tile.M0N3, bias, threshold, row, n + 24, first, pitch, featureCount);
                KeepBlock(activations, tile.M1N0, bias, threshold, row + 16, n, first, pitch, featureCount);
                KeepBlock(activations, tile.M1N1, bias, threshold, row + 16, n + 8, first, pitch, featureCount);
                KeepBlock(activations, tile.M1N2, bias, threshold, row + 16, n + 16, first, pitch, featureCount);
                KeepBlock(activations, tile.M1N3, bias, threshold, row + 16, n + 24, first, pitch, featureCount);
                if (TOperand.ColumnBlocks > 4)
                {
                    KeepBlock(activations, tile.M0N4, bias, threshold, row, n + 32, first, pitch, featureCount);
                    KeepBlock(activations, tile.M0N5, bias, threshold, row, n + 40, first, pitch, featureCount);
                    KeepBlock(activations, tile.M0N6, bias, threshold, row, n + 48, first, pitch, featureCount);
                    KeepBlock(activations, tile.M0N7, bias, threshold, row, n + 56, first, pitch, featureCount);
                    KeepBlock(activations, tile.M1N4, bias, threshold, row + 16, n + 32, first, pitch, featureCount);
                    KeepBlock(activations, tile.M1N5, bias, threshold, row + 16, n + 40, first, pitch, featureCount);
                    KeepBlock(activations, tile.M1N6, bias, threshold, row + 16, n + 48, first, pitch, featureCount);
                    KeepBlock(activations, tile.M1N7, bias, threshold, row + 16, n + 56, first, pitch, featureCount);
                }
            }

            Group.Barrier();
            SaeEncode.WriteLists(activations, TileColumns<TOperand>(), (Grid.IdxY * TileRows) + (half * (TileRows / 2)), TileRows / 2,
                GroupSize, rows, counts, offsets, features, values, cursor, capacity);
        }
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
        ArrayView<uint> planes,
        ArrayView<uint> weight,
        ArrayView<uint> shared,
        int first,
        int upOffset,
        int outputs,
        int rows,
        int columns,
        ref WarpTile tile)
        where TOperand : struct, ITensorOperand
    {
        int slices = Ptx.Once((columns + Slice - 1) / Slice);
        int plane = Group.IdxX / PlanePieces;
        // The second piece of W lies 256 pieces behind a thread's first; the third plane of x two behind the first.
        int xPlace = Ptx.Once((plane * PlaneWords) + HalfPlace((Group.IdxX & (PlanePieces - 1)) >> 1, Group.IdxX & 1));
        int wPlace = Ptx.Once(XWords<TOperand>()
            + WeightPlace<TOperand>(Group.IdxX / TOperand.RowPieces, Group.IdxX & (TOperand.RowPieces - 1)));
        long planeSize = Ptx.Once((long)rows * columns / 2);
        CopyPiece x = XPiece(plane * planeSize, rows, columns);
        CopyPiece w0 = WeightPiece<TOperand>(Group.IdxX, first, upOffset, outputs, columns);
        CopyPiece w1 = WeightPiece<TOperand>(Group.IdxX + GroupSize, first, upOffset, outputs, columns);
        Copy<TOperand>(planes, weight, shared, xPlace, wPlace, 0, 2 * planeSize, x, w0, w1);
        Copy<TOperand>(planes, weight, shared, xPlace + StageWords<TOperand>(), wPlace + StageWords<TOperand>(), 1, 2 * planeSize, x, w0,
            w1);
        // Where this lane's fragments begin in a stage.
        int lane = Ptx.Once(Group.IdxX & 31);
        int xFirst = Ptx.Once(HalfPlace((Group.IdxX / 128 * 32) + (lane & 15), lane >> 4));
        int wFirst = Ptx.Once(XWords<TOperand>() + TOperand.FragmentAt(WarpColumn<TOperand>(), lane));
        int stage = 0;
        for (int s = 0; s < slices; s++)
        {
            Ptx.WaitForAllCopiesButOne();
            Group.Barrier();
            int to = Ptx.Once((stage == 0 ? 2 : stage - 1) * StageWords<TOperand>());
            Copy<TOperand>(planes, weight, shared, to + xPlace, to + wPlace, s + 2, 2 * planeSize, x, w0, w1);
            int at = Ptx.Once(stage * StageWords<TOperand>());
            MultiplySlice<TOperand>(shared, Ptx.Once(at + xFirst), Ptx.Once(at + wFirst), ref tile);
            stage = stage == 2 ? 0 : stage + 1;
        }

        Ptx.WaitForAllCopies();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int XWords<TOperand>()
        where TOperand : struct, ITensorOperand => TOperand.Terms * PlaneWords;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int StageWords<TOperand>()
        where TOperand : struct, ITensorOperand => XWords<TOperand>() + WeightWords;

    // Slice s of x and W into a stage: two 16-byte pieces of W for every thread; of x one for every thread of the first two planes, and the third plane for the first half of the threads.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Copy<TOperand>(
        ArrayView<uint> planes, ArrayView<uint> weight, ArrayView<uint> shared, int xPlace, int wPlace, int s, long thirdPlane, CopyPiece x,
        CopyPiece w0, CopyPiece w1)
        where TOperand : struct, ITensorOperand
    {
        int input = Ptx.Once(s * Slice);
        bool half = Group.IdxX < PlanePieces;
        if (TOperand.Terms > 1 || half)
            CopyOne(planes, shared, xPlace, input, input / 2, x, 0);
        if (TOperand.Terms > 1 && half)
            CopyOne(planes, shared, xPlace + (2 * PlaneWords), input, input / 2, x, thirdPlane);
        CopyOne(weight, shared, wPlace, input, input / TOperand.WeightsInWord, w0, 0);
        CopyOne(weight, shared, wPlace + PieceWords, input, input / TOperand.WeightsInWord, w1, 0);
        Ptx.CommitCopies();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void CopyOne(ArrayView<uint> source, ArrayView<uint> shared, int place, int input, int words, CopyPiece piece,
        long behind)
    {
        bool inside = input < piece.Inputs;
        Ptx.CopyAsync(ref shared[place], ref source[piece.Source + behind + (inside ? words : 0)], inside ? 16 : 0);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static CopyPiece XPiece(long plane, int rows, int columns)
    {
        int n = (Group.IdxX & (PlanePieces - 1)) >> 1, piece = Group.IdxX & 1;
        int row = (Grid.IdxY * TileRows) + n;
        return new CopyPiece
        {
            Inputs = Ptx.Once(row < rows ? columns - (8 * piece) : 0),
            Source = Ptx.Once(row < rows && 8 * piece < columns ? plane + ((long)row * columns / 2) + (4 * piece) : 0L),
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

    // The word where piece p of a row of 16 float32 values lies.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static int Place(int row, int piece) => (row * 16) + ((piece ^ (row & 2)) * 4);

    // The same for rows of 16 values of two bytes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static int HalfPlace(int row, int piece) => (row * 8) + ((piece ^ ((row >> 2) & 1)) * 4);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WeightPlace<TOperand>(int row, int piece)
        where TOperand : struct, ITensorOperand => TOperand.WeightsInWord == 1 ? Place(row, piece) : HalfPlace(row, piece);

    // A slice; x0 and w0 are the words of this lane.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MultiplySlice<TOperand>(ArrayView<uint> shared, int x0, int w0, ref WarpTile tile)
        where TOperand : struct, ITensorOperand
    {
        // Sixteen rows of W further.
        int step = 16 * Slice / TOperand.WeightsInWord;
        XFragment m0 = LoadX<TOperand>(shared, x0);
        XFragment m1 = LoadX<TOperand>(shared, x0 + (16 * Slice / 2));
        TOperand.LoadPair(shared, w0, out WFragment n0, out WFragment n1);
        tile.M0N0 = TOperand.MultiplyAdd(tile.M0N0, m0, n0);
        tile.M1N0 = TOperand.MultiplyAdd(tile.M1N0, m1, n0);
        tile.M0N1 = TOperand.MultiplyAdd(tile.M0N1, m0, n1);
        tile.M1N1 = TOperand.MultiplyAdd(tile.M1N1, m1, n1);
        TOperand.LoadPair(shared, w0 + step, out WFragment n2, out WFragment n3);
        tile.M0N2 = TOperand.MultiplyAdd(tile.M0N2, m0, n2);
        tile.M1N2 = TOperand.MultiplyAdd(tile.M1N2, m1, n2);
        tile.M0N3 = TOperand.MultiplyAdd(tile.M0N3, m0, n3);
        tile.M1N3 = TOperand.MultiplyAdd(tile.M1N3, m1, n3);
        if (TOperand.ColumnBlocks > 4)
        {
            TOperand.LoadPair(shared, w0 + (2 * step), out WFragment n4, out WFragment n5);
            tile.M0N4 = TOperand.MultiplyAdd(tile.M0N4, m0, n4);
            tile.M1N4 = TOperand.MultiplyAdd(tile.M1N4, m1, n4);
            tile.M0N5 = TOperand.MultiplyAdd(tile.M0N5, m0, n5);
            tile.M1N5 = TOperand.MultiplyAdd(tile.M1N5, m1, n5);
            TOperand.LoadPair(shared, w0 + (3 * step), out WFragment n6, out WFragment n7);
            tile.M0N6 = TOperand.MultiplyAdd(tile.M0N6, m0, n6);
            tile.M1N6 = TOperand.MultiplyAdd(tile.M1N6, m1, n6);
            tile.M0N7 = TOperand.MultiplyAdd(tile.M0N7, m0, n7);
            tile.M1N7 = TOperand.MultiplyAdd(tile.M1N7, m1, n7);
        }
    }

    // A 16 × 16 block of each term of x.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static XFragment LoadX<TOperand>(ArrayView<uint> shared, int at)
        where TOperand : struct, ITensorOperand
    {
        XFragment x = default;
        x.High = Ptx.LoadMatrices(ref shared[at]);
        if (TOperand.Terms > 1)
        {
            x.Middle = Ptx.LoadMatrices(ref shared[at + PlaneWords]);
            x.Low = Ptx.LoadMatrices(ref shared[at + (2 * PlaneWords)]);
        }

        return x;
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

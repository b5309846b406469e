using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>Results of a warp in 64 rows and 8 columns: four blocks of 16 rows in the layout of <see cref="Ptx.MultiplyAddBFloat16"/>.</summary>
public struct ColumnSums
{
#pragma warning disable CS1591 // Row block m.
    public Float4 M0, M1, M2, M3;
#pragma warning restore CS1591
}

/// <summary>The results of one warp: 64 rows, up to nine blocks of 8 columns.</summary>
public struct WarpTile
{
#pragma warning disable CS1591 // Column block n.
    public ColumnSums N0, N1, N2, N3, N4, N5, N6, N7, N8;
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

/// <summary>A slice's rows of x that a warp multiplies: four blocks of 16.</summary>
public struct RowFragments
{
#pragma warning disable CS1591 // Row block m.
    public XFragment M0, M1, M2, M3;
#pragma warning restore CS1591
}

/// <summary>What a thread copies of every slice: pieces of 16 bytes of one matrix.</summary>
public struct CopyPieces
{
    /// <summary>Word of the matrix where the first piece begins in slice 0, and how far it is from each piece to the next.</summary>
    public long Source, Step;

    /// <summary>Word of a stage where the first piece goes; the next lies <see cref="GemmTensor.PieceStep"/> further.</summary>
    public int Place;

    /// <summary>Inputs from the pieces' first on; slices that start at or beyond it are zeros.</summary>
    public int Inputs;

    /// <summary>Rows of the matrix from the first piece's on; pieces of those beyond are zeros.</summary>
    public int Rows;
}

/// <summary>
/// y = x·Wᵀ for many rows on tensor cores (sm_80): bf16 products of 16 × 8 × 16, sums in float32. Grid (⌈out/TileColumns⌉, ⌈rows/TileRows⌉), group 128,
/// static shared memory 25.5 to 45 KiB. Tiles of 64 × 288 in exact and 128 × 144 in fast; of f16 weights in exact 64 × 128, for want of registers; of float32 64 × 128 and 128 × 128. Inputs a multiple of 8; rows of W 16-byte aligned;
/// x as planes of bfloat16 (<see cref="SplitTerms"/>) [terms, rows, inputs]: three in exact, one in fast.
/// </summary>
/// <remarks>
/// A warp makes 64 rows × 72 outputs (f16 and f32 exact 32, f32 fast 64), over slices of 16 inputs in a ring of three stages: while one slice is multiplied the next
/// two are on their way (<c>cp.async</c>, 16 bytes a thread and copy, zeros beyond the matrix). x was split once, before the launch, x = high + middle + low, 8 bits each, so that a
/// fragment of a term comes by one <c>ldmatrix</c>, and no warp splits what others have split. Weights of bf16 come by <c>ldmatrix</c>; f16 likewise, then each
/// is exactly high + low in bf16; f32 is split in registers. Products: bf16 3, f16 5, f32 6 (those below 2⁻²⁴ are left out), smallest terms first; the fast form rounds x and
/// W to bf16 and makes 1. Bytes: W ⌈rows/TileRows⌉ times, the planes ⌈out/TileColumns⌉ times, mostly from the L2 cache.
/// The ladder: x split in registers by every warp; planes, and 8 warps of 32 × 64 in tiles of 64 × 256; this one. A product of three terms reads 6 bytes of x for 2 of W, which asks for wide tiles, fast as many of
/// both, which asks for square ones; and 2,304 outputs of 2,048 rows make 256 tiles of either shape, which 132 multiprocessors with two groups each take at once (288 of 64 × 256 were three rounds, the
/// last of them a fifth full). Every output is the sum of the same products in the same order in all of them, and so has the same bits.
/// ptxas 11.8, sm_90: of bf16 weights the loop has 403 instructions for 108 <c>mma</c> in exact and 154 for 36 in fast, of float32 in exact 403 to 407 for 96; up to 255 registers, no spills,
/// two groups a multiprocessor, and of f16 exact four: fewer warps than before, each with 36 sums (f16 and f32 exact 16) that do not wait for each other.
/// Bank conflicts: none in the loop. A 16-byte piece p of row r of a plane or of 2-byte W, whose rows share 128 bytes by fours, lies at p ^ (r/4 mod 2); of f32 W, whose rows do in pairs, at
/// p ^ (r/2 mod 2)·2. A lane writes the two results that it has beside each other one at a time, because a row may start anywhere: each store touches sectors for half of them,
/// and the other half follows at once.
/// </remarks>
public static class GemmTensor
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 128;

    /// <summary>Words of a stage between two pieces of a thread.</summary>
    public const int PieceStep = 4 * GroupSize;

    /// <summary>Rows that a warp makes.</summary>
    private const int WarpRows = 64;

    private const int Warps = GroupSize / KernelMath.WarpSize;
    private const int Slice = 16;
    private const int Stages = 3;

    /// <summary>Words of 16 rows of a plane's slice, of two values each.</summary>
    private const int BlockWords = 16 * Slice / 2;

    /// <summary>Rows whose activations an encoder's group lists at a time.</summary>
    private const int ListedRows = 32;

    /// <summary>Rows of x that a group covers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int TileRows<TOperand>()
        where TOperand : struct, ITensorOperand => WarpRows * TOperand.RowWarps;

    /// <summary>Columns of results that a group covers, half of them gates in <see cref="Gated"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int TileColumns<TOperand>()
        where TOperand : struct, ITensorOperand => Warps / TOperand.RowWarps * 8 * TOperand.ColumnBlocks;

    /// <summary>y = x·Wᵀ.</summary>
    public static void Linear<TOperand>(
        ArrayView<uint> planes, ArrayView<uint> weight, ArrayView<float> destination, int rows, int columns, int outputs, int stride)
        where TOperand : struct, ITensorOperand
    {
        ArrayView<uint> shared = SharedMemory.Allocate1D<uint>(SharedWords<TOperand>());
        int first = Grid.IdxX * TileColumns<TOperand>();
        WarpTile tile = default;
        Multiply<TOperand>(planes, weight, shared, first, 0, outputs, rows, columns, ref tile);
        int row = FirstRow<TOperand>();
        int column = first + WarpColumn<TOperand>() + ((Group.IdxX & 3) * 2);
        WriteColumns(destination, tile.N0, row, column, rows, outputs, stride);
        WriteColumns(destination, tile.N1, row, column + 8, rows, outputs, stride);
        WriteColumns(destination, tile.N2, row, column + 16, rows, outputs, stride);
        WriteColumns(destination, tile.N3, row, column + 24, rows, outputs, stride);
        if (TOperand.ColumnBlocks > 4)
        {
            WriteColumns(destination, tile.N4, row, column + 32, rows, outputs, stride);
            WriteColumns(destination, tile.N5, row, column + 40, rows, outputs, stride);
            WriteColumns(destination, tile.N6, row, column + 48, rows, outputs, stride);
            WriteColumns(destination, tile.N7, row, column + 56, rows, outputs, stride);
        }

        if (TOperand.ColumnBlocks > 8)
            WriteColumns(destination, tile.N8, row, column + 64, rows, outputs, stride);
    }

    /// <summary>
    /// h = gelu(x·Gᵀ) ⊙ (x·Uᵀ), weight [2·outputs, columns] with G above U. Grid (⌈2·outputs/TileColumns⌉, ⌈rows/TileRows⌉): even columns
    /// of a tile are gates and odd ones their ups, so that both are in one thread.
    /// </summary>
    public static void Gated<TOperand>(
        ArrayView<uint> planes, ArrayView<uint> weight, ArrayView<float> destination, int rows, int columns, int outputs, int stride)
        where TOperand : struct, ITensorOperand
    {
        ArrayView<uint> shared = SharedMemory.Allocate1D<uint>(SharedWords<TOperand>());
        int first = Grid.IdxX * (TileColumns<TOperand>() / 2);
        WarpTile tile = default;
        Multiply<TOperand>(planes, weight, shared, first, outputs, outputs, rows, columns, ref tile);
        int row = FirstRow<TOperand>();
        int column = first + (WarpColumn<TOperand>() / 2) + (Group.IdxX & 3);
        WriteGated(destination, tile.N0, row, column, rows, outputs, stride);
        WriteGated(destination, tile.N1, row, column + 4, rows, outputs, stride);
        WriteGated(destination, tile.N2, row, column + 8, rows, outputs, stride);
        WriteGated(destination, tile.N3, row, column + 12, rows, outputs, stride);
        if (TOperand.ColumnBlocks > 4)
        {
            WriteGated(destination, tile.N4, row, column + 16, rows, outputs, stride);
            WriteGated(destination, tile.N5, row, column + 20, rows, outputs, stride);
            WriteGated(destination, tile.N6, row, column + 24, rows, outputs, stride);
            WriteGated(destination, tile.N7, row, column + 28, rows, outputs, stride);
        }

        if (TOperand.ColumnBlocks > 8)
            WriteGated(destination, tile.N8, row, column + 32, rows, outputs, stride);
    }

    /// <summary>
    /// The SAE encoder for many rows; see <see cref="SaeEncode.Tile"/>. Grid (⌈features/TileColumns⌉, ⌈rows/TileRows⌉); the activations of 32 rows at a time take the
    /// place of the slices in shared memory when the products are done.
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
        ArrayView<uint> shared = SharedMemory.Allocate1D<uint>(SharedWords<TOperand>());
        int first = Grid.IdxX * TileColumns<TOperand>();
        WarpTile tile = default;
        Multiply<TOperand>(planes, weight, shared, first, 0, featureCount, rows, columns, ref tile);
        ArrayView<float> activations = shared.Cast<float>();
        int row = Ptx.Once((Group.IdxX & 31) / 4);
        int n = Ptx.Once(WarpColumn<TOperand>() + ((Group.IdxX & 3) * 2));
        int pitch = SaeEncode.Pitch(TileColumns<TOperand>());
        for (int from = 0; from < TileRows<TOperand>(); from += ListedRows)
        {
            Group.Barrier();
            bool upper = (from & ListedRows) == 0;
            if (WarpRow<TOperand>() == (from & -WarpRows))
            {
                KeepColumns(activations, tile.N0, upper, bias, threshold, row, n, first, pitch, featureCount);
                KeepColumns(activations, tile.N1, upper, bias, threshold, row, n + 8, first, pitch, featureCount);
                KeepColumns(activations, tile.N2, upper, bias, threshold, row, n + 16, first, pitch, featureCount);
                KeepColumns(activations, tile.N3, upper, bias, threshold, row, n + 24, first, pitch, featureCount);
                if (TOperand.ColumnBlocks > 4)
                {
                    KeepColumns(activations, tile.N4, upper, bias, threshold, row, n + 32, first, pitch, featureCount);
                    KeepColumns(activations, tile.N5, upper, bias, threshold, row, n + 40, first, pitch, featureCount);
                    KeepColumns(activations, tile.N6, upper, bias, threshold, row, n + 48, first, pitch, featureCount);
                    KeepColumns(activations, tile.N7, upper, bias, threshold, row, n + 56, first, pitch, featureCount);
                }

                if (TOperand.ColumnBlocks > 8)
                    KeepColumns(activations, tile.N8, upper, bias, threshold, row, n + 64, first, pitch, featureCount);
            }

            Group.Barrier();
            SaeEncode.WriteLists(activations, TileColumns<TOperand>(), (Grid.IdxY * TileRows<TOperand>()) + from, ListedRows, GroupSize,
                rows, counts, offsets, features, values, cursor, capacity);
        }
    }

    // Warps: one or two down the rows, the others across the columns.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WarpRow<TOperand>()
        where TOperand : struct, ITensorOperand => TOperand.RowWarps == 1 ? 0 : Group.IdxX / (GroupSize / TOperand.RowWarps) * WarpRows;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int WarpColumn<TOperand>()
        where TOperand : struct, ITensorOperand =>
        (Group.IdxX / KernelMath.WarpSize & ((Warps / TOperand.RowWarps) - 1)) * (8 * TOperand.ColumnBlocks);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int FirstRow<TOperand>()
        where TOperand : struct, ITensorOperand =>
        (Grid.IdxY * TileRows<TOperand>()) + WarpRow<TOperand>() + ((Group.IdxX & 31) / 4);

    /// <summary>
    /// The products of a group's tile. With <paramref name="upOffset"/> 0, column n of the tile is output <paramref name="first"/> + n. Otherwise it is output first + n/2, the gate of it or,
    /// where n is odd, the up, which is in row upOffset + output of W; <paramref name="outputs"/> bounds the output.
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
        CopyPieces x = PiecesOfX<TOperand>(rows, columns), w = PiecesOfWeight<TOperand>(first, upOffset, outputs, columns);
        Copy<TOperand>(planes, weight, shared, 0, 0, x, w);
        Copy<TOperand>(planes, weight, shared, StageWords<TOperand>(), 1, x, w);
        // Where this lane's fragments begin in a stage.
        int lane = Ptx.Once(Group.IdxX & 31);
        int xFirst = Ptx.Once(HalfPlace(WarpRow<TOperand>() + (lane & 15), lane >> 4));
        int wFirst = Ptx.Once(XWords<TOperand>() + TOperand.FragmentAt(WarpColumn<TOperand>(), lane));
        int stage = 0;
        for (int s = 0; s < slices; s++)
        {
            Ptx.WaitForAllCopiesButOne();
            Group.Barrier();
            int to = Ptx.Once((stage == 0 ? 2 : stage - 1) * StageWords<TOperand>());
            Copy<TOperand>(planes, weight, shared, to, s + 2, x, w);
            int at = Ptx.Once(stage * StageWords<TOperand>());
            MultiplySlice<TOperand>(shared, Ptx.Once(at + xFirst), Ptx.Once(at + wFirst), ref tile);
            stage = stage == 2 ? 0 : stage + 1;
        }

        Ptx.WaitForAllCopies();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int PlaneWords<TOperand>()
        where TOperand : struct, ITensorOperand => TileRows<TOperand>() * Slice / 2;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int XWords<TOperand>()
        where TOperand : struct, ITensorOperand => TOperand.Terms * PlaneWords<TOperand>();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int StageWords<TOperand>()
        where TOperand : struct, ITensorOperand =>
        XWords<TOperand>() + (TileColumns<TOperand>() * Slice / TOperand.WeightsInWord);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int SharedWords<TOperand>()
        where TOperand : struct, ITensorOperand => Stages * StageWords<TOperand>();

    // Slice s of x and W into the stage at a word: of x a piece for each plane or, in fast, for each 64 rows of the one; of W as many as it has, the last of them for some of the threads.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Copy<TOperand>(
        ArrayView<uint> planes, ArrayView<uint> weight, ArrayView<uint> shared, int stage, int s, CopyPieces x, CopyPieces w)
        where TOperand : struct, ITensorOperand
    {
        int input = Ptx.Once(s * Slice);
        int xRows = Ptx.Once(input < x.Inputs ? x.Rows : 0), wRows = Ptx.Once(input < w.Inputs ? w.Rows : 0);
        long xFrom = Ptx.Once(x.Source + (input / 2)), wFrom = Ptx.Once(w.Source + (input / TOperand.WeightsInWord));
        int xTo = Ptx.Once(stage + x.Place), wTo = Ptx.Once(stage + w.Place);
        // The next piece is one of the same row in another plane, or 64 rows further.
        int xStep = TOperand.Terms > 1 ? 0 : WarpRows;
        CopyPiece(planes, shared, xFrom, x.Step, xTo, xRows, xStep, 0);
        if (TOperand.Terms > 1 || TOperand.RowWarps > 1)
            CopyPiece(planes, shared, xFrom, x.Step, xTo, xRows, xStep, 1);
        if (TOperand.Terms > 1)
            CopyPiece(planes, shared, xFrom, x.Step, xTo, xRows, xStep, 2);
        CopyWeight<TOperand>(weight, shared, wFrom, w.Step, wTo, wRows, 0);
        CopyWeight<TOperand>(weight, shared, wFrom, w.Step, wTo, wRows, 1);
        CopyWeight<TOperand>(weight, shared, wFrom, w.Step, wTo, wRows, 2);
        CopyWeight<TOperand>(weight, shared, wFrom, w.Step, wTo, wRows, 3);
        CopyWeight<TOperand>(weight, shared, wFrom, w.Step, wTo, wRows, 4);
        Ptx.CommitCopies();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void CopyWeight<TOperand>(
        ArrayView<uint> weight, ArrayView<uint> shared, long from, long step, int to, int rows, int n)
        where TOperand : struct, ITensorOperand
    {
        int left = (TileColumns<TOperand>() * TOperand.RowPieces) - (n * GroupSize);
        if (left >= GroupSize || Group.IdxX < left)
            CopyPiece(weight, shared, from, step, to, rows, GroupSize / TOperand.RowPieces, n);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void CopyPiece(
        ArrayView<uint> source, ArrayView<uint> shared, long from, long step, int to, int rows, int rowStep, int n) =>
        Ptx.CopyAsync(ref shared[to + (n * PieceStep)], ref source[from + (n * step)], n * rowStep < rows ? 16 : 0);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static CopyPieces PiecesOfX<TOperand>(int rows, int columns)
        where TOperand : struct, ITensorOperand
    {
        int n = Group.IdxX >> 1, piece = Group.IdxX & 1;
        int row = (Grid.IdxY * TileRows<TOperand>()) + n;
        return new CopyPieces
        {
            Source = Ptx.Once(((long)row * columns / 2) + (4 * piece)),
            Step = (TOperand.Terms > 1 ? rows : (long)WarpRows) * columns / 2,
            Place = HalfPlace(n, piece),
            Inputs = Ptx.Once(columns - (8 * piece)),
            Rows = Ptx.Once(rows - row),
        };
    }

    // A column of the tile is a row of W. Those of a thread's pieces are all even or all odd: all gates, or all ups.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static CopyPieces PiecesOfWeight<TOperand>(int first, int upOffset, int outputs, int columns)
        where TOperand : struct, ITensorOperand
    {
        int column = Group.IdxX / TOperand.RowPieces, piece = Group.IdxX & (TOperand.RowPieces - 1);
        int skipped = piece * (4 * TOperand.WeightsInWord), gated = upOffset > 0 ? 1 : 0;
        int output = first + (column >> gated);
        long row = output + ((column & gated) * (long)upOffset);
        return new CopyPieces
        {
            Source = Ptx.Once(((row * columns) + skipped) / TOperand.WeightsInWord),
            Step = (long)((GroupSize / TOperand.RowPieces) >> gated) * columns / TOperand.WeightsInWord,
            Place = XWords<TOperand>() + WeightPlace<TOperand>(column, piece),
            Inputs = Ptx.Once(columns - skipped),
            // Counted in columns of the tile.
            Rows = Ptx.Once((outputs - output) << gated),
        };
    }

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
        RowFragments x = default;
        x.M0 = LoadX<TOperand>(shared, x0);
        x.M1 = LoadX<TOperand>(shared, x0 + BlockWords);
        x.M2 = LoadX<TOperand>(shared, x0 + (2 * BlockWords));
        x.M3 = LoadX<TOperand>(shared, x0 + (3 * BlockWords));
        MultiplyPair<TOperand>(shared, w0, x, ref tile.N0, ref tile.N1);
        MultiplyPair<TOperand>(shared, w0 + step, x, ref tile.N2, ref tile.N3);
        if (TOperand.ColumnBlocks > 4)
        {
            MultiplyPair<TOperand>(shared, w0 + (2 * step), x, ref tile.N4, ref tile.N5);
            MultiplyPair<TOperand>(shared, w0 + (3 * step), x, ref tile.N6, ref tile.N7);
        }

        if (TOperand.ColumnBlocks > 8)
        {
            TOperand.LoadOne(shared, w0 + (4 * step), out WFragment last);
            MultiplyColumns<TOperand>(x, last, ref tile.N8);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MultiplyPair<TOperand>(ArrayView<uint> shared, int at, RowFragments x, ref ColumnSums first, ref ColumnSums second)
        where TOperand : struct, ITensorOperand
    {
        TOperand.LoadPair(shared, at, out WFragment left, out WFragment right);
        MultiplyColumns<TOperand>(x, left, ref first);
        MultiplyColumns<TOperand>(x, right, ref second);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MultiplyColumns<TOperand>(RowFragments x, WFragment w, ref ColumnSums sums)
        where TOperand : struct, ITensorOperand
    {
        sums.M0 = TOperand.MultiplyAdd(sums.M0, x.M0, w);
        sums.M1 = TOperand.MultiplyAdd(sums.M1, x.M1, w);
        sums.M2 = TOperand.MultiplyAdd(sums.M2, x.M2, w);
        sums.M3 = TOperand.MultiplyAdd(sums.M3, x.M3, w);
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
            x.Middle = Ptx.LoadMatrices(ref shared[at + PlaneWords<TOperand>()]);
            x.Low = Ptx.LoadMatrices(ref shared[at + (2 * PlaneWords<TOperand>())]);
        }

        return x;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteColumns(
        ArrayView<float> destination, ColumnSums sums, int row, int column, int rows, int outputs, int stride)
    {
        WriteBlock(destination, sums.M0, row, column, rows, outputs, stride);
        WriteBlock(destination, sums.M1, row + 16, column, rows, outputs, stride);
        WriteBlock(destination, sums.M2, row + 32, column, rows, outputs, stride);
        WriteBlock(destination, sums.M3, row + 48, column, rows, outputs, stride);
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
    private static void WriteGated(ArrayView<float> destination, ColumnSums sums, int row, int column, int rows, int outputs, int stride)
    {
        if (column >= outputs)
            return;
        WriteGates(destination, sums.M0, row, column, rows, stride);
        WriteGates(destination, sums.M1, row + 16, column, rows, stride);
        WriteGates(destination, sums.M2, row + 32, column, rows, stride);
        WriteGates(destination, sums.M3, row + 48, column, rows, stride);
    }

    // Gate and up of a row, then those of the eighth row below.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void WriteGates(ArrayView<float> destination, Float4 block, int row, int column, int rows, int stride)
    {
        if (row < rows)
            destination[((long)row * stride) + column] = KernelMath.Gelu(block.X) * block.Y;
        if (row + 8 < rows)
            destination[((long)(row + 8) * stride) + column] = KernelMath.Gelu(block.Z) * block.W;
    }

    // The upper or the lower 32 of a warp's rows.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void KeepColumns(
        ArrayView<float> shared, ColumnSums sums, bool upper, ArrayView<float> bias, ArrayView<float> threshold, int row, int n, int first,
        int pitch, int featureCount)
    {
        KeepBlock(shared, Choose(upper, sums.M0, sums.M2), bias, threshold, row, n, first, pitch, featureCount);
        KeepBlock(shared, Choose(upper, sums.M1, sums.M3), bias, threshold, row + 16, n, first, pitch, featureCount);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Choose(bool first, Float4 a, Float4 b) => new()
    {
        X = first ? a.X : b.X,
        Y = first ? a.Y : b.Y,
        Z = first ? a.Z : b.Z,
        W = first ? a.W : b.W,
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

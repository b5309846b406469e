using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>Sums of eighteen outputs, of eight rows each.</summary>
public struct RowSums18
{
#pragma warning disable CS1591 // Output by output.
    public RowSums A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R;
#pragma warning restore CS1591
}

/// <summary>Eight inputs of one row of x.</summary>
public struct Octet
{
    /// <summary>The first four.</summary>
    public Float4 First;

    /// <summary>The other four.</summary>
    public Float4 Last;
}

/// <summary>The same eight inputs of eight rows of x.</summary>
public struct RowOctets
{
#pragma warning disable CS1591 // Row n.
    public Octet R0, R1, R2, R3, R4, R5, R6, R7;
#pragma warning restore CS1591
}

/// <summary>The weights of a tile, in 16-byte pieces from the first of its first output on.</summary>
public struct RingSource
{
    /// <summary>The piece that is copied next, and its number in its row.</summary>
    public int At, Piece;

    /// <summary>From the first output of a pair to the second, from there to the next pair, and from the last output to this thread's next piece of the first.</summary>
    public int Second, Pair, Next;

    /// <summary>Pieces of a row; outputs of the tile that there are, of a gated tile twice its gates.</summary>
    public int Pieces, Outputs;
}

/// <summary>
/// y[t, r] = Σ_i x[t, i]·W[r, i] for up to 8 rows t and weights of two bytes, sm_80 and newer: <see cref="Gemv.EightRowsHalf"/> with its bits, and with
/// weights that wait in shared memory. Bound by reading W once: 2·out·in bytes, 16·out·in flops.
/// </summary>
/// <remarks>
/// A group of 128 threads makes eighteen outputs (or nine gates and their ups): 2,304 outputs are then 128 groups for 132 multiprocessors, and x, which a group
/// reads as a whole, comes once for eighteen. Thread t takes the 16-byte pieces t, t + 128, … of each output, as in <see cref="Gemv.Half"/>. The pieces
/// of three outputs are a stage; six stages of 6 KiB lie in shared memory (<c>cp.async</c>), and while one is multiplied at least four are under way, 6 KiB a warp
/// whatever the arithmetic does. A thread copies what it multiplies itself: there is no barrier of the group in the loop. Eight inputs of the eight rows, 64
/// values, stay in registers for all eighteen outputs, beside 144 sums: 254 or 255 registers, nothing spilled, two groups a multiprocessor. A piece of the eighteen outputs is 1,466 instructions of a
/// warp on sm_90, 1,152 of them <c>fma</c>.
/// Behind the loop the lanes of a warp exchange their sums through the warp's own part of the ring, 32 sums at a time, of which lane l then adds number l: 32 stores, 8 loads and 31 additions, a half of
/// what the tree of shuffles takes. The terms meet as in <see cref="Gemv.LaneSum"/>.
/// Eight values of x for 16 bytes of weights are two loads of 16 bytes, 32 bytes apart from lane to lane: each touches every sector of the L1 cache for half of it.
/// The results of a group are eighteen or nine values in each row; of <see cref="Split"/> a warp writes sixteen of two rows at once.
/// The ladder's last step is <see cref="Split"/>: the four warps of a group make 72 outputs of a quarter of the inputs, that which one warp takes in <see cref="Linear"/>, so that a group reads a quarter of x. Where x
/// does not fit into the L1 cache the groups of <see cref="Linear"/> ask the L2 cache for nearly as much x as weights: at 9,216 inputs and 2,304 outputs 37.7 beside 42.5 MB, here 9.4. The four groups of a
/// tile publish their sums, 9 KiB, and take a ticket (an integer <c>atom</c>, whose order does not show); the last one adds them in the order of the warps: same bits, for three accesses of the L2 cache one after the other.
/// </remarks>
public static class GemvRing
{
    /// <summary>Outputs of a group; of the gated form half as many.</summary>
    public const int TileColumns = 18;

    /// <summary>Outputs of the four groups of <see cref="Split"/>.</summary>
    public const int SplitColumns = Warps * TileColumns;

    private const int Warps = Gemv.GroupSize / KernelMath.WarpSize, StageOutputs = 3, Stages = TileColumns / StageOutputs;

    /// <summary>What a group of <see cref="Split"/> publishes: the eight rows of each output, one after the other.</summary>
    private const int SplitValues = 8 * SplitColumns;

    /// <summary>Words of all pieces of a warp.</summary>
    private const int WarpWords = TileColumns * KernelMath.WarpSize * 4;

    /// <summary>Words from a sum's terms to the next sum's: reads of 16 bytes by eight lanes then meet no bank twice.</summary>
    private const int TermPitch = 36;

    /// <summary>Where a warp's sums lie in its part, behind 32 sums' terms, and words from a row's to the next row's: a multiple of 4 that spreads eight rows over the banks.</summary>
    private const int SumsAt = 32 * TermPitch, SumPitch = 20;

    /// <summary>Launch as <see cref="Gemv.EightRowsHalf"/>, grid (⌈out/18⌉).</summary>
    public static void Linear<TWeight>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride, float cap)
        where TWeight : unmanaged, IHalfWeight<TWeight>
    {
        ArrayView<Words4> ring = SharedMemory.Allocate1D<Words4>(Warps * WarpWords / 4);
        int first = Grid.IdxX * TileColumns, octets = Ptx.Once(columns / 8);
        int thread = Ptx.Once(Thread());
        Dots<TWeight>(x, weight.SubView((long)first * octets), ring, thread / KernelMath.WarpSize, thread, octets, 2 * octets,
            outputs - first, rows, columns, xStride);
        ArrayView<float> sums = ring.Cast<float>();
        for (int n = Group.IdxX; n < 8 * TileColumns; n += Gemv.GroupSize)
        {
            int row = n / TileColumns, output = n - (row * TileColumns);
            if (row >= rows || first + output >= outputs)
                continue;
            float sum = WarpsSum(sums, (row * SumPitch) + output);
            destination[((long)row * stride) + first + output] = cap > 0f ? KernelMath.Softcap(sum, cap) : sum;
        }
    }

    /// <summary>Launch as <see cref="Gemv.EightRowsGatedHalf"/>, grid (⌈outputs/9⌉).</summary>
    public static void Gated<TWeight>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<float> destination, int rows, int columns, int outputs,
        int xStride, int stride)
        where TWeight : unmanaged, IHalfWeight<TWeight>
    {
        ArrayView<Words4> ring = SharedMemory.Allocate1D<Words4>(Warps * WarpWords / 4);
        int first = Grid.IdxX * (TileColumns / 2), octets = Ptx.Once(columns / 8);
        int thread = Ptx.Once(Thread());
        Dots<TWeight>(x, weight.SubView((long)first * octets), ring, thread / KernelMath.WarpSize, thread, outputs * octets, octets,
            2 * (outputs - first), rows, columns, xStride);
        ArrayView<float> sums = ring.Cast<float>();
        int row = Group.IdxX / (TileColumns / 2), gate = Group.IdxX - (row * (TileColumns / 2));
        if (row >= rows || first + gate >= outputs)
            return;
        int at = (row * SumPitch) + (2 * gate);
        destination[((long)row * stride) + first + gate] = KernelMath.Gelu(WarpsSum(sums, at)) * WarpsSum(sums, at + 1);
    }

    /// <summary>
    /// Launch as <see cref="Linear"/>, grid (4·⌈out/72⌉), static shared 36 KiB and 4 bytes: the four groups of 72 outputs take a quarter of the inputs each. <paramref name="parts"/> is room for 8·72 values a group, 16-byte aligned;
    /// <paramref name="tickets"/> is 0 for each 72 outputs, and is left so.
    /// </summary>
    public static void Split<TWeight>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<float> destination, ArrayView<float> parts, ArrayView<int> tickets,
        int rows, int columns, int outputs, int xStride, int stride)
        where TWeight : unmanaged, IHalfWeight<TWeight>
    {
        ArrayView<Words4> ring = SharedMemory.Allocate1D<Words4>(Warps * WarpWords / 4);
        ArrayView<int> ticket = SharedMemory.Allocate1D<int>(1);
        int tile = Grid.IdxX / Warps, quarter = Grid.IdxX & (Warps - 1);
        int lane = Group.IdxX & (KernelMath.WarpSize - 1), warp = Ptx.Once(Group.IdxX / KernelMath.WarpSize);
        int first = Ptx.Once((tile * SplitColumns) + (warp * TileColumns)), octets = Ptx.Once(columns / 8);
        Dots<TWeight>(x, weight.SubView((long)first * octets), ring, warp, (quarter * KernelMath.WarpSize) + lane, octets, 2 * octets,
            outputs - first, rows, columns, xStride);
        ArrayView<float> sums = ring.Cast<float>().SubView((warp * WarpWords) + SumsAt);
        int own = (Grid.IdxX * SplitValues) + (warp * (8 * TileColumns));
        for (int n = lane; n < 8 * TileColumns; n += KernelMath.WarpSize)
            Ptx.Publish(ref parts[own + n], sums[((n & 7) * SumPitch) + (n / 8)]);
        Group.Barrier();
        if (Group.IdxX == 0)
            ticket[0] = Ptx.Ticket(ref tickets[tile], Warps - 1);
        Group.Barrier();
        if (ticket[0] != Warps - 1)
            return;
        // 144 quads for 128 threads, all read at once.
        const int Quads = SplitValues / 4;
        int last = Math.Min(Group.IdxX + Gemv.GroupSize, Quads - 1);
        ArrayView<float> all = parts.SubView(tile * Warps * SplitValues);
        Float4 a = QuartersSum(all, Group.IdxX), b = QuartersSum(all, last);
        Write(destination, a, Group.IdxX, tile, rows, outputs, stride);
        if (Group.IdxX + Gemv.GroupSize < Quads)
            Write(destination, b, last, tile, rows, outputs, stride);
    }

    /// <summary>The sums of an output and of four rows, of the quarters in order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 QuartersSum(ArrayView<float> parts, int quad)
    {
        Float4 q0 = Ptx.Published4(ref parts[4 * quad]), q1 = Ptx.Published4(ref parts[SplitValues + (4 * quad)]),
            q2 = Ptx.Published4(ref parts[(2 * SplitValues) + (4 * quad)]), q3 = Ptx.Published4(ref parts[(3 * SplitValues) + (4 * quad)]);
        return Sum(Sum(Sum(q0, q1), q2), q3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Write(ArrayView<float> destination, Float4 sums, int quad, int tile, int rows, int outputs, int stride)
    {
        int row = 4 * (quad & 1), output = (tile * SplitColumns) + (quad / 2);
        if (output >= outputs)
            return;
        long at = ((long)row * stride) + output;
        if (row < rows)
            destination[at] = sums.X;
        if (row + 1 < rows)
            destination[at + stride] = sums.Y;
        if (row + 2 < rows)
            destination[at + (2L * stride)] = sums.Z;
        if (row + 3 < rows)
            destination[at + (3L * stride)] = sums.W;
    }

    /// <summary>
    /// The products; behind them each warp's sums are in its part of the ring, and all threads have met. From the first output of a pair to the second it is <paramref name="apart"/> pieces of the
    /// weights, to the next pair <paramref name="pair"/>. The thread's ring is that of <paramref name="warp"/>; it takes the pieces of <paramref name="thread"/>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Dots<TWeight>(
        ArrayView<Float4> x, ArrayView<Words4> weight, ArrayView<Words4> ring, int warp, int thread, int apart, int pair, int outputs,
        int rows, int columns, int xStride)
        where TWeight : unmanaged, IHalfWeight<TWeight>
    {
        int quads = Ptx.Once(xStride / 4), last = Ptx.Once((rows - 1) * quads);
        int lane = Ptx.Once(thread & (KernelMath.WarpSize - 1));
        ArrayView<Words4> part = ring.SubView(Ptx.Once(warp * (WarpWords / 4)));
        ArrayView<Words4> own = part.SubView(lane);
        var source = new RingSource
        {
            At = thread,
            Piece = thread,
            Second = Ptx.Once(apart),
            Pair = Ptx.Once(pair - apart),
            Next = Ptx.Once(Gemv.GroupSize - apart - (((TileColumns / 2) - 1) * pair)),
            Pieces = Ptx.Once(columns / 8),
            Outputs = Ptx.Once(outputs),
        };
        RowSums18 s = default;
        Copy(weight, own, ref source, 0);
        Copy(weight, own, ref source, 1);
        Copy(weight, own, ref source, 2);
        Copy(weight, own, ref source, 3);
        Copy(weight, own, ref source, 4);
        // No kernel writes weights: they may come while the launch before this one ends.
        Ptx.WaitForGrid();
        for (int i = thread; i < source.Pieces; i += Gemv.GroupSize)
        {
            RowOctets v = Load(x, 2 * i, last, quads);
            Ptx.WaitForAllCopiesButFour();
            Copy(weight, own, ref source, 5);
            Add<TWeight>(own, 0, v, ref s.A);
            Add<TWeight>(own, 1, v, ref s.B);
            Add<TWeight>(own, 2, v, ref s.C);
            // The lanes that have a piece. Without this the assembler moves the loads of x behind waits for weights that are used later, and spills.
            Ptx.Together(uint.MaxValue >> Math.Max(i - lane + KernelMath.WarpSize - source.Pieces, 0));
            Ptx.WaitForAllCopiesButFour();
            Copy(weight, own, ref source, 0);
            Add<TWeight>(own, 3, v, ref s.D);
            Add<TWeight>(own, 4, v, ref s.E);
            Add<TWeight>(own, 5, v, ref s.F);
            Ptx.WaitForAllCopiesButFour();
            Copy(weight, own, ref source, 1);
            Add<TWeight>(own, 6, v, ref s.G);
            Add<TWeight>(own, 7, v, ref s.H);
            Add<TWeight>(own, 8, v, ref s.I);
            Ptx.WaitForAllCopiesButFour();
            Copy(weight, own, ref source, 2);
            Add<TWeight>(own, 9, v, ref s.J);
            Add<TWeight>(own, 10, v, ref s.K);
            Add<TWeight>(own, 11, v, ref s.L);
            Ptx.WaitForAllCopiesButFour();
            Copy(weight, own, ref source, 3);
            Add<TWeight>(own, 12, v, ref s.M);
            Add<TWeight>(own, 13, v, ref s.N);
            Add<TWeight>(own, 14, v, ref s.O);
            Ptx.WaitForAllCopiesButFour();
            Copy(weight, own, ref source, 4);
            Add<TWeight>(own, 15, v, ref s.P);
            Add<TWeight>(own, 16, v, ref s.Q);
            Add<TWeight>(own, 17, v, ref s.R);
        }

        Ptx.WaitForAllCopies();
        AddLanes(part, lane, 0, s.A, s.B, s.C, s.D);
        AddLanes(part, lane, 4, s.E, s.F, s.G, s.H);
        AddLanes(part, lane, 8, s.I, s.J, s.K, s.L);
        AddLanes(part, lane, 12, s.M, s.N, s.O, s.P);
        // Two of them for the second time.
        AddLanes(part, lane, 14, s.O, s.P, s.Q, s.R);
        Group.Barrier();
    }

    /// <summary>
    /// The thread whose pieces this one takes: that of another warp from group to group, by the sum of the digits of the group's number to the base 4. Where the pieces are not the same number for
    /// each warp the first has more, and with it always the same scheduler would have more to do.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Thread()
    {
        int n = Grid.IdxX;
        int digits = n + (n >> 2) + (n >> 4) + (n >> 6) + (n >> 8) + (n >> 10) + (n >> 12) + (n >> 14);
        return (Group.IdxX + (digits * KernelMath.WarpSize)) & (Gemv.GroupSize - 1);
    }

    /// <summary>
    /// Starts the copy of a stage's three pieces. Nothing is read of outputs and pieces that are not there. Each place is made from the one before: made from their numbers they would all be kept in registers.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Copy(ArrayView<Words4> weight, ArrayView<Words4> own, ref RingSource source, int stage)
    {
        int left = Ptx.Once(source.Piece < source.Pieces ? source.Outputs : 0), output = stage * StageOutputs;
        CopyPiece(weight, own, ref source, left, output);
        CopyPiece(weight, own, ref source, left, output + 1);
        CopyPiece(weight, own, ref source, left, output + 2);
        if (stage == Stages - 1)
            source.Piece += Gemv.GroupSize;
        Ptx.CommitCopies();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void CopyPiece(ArrayView<Words4> weight, ArrayView<Words4> own, ref RingSource source, int left, int output)
    {
        Ptx.CopyAsync(ref own.SubView(output * KernelMath.WarpSize).Cast<uint>()[0], ref weight.SubView(source.At).Cast<uint>()[0],
            output < left ? 16 : 0);
        source.At += output == TileColumns - 1 ? source.Next : (output & 1) == 0 ? source.Second : source.Pair;
    }

    // Rows that are not there are computed from the last one and not written.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static RowOctets Load(ArrayView<Float4> x, int at, int last, int quads)
    {
        int most = at + last;
        int r1 = Math.Min(at + quads, most), r2 = Math.Min(r1 + quads, most), r3 = Math.Min(r2 + quads, most);
        int r4 = Math.Min(r3 + quads, most), r5 = Math.Min(r4 + quads, most), r6 = Math.Min(r5 + quads, most);
        return new RowOctets
        {
            R0 = LoadRow(x.SubView(at)),
            R1 = LoadRow(x.SubView(r1)),
            R2 = LoadRow(x.SubView(r2)),
            R3 = LoadRow(x.SubView(r3)),
            R4 = LoadRow(x.SubView(r4)),
            R5 = LoadRow(x.SubView(r5)),
            R6 = LoadRow(x.SubView(r6)),
            R7 = LoadRow(x.SubView(Math.Min(r6 + quads, most))),
        };
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Octet LoadRow(ArrayView<Float4> x) => new() { First = x[0], Last = x[1] };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add<TWeight>(ArrayView<Words4> own, int output, RowOctets v, ref RowSums s)
        where TWeight : unmanaged, IHalfWeight<TWeight>
    {
        Words4 words = own[output * KernelMath.WarpSize];
        Float4 first = Gemv.WidenFirst<TWeight>(words), last = Gemv.WidenLast<TWeight>(words);
        s.R0 = Dot(v.R0, first, last, s.R0);
        s.R1 = Dot(v.R1, first, last, s.R1);
        s.R2 = Dot(v.R2, first, last, s.R2);
        s.R3 = Dot(v.R3, first, last, s.R3);
        s.R4 = Dot(v.R4, first, last, s.R4);
        s.R5 = Dot(v.R5, first, last, s.R5);
        s.R6 = Dot(v.R6, first, last, s.R6);
        s.R7 = Dot(v.R7, first, last, s.R7);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Dot(Octet v, Float4 first, Float4 last, float sum) => Gemv.Dot(v.Last, last, Gemv.Dot(v.First, first, sum));

    /// <summary>Σ over the lanes of a warp of four outputs' sums; lane l adds those of output l/8 and row l mod 8.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddLanes(ArrayView<Words4> part, int lane, int firstOutput, RowSums a, RowSums b, RowSums c, RowSums d)
    {
        ArrayView<float> terms = part.Cast<float>(), to = terms.SubView(lane);
        // What this warp last read here is read.
        Warp.Barrier();
        Keep(to, a);
        Keep(to.SubView(8 * TermPitch), b);
        Keep(to.SubView(16 * TermPitch), c);
        Keep(to.SubView(24 * TermPitch), d);
        Warp.Barrier();
        ArrayView<Float4> quads = part.Cast<Float4>().SubView(Ptx.Once(lane * (TermPitch / 4)));
        Float4 even = Sum(Sum(quads[0], quads[4]), Sum(quads[2], quads[6]));
        Float4 odd = Sum(Sum(quads[1], quads[5]), Sum(quads[3], quads[7]));
        Float4 four = Sum(even, odd);
        terms.SubView(Ptx.Once(((lane & 7) * SumPitch) + (lane / 8)))[SumsAt + firstOutput] = (four.X + four.Z) + (four.Y + four.W);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Keep(ArrayView<float> to, RowSums s)
    {
        to[0] = s.R0;
        to[TermPitch] = s.R1;
        to[2 * TermPitch] = s.R2;
        to[3 * TermPitch] = s.R3;
        to[4 * TermPitch] = s.R4;
        to[5 * TermPitch] = s.R5;
        to[6 * TermPitch] = s.R6;
        to[7 * TermPitch] = s.R7;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float4 Sum(Float4 a, Float4 b) => new() { X = a.X + b.X, Y = a.Y + b.Y, Z = a.Z + b.Z, W = a.W + b.W };

    // The warps in order, as everywhere.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float WarpsSum(ArrayView<float> sums, int at)
    {
        float sum = sums[SumsAt + at];
        for (int w = 1; w < Warps; w++)
            sum += sums[(w * WarpWords) + SumsAt + at];
        return sum;
    }
}

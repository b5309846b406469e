using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>How a weight dtype and a precision meet the tensor cores.</summary>
public interface ITensorOperand
{
    /// <summary>Weights in a 32-bit word: 2 or 1.</summary>
    static abstract int WeightsInWord { get; }

    /// <summary>16-byte pieces in a weight row's slice of 16 values.</summary>
    static abstract int RowPieces { get; }

    /// <summary>Blocks of 8 columns that a warp makes: 9, 8 or 4.</summary>
    static abstract int ColumnBlocks { get; }

    /// <summary>Warps of a group, of 64 rows each, below each other: 1 or 2; all others are beside them.</summary>
    static abstract int RowWarps { get; }

    /// <summary>Terms that x is split into: 3 in exact, 1 in fast.</summary>
    static abstract int Terms { get; }

    /// <summary>The word of a slice of weights where a lane's part of the blocks from <paramref name="column"/> on begins.</summary>
    static abstract int FragmentAt(int column, int lane);

    /// <summary>Two neighbouring 16 × 8 blocks of Wᵀ, of which the lane's part begins at <paramref name="at"/>.</summary>
    static abstract void LoadPair(ArrayView<uint> shared, int at, out WFragment first, out WFragment second);

    /// <summary>The first of them.</summary>
    static abstract void LoadOne(ArrayView<uint> shared, int at, out WFragment only);

    /// <summary>
    /// sum + x·w over the terms that count, the smallest first. Exact: the products of 16 inputs are summed from zero on the tensor cores, which cut sums off, and
    /// added to the sum outside, where additions round to nearest; otherwise hundreds of cuts towards zero would add up (1.1·10⁻⁶ of Σ|x·w| at 168 inputs, growing).
    /// </summary>
    static abstract Float4 MultiplyAdd(Float4 sum, XFragment x, WFragment w);
}

/// <summary>An operand of attention.</summary>
public interface IAttendOperand : ITensorOperand
{
    /// <summary>
    /// <see cref="ITensorOperand.MultiplyAdd"/> of four blocks, a and b of one fragment, c and d of another or the same: the first product of each, then the second of each. The assembler keeps this order where registers are
    /// scarce, and puts a NOP between a product and the next that adds to it.
    /// </summary>
    static abstract void MultiplyAdd(
        ref Float4 a, ref Float4 b, ref Float4 c, ref Float4 d, XFragment xab, XFragment xcd, WFragment wa, WFragment wb,
        WFragment wc, WFragment wd);
}

/// <summary>Loading and splitting, shared by the operands.</summary>
public static class TensorFragments
{
    /// <summary>Words of eight rows of a slice of float32.</summary>
    public const int EightRows = 8 * 16;

    /// <summary>The word of values 2·(lane mod 4) and the next, in a row of a slice of float32; those 8 further lie at the word xor 8.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int PairAt(int row, int lane) => GemmTensor.Place(row, (lane & 3) >> 1) + ((lane & 1) * 2);

    /// <summary>
    /// Each value v as high + middle + low in bfloat16. A rounding to 8 bits leaves a difference that float32 holds exactly, so the third term has no error.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Split<TOperand>(Float2 v, out uint high, out uint middle, out uint low)
        where TOperand : struct, ITensorOperand
    {
        high = Ptx.PackBFloat16(v.X, v.Y);
        middle = 0;
        low = 0;
        if (TOperand.Terms > 1)
        {
            float x = v.X - BF16.Low(high), y = v.Y - BF16.High(high);
            middle = Ptx.PackBFloat16(x, y);
            low = Ptx.PackBFloat16(x - BF16.Low(middle), y - BF16.High(middle));
        }
    }

    /// <summary>The word that lane l names to <see cref="Ptx.LoadMatrices"/>: row l mod 8 of matrices (block 0, inputs 0–7), (block 0, 8–15), (block 1, 0–7), (block 1, 8–15).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int HalfMatrixAt(int column, int lane) =>
        GemmTensor.HalfPlace(column + (lane / 16 * 8) + (lane & 7), (lane >> 3) & 1);

    /// <summary>A 16 × 8 block of float32 weights, split.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static WFragment LoadFloat<TOperand>(ArrayView<uint> shared, int at)
        where TOperand : struct, ITensorOperand
    {
        WFragment w = default;
        Split<TOperand>(LoadPair(shared, at), out w.High0, out w.Middle0, out w.Low0);
        Split<TOperand>(LoadPair(shared, at ^ 8), out w.High1, out w.Middle1, out w.Low1);
        return w;
    }

    /// <summary>Sums of nothing.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 Zero() => new() { X = 0f, Y = 0f, Z = 0f, W = 0f };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Float2 LoadPair(ArrayView<uint> shared, int at)
    {
        ArrayView<float> values = shared.Cast<float>();
        return Ptx.LoadShared2(ref values[at]);
    }

    /// <summary>a + b, rounded to nearest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 Add(Float4 a, Float4 b) => new() { X = a.X + b.X, Y = a.Y + b.Y, Z = a.Z + b.Z, W = a.W + b.W };

    /// <summary>sum + x·w for one term of each.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 Product(Float4 sum, Words4 x, uint w0, uint w1) =>
        Ptx.MultiplyAddBFloat16(sum.X, sum.Y, sum.Z, sum.W, x.X, x.Y, x.Z, x.W, w0, w1);

    /// <summary>The same of two blocks that share a term of x: a by the first pair of words of W, b by the second.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Products(ref Float4 a, ref Float4 b, Words4 x, uint wa0, uint wa1, uint wb0, uint wb1)
    {
        a = Product(a, x, wa0, wa1);
        b = Product(b, x, wb0, wb1);
    }
}

/// <summary>bf16 weights, exact: the three terms of x.</summary>
public struct ExactBF16 : IAttendOperand
{
    /// <inheritdoc/>
    public static int WeightsInWord => 2;

    /// <inheritdoc/>
    public static int RowPieces => 2;

    /// <inheritdoc/>
    public static int ColumnBlocks => 9;

    /// <inheritdoc/>
    public static int RowWarps => 1;

    /// <inheritdoc/>
    public static int Terms => 3;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int FragmentAt(int column, int lane) => TensorFragments.HalfMatrixAt(column, lane);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadPair(ArrayView<uint> shared, int at, out WFragment first, out WFragment second)
    {
        Words4 words = Ptx.LoadMatrices(ref shared[at]);
        first = new WFragment { High0 = words.X, High1 = words.Y };
        second = new WFragment { High0 = words.Z, High1 = words.W };
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadOne(ArrayView<uint> shared, int at, out WFragment only)
    {
        Words2 words = Ptx.LoadTwoMatrices(ref shared[at]);
        only = new WFragment { High0 = words.X, High1 = words.Y };
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 MultiplyAdd(Float4 sum, XFragment x, WFragment w)
    {
        Float4 part = TensorFragments.Product(TensorFragments.Zero(), x.Low, w.High0, w.High1);
        part = TensorFragments.Product(part, x.Middle, w.High0, w.High1);
        return TensorFragments.Add(sum, TensorFragments.Product(part, x.High, w.High0, w.High1));
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void MultiplyAdd(
        ref Float4 a, ref Float4 b, ref Float4 c, ref Float4 d, XFragment xab, XFragment xcd, WFragment wa, WFragment wb,
        WFragment wc, WFragment wd)
    {
        Float4 pa = TensorFragments.Zero(), pb = TensorFragments.Zero(), pc = TensorFragments.Zero(), pd = TensorFragments.Zero();
        TensorFragments.Products(ref pa, ref pb, xab.Low, wa.High0, wa.High1, wb.High0, wb.High1);
        TensorFragments.Products(ref pc, ref pd, xcd.Low, wc.High0, wc.High1, wd.High0, wd.High1);
        TensorFragments.Products(ref pa, ref pb, xab.Middle, wa.High0, wa.High1, wb.High0, wb.High1);
        TensorFragments.Products(ref pc, ref pd, xcd.Middle, wc.High0, wc.High1, wd.High0, wd.High1);
        TensorFragments.Products(ref pa, ref pb, xab.High, wa.High0, wa.High1, wb.High0, wb.High1);
        TensorFragments.Products(ref pc, ref pd, xcd.High, wc.High0, wc.High1, wd.High0, wd.High1);
        a = TensorFragments.Add(a, pa);
        b = TensorFragments.Add(b, pb);
        c = TensorFragments.Add(c, pc);
        d = TensorFragments.Add(d, pd);
    }
}

/// <summary>bf16 weights, fast: x rounded to bf16.</summary>
public struct FastBF16 : IAttendOperand
{
    /// <inheritdoc/>
    public static int WeightsInWord => 2;

    /// <inheritdoc/>
    public static int RowPieces => 2;

    /// <inheritdoc/>
    public static int ColumnBlocks => 9;

    /// <inheritdoc/>
    public static int RowWarps => 2;

    /// <inheritdoc/>
    public static int Terms => 1;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int FragmentAt(int column, int lane) => TensorFragments.HalfMatrixAt(column, lane);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadPair(ArrayView<uint> shared, int at, out WFragment first, out WFragment second) =>
        ExactBF16.LoadPair(shared, at, out first, out second);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadOne(ArrayView<uint> shared, int at, out WFragment only) => ExactBF16.LoadOne(shared, at, out only);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 MultiplyAdd(Float4 sum, XFragment x, WFragment w) => TensorFragments.Product(sum, x.High, w.High0, w.High1);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void MultiplyAdd(
        ref Float4 a, ref Float4 b, ref Float4 c, ref Float4 d, XFragment xab, XFragment xcd, WFragment wa, WFragment wb,
        WFragment wc, WFragment wd)
    {
        a = MultiplyAdd(a, xab, wa);
        b = MultiplyAdd(b, xab, wb);
        c = MultiplyAdd(c, xcd, wc);
        d = MultiplyAdd(d, xcd, wd);
    }
}

/// <summary>
/// f16 weights, exact. An f16 has 11 significant bits and is not bf16, but exactly high (8 bits) + low (the rest, at most 3 bits): five products;
/// low·low is below 2⁻²⁴.
/// </summary>
public struct ExactF16 : ITensorOperand
{
    /// <inheritdoc/>
    public static int WeightsInWord => 2;

    /// <inheritdoc/>
    public static int RowPieces => 2;

    /// <inheritdoc/>
    public static int ColumnBlocks => 4;

    /// <inheritdoc/>
    public static int RowWarps => 1;

    /// <inheritdoc/>
    public static int Terms => 3;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int FragmentAt(int column, int lane) => TensorFragments.HalfMatrixAt(column, lane);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadPair(ArrayView<uint> shared, int at, out WFragment first, out WFragment second)
    {
        Words4 words = Ptx.LoadMatrices(ref shared[at]);
        first = default;
        second = default;
        Split(words.X, out first.High0, out first.Low0);
        Split(words.Y, out first.High1, out first.Low1);
        Split(words.Z, out second.High0, out second.Low0);
        Split(words.W, out second.High1, out second.Low1);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadOne(ArrayView<uint> shared, int at, out WFragment only)
    {
        Words2 words = Ptx.LoadTwoMatrices(ref shared[at]);
        only = default;
        Split(words.X, out only.High0, out only.Low0);
        Split(words.Y, out only.High1, out only.Low1);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 MultiplyAdd(Float4 sum, XFragment x, WFragment w)
    {
        Float4 part = TensorFragments.Product(TensorFragments.Zero(), x.Middle, w.Low0, w.Low1);
        part = TensorFragments.Product(part, x.Low, w.High0, w.High1);
        part = TensorFragments.Product(part, x.High, w.Low0, w.Low1);
        part = TensorFragments.Product(part, x.Middle, w.High0, w.High1);
        return TensorFragments.Add(sum, TensorFragments.Product(part, x.High, w.High0, w.High1));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Split(uint pair, out uint high, out uint low)
    {
        float x = F16.Low(pair), y = F16.High(pair);
        high = Ptx.PackBFloat16(x, y);
        low = Ptx.PackBFloat16(x - BF16.Low(high), y - BF16.High(high));
    }
}

/// <summary>f16 weights, fast: x and W rounded to bf16.</summary>
public struct FastF16 : ITensorOperand
{
    /// <inheritdoc/>
    public static int WeightsInWord => 2;

    /// <inheritdoc/>
    public static int RowPieces => 2;

    /// <inheritdoc/>
    public static int ColumnBlocks => 9;

    /// <inheritdoc/>
    public static int RowWarps => 2;

    /// <inheritdoc/>
    public static int Terms => 1;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int FragmentAt(int column, int lane) => TensorFragments.HalfMatrixAt(column, lane);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadPair(ArrayView<uint> shared, int at, out WFragment first, out WFragment second)
    {
        Words4 words = Ptx.LoadMatrices(ref shared[at]);
        first = new WFragment { High0 = Round(words.X), High1 = Round(words.Y) };
        second = new WFragment { High0 = Round(words.Z), High1 = Round(words.W) };
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadOne(ArrayView<uint> shared, int at, out WFragment only)
    {
        Words2 words = Ptx.LoadTwoMatrices(ref shared[at]);
        only = new WFragment { High0 = Round(words.X), High1 = Round(words.Y) };
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 MultiplyAdd(Float4 sum, XFragment x, WFragment w) => TensorFragments.Product(sum, x.High, w.High0, w.High1);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Round(uint pair) => Ptx.PackBFloat16(F16.Low(pair), F16.High(pair));
}

/// <summary>f32 weights, exact: the six products of three and three terms that are not below 2⁻²⁴.</summary>
public struct ExactF32 : IAttendOperand
{
    /// <inheritdoc/>
    public static int WeightsInWord => 1;

    /// <inheritdoc/>
    public static int RowPieces => 4;

    /// <inheritdoc/>
    public static int ColumnBlocks => 4;

    /// <inheritdoc/>
    public static int RowWarps => 1;

    /// <inheritdoc/>
    public static int Terms => 3;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int FragmentAt(int column, int lane) => TensorFragments.PairAt(column + (lane >> 2), lane);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadPair(ArrayView<uint> shared, int at, out WFragment first, out WFragment second)
    {
        first = TensorFragments.LoadFloat<ExactF32>(shared, at);
        second = TensorFragments.LoadFloat<ExactF32>(shared, at + TensorFragments.EightRows);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadOne(ArrayView<uint> shared, int at, out WFragment only) =>
        only = TensorFragments.LoadFloat<ExactF32>(shared, at);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 MultiplyAdd(Float4 sum, XFragment x, WFragment w)
    {
        Float4 part = TensorFragments.Product(TensorFragments.Zero(), x.Low, w.High0, w.High1);
        part = TensorFragments.Product(part, x.Middle, w.Middle0, w.Middle1);
        part = TensorFragments.Product(part, x.High, w.Low0, w.Low1);
        part = TensorFragments.Product(part, x.Middle, w.High0, w.High1);
        part = TensorFragments.Product(part, x.High, w.Middle0, w.Middle1);
        return TensorFragments.Add(sum, TensorFragments.Product(part, x.High, w.High0, w.High1));
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void MultiplyAdd(
        ref Float4 a, ref Float4 b, ref Float4 c, ref Float4 d, XFragment xab, XFragment xcd, WFragment wa, WFragment wb,
        WFragment wc, WFragment wd)
    {
        Float4 pa = TensorFragments.Zero(), pb = TensorFragments.Zero(), pc = TensorFragments.Zero(), pd = TensorFragments.Zero();
        TensorFragments.Products(ref pa, ref pb, xab.Low, wa.High0, wa.High1, wb.High0, wb.High1);
        TensorFragments.Products(ref pc, ref pd, xcd.Low, wc.High0, wc.High1, wd.High0, wd.High1);
        TensorFragments.Products(ref pa, ref pb, xab.Middle, wa.Middle0, wa.Middle1, wb.Middle0, wb.Middle1);
        TensorFragments.Products(ref pc, ref pd, xcd.Middle, wc.Middle0, wc.Middle1, wd.Middle0, wd.Middle1);
        TensorFragments.Products(ref pa, ref pb, xab.High, wa.Low0, wa.Low1, wb.Low0, wb.Low1);
        TensorFragments.Products(ref pc, ref pd, xcd.High, wc.Low0, wc.Low1, wd.Low0, wd.Low1);
        TensorFragments.Products(ref pa, ref pb, xab.Middle, wa.High0, wa.High1, wb.High0, wb.High1);
        TensorFragments.Products(ref pc, ref pd, xcd.Middle, wc.High0, wc.High1, wd.High0, wd.High1);
        TensorFragments.Products(ref pa, ref pb, xab.High, wa.Middle0, wa.Middle1, wb.Middle0, wb.Middle1);
        TensorFragments.Products(ref pc, ref pd, xcd.High, wc.Middle0, wc.Middle1, wd.Middle0, wd.Middle1);
        TensorFragments.Products(ref pa, ref pb, xab.High, wa.High0, wa.High1, wb.High0, wb.High1);
        TensorFragments.Products(ref pc, ref pd, xcd.High, wc.High0, wc.High1, wd.High0, wd.High1);
        a = TensorFragments.Add(a, pa);
        b = TensorFragments.Add(b, pb);
        c = TensorFragments.Add(c, pc);
        d = TensorFragments.Add(d, pd);
    }
}

/// <summary>f32 weights, fast: x and W rounded to bf16.</summary>
public struct FastF32 : IAttendOperand
{
    /// <inheritdoc/>
    public static int WeightsInWord => 1;

    /// <inheritdoc/>
    public static int RowPieces => 4;

    /// <inheritdoc/>
    public static int ColumnBlocks => 8;

    /// <inheritdoc/>
    public static int RowWarps => 2;

    /// <inheritdoc/>
    public static int Terms => 1;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int FragmentAt(int column, int lane) => TensorFragments.PairAt(column + (lane >> 2), lane);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadPair(ArrayView<uint> shared, int at, out WFragment first, out WFragment second)
    {
        first = TensorFragments.LoadFloat<FastF32>(shared, at);
        second = TensorFragments.LoadFloat<FastF32>(shared, at + TensorFragments.EightRows);
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadOne(ArrayView<uint> shared, int at, out WFragment only) =>
        only = TensorFragments.LoadFloat<FastF32>(shared, at);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Float4 MultiplyAdd(Float4 sum, XFragment x, WFragment w) => TensorFragments.Product(sum, x.High, w.High0, w.High1);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void MultiplyAdd(
        ref Float4 a, ref Float4 b, ref Float4 c, ref Float4 d, XFragment xab, XFragment xcd, WFragment wa, WFragment wb,
        WFragment wc, WFragment wd)
    {
        a = MultiplyAdd(a, xab, wa);
        b = MultiplyAdd(b, xab, wb);
        c = MultiplyAdd(c, xcd, wc);
        d = MultiplyAdd(d, xcd, wd);
    }
}

using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>The vector operations that kernels are made of, for one width: kernels are written once, over (S, V).</summary>
/// <typeparam name="V">The vector of float32 values.</typeparam>
/// <remarks>Each member is one or a few instructions; calls vanish, because S is a struct that the compiler knows.</remarks>
internal unsafe interface ISimd<V>
    where V : struct
{
    /// <summary>Number of float32 values in a vector.</summary>
    static abstract int Lanes { get; }

    /// <summary>Rows of the register tile of a matrix product (two vectors wide), as many as the registers hold.</summary>
    static abstract int TileRows { get; }

    static abstract V All(float value);

    static abstract V Load(float* source);

    /// <summary>Widens bfloat16 values, at any address.</summary>
    static abstract V LoadBf16(byte* source);

    /// <summary>Widens IEEE float16 values, at any address.</summary>
    static abstract V LoadF16(byte* source);

    /// <summary>Widens pairs of bfloat16 values: the first of each pair, and the second.</summary>
    static abstract void WidenBf16Pairs(V pairs, out V even, out V odd);

    /// <summary>Widens pairs of IEEE float16 values: the first of each pair, and the second.</summary>
    static abstract void WidenF16Pairs(V pairs, out V even, out V odd);

    /// <summary>
    /// The words of a pair of inputs (0 … 3) of a compact panel (<see cref="PanelLayout"/>): in each half the sign in bit 15, exponent and fraction in bits 10 … 0; what the bits between hold does not matter.
    /// </summary>
    static abstract V LoadCompact(byte* group, int pair);

    /// <summary>Widens such words, with <see cref="PanelWindow.Base"/> as the window: the first of each pair, and the second.</summary>
    static abstract void WidenCompact(V words, out V even, out V odd);

    /// <summary>Turns such words into pairs of bfloat16, with <see cref="PanelWindow.Base"/> as the window, and adds a constant to the bits of each value.</summary>
    static abstract V NarrowCompact(V words, ushort add);

    /// <summary>Rounds float64 values to float32, at any address.</summary>
    static abstract V LoadF64(byte* source);

    static abstract void Store(V value, float* destination);

    /// <summary>Rounds to the nearest bfloat16, ties to even, as a float32 whose lower half is 0. NaN stays NaN.</summary>
    static abstract V RoundBf16(V x);

    /// <summary>The upper halves of two vectors side by side in each lane, the first in the lower half: pairs of bfloat16.</summary>
    static abstract V PairBf16(V first, V second);

    /// <summary>Stores the upper halves, at any address.</summary>
    static abstract void StoreBf16(V value, ushort* destination);

    static abstract V Add(V a, V b);

    static abstract V Subtract(V a, V b);

    static abstract V Multiply(V a, V b);

    static abstract V Divide(V a, V b);

    static abstract V Sqrt(V x);

    /// <summary>a·b + c, rounded once where the machine can.</summary>
    static abstract V MultiplyAdd(V a, V b, V c);

    /// <summary>The smaller of a limit and x; x where x is NaN.</summary>
    static abstract V AtMost(V limit, V x);

    /// <summary>The larger of a limit and x; x where x is NaN.</summary>
    static abstract V AtLeast(V limit, V x);

    /// <summary>The larger of two; NaN where either is NaN.</summary>
    static abstract V Max(V a, V b);

    static abstract V Abs(V x);

    /// <summary>The absolute value of one with the sign of another.</summary>
    static abstract V CopySign(V magnitude, V sign);

    /// <summary>The nearest whole number, ties to even.</summary>
    static abstract V Round(V x);

    /// <summary>x · 2^n for whole n from −252 to 254, without overflow on the way.</summary>
    static abstract V Scale(V x, V n);

    /// <summary>Bit i is set where a_i &gt; b_i.</summary>
    static abstract uint GreaterMask(V a, V b);

    /// <summary>Bit i is set where a_i &gt; b_i or either is NaN.</summary>
    static abstract uint NotAtMostMask(V a, V b);

    /// <summary>The sum of the lanes, always in the same order.</summary>
    static abstract float Sum(V x);

    /// <summary>The largest lane; NaN if one is NaN.</summary>
    static abstract float MaxLane(V x);

    /// <summary>Stores four rows of as many values as lanes, <paramref name="stride"/> apart, as columns of four, <paramref name="columnStride"/> apart. Values are moved as bits.</summary>
    static abstract void TurnFour(float* rows, long stride, float* columns, long columnStride);

    /// <summary>
    /// Rounds four rows of as many values as lanes, <paramref name="stride"/> apart, to bfloat16 and stores for each two columns the four rows' pairs, <paramref name="pairStride"/> apart.
    /// </summary>
    static abstract void TurnBf16(float* rows, long stride, uint* pairs, long pairStride);

    /// <summary>Widens a block of as many rows as lanes, <paramref name="rowBytes"/> apart, and stores its columns as rows, <paramref name="stride"/> apart.</summary>
    static abstract void Transpose<E>(byte* source, long rowBytes, float* destination, long stride)
        where E : struct, IElement;

    /// <summary>
    /// Reads four words (16 bytes) of each of as many rows as lanes, <paramref name="rowBytes"/> apart, and gives the first words of all rows, the second, the third and the fourth.
    /// It may read whatever lies between the first row's first byte and the last row's last.
    /// </summary>
    static abstract void TransposeFour(byte* source, long rowBytes, out V first, out V second, out V third, out V fourth);
}

using System.Numerics;
using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution.Ops;

// Integer functions of PTX. Shifts clamp at the width, division by zero gives all ones (PTX leaves it open; that is what the hardware gives).

internal struct Add<T> : IVectorBinary<T>, IBinary<T, T, T>
    where T : unmanaged, INumber<T>
{
    public static Vector512<T> Of(Vector512<T> a, Vector512<T> b) => a + b;

    public static T Of(T a, T b) => unchecked(a + b);
}

internal struct Subtract<T> : IVectorBinary<T>, IBinary<T, T, T>
    where T : unmanaged, INumber<T>
{
    public static Vector512<T> Of(Vector512<T> a, Vector512<T> b) => a - b;

    public static T Of(T a, T b) => unchecked(a - b);
}

internal struct MultiplyLow<T> : IVectorBinary<T>, IBinary<T, T, T>
    where T : unmanaged, INumber<T>
{
    public static Vector512<T> Of(Vector512<T> a, Vector512<T> b) => a * b;

    public static T Of(T a, T b) => unchecked(a * b);
}

internal struct MultiplyAddLow<T> : IVectorTernary<T>, ITernary<T, T, T, T>
    where T : unmanaged, INumber<T>
{
    public static Vector512<T> Of(Vector512<T> a, Vector512<T> b, Vector512<T> c) => a * b + c;

    public static T Of(T a, T b, T c) => unchecked(a * b + c);
}

/// <summary>mul.wide: TR is twice as wide as T.</summary>
internal struct MultiplyWide<T, TR> : IBinary<T, T, TR>
    where T : unmanaged, IBinaryInteger<T>
    where TR : unmanaged, IBinaryInteger<TR>
{
    public static TR Of(T a, T b) => TR.CreateTruncating(a) * TR.CreateTruncating(b);
}

internal struct MultiplyAddWide<T, TR> : ITernary<T, T, TR, TR>
    where T : unmanaged, IBinaryInteger<T>
    where TR : unmanaged, IBinaryInteger<TR>
{
    public static TR Of(T a, T b, TR c) => unchecked(TR.CreateTruncating(a) * TR.CreateTruncating(b) + c);
}

/// <summary>mul.hi through a type TW of twice the width.</summary>
internal struct MultiplyHigh<T, TW> : IBinary<T, T, T>
    where T : unmanaged, IBinaryInteger<T>
    where TW : unmanaged, IBinaryInteger<TW>
{
    public static unsafe T Of(T a, T b) => T.CreateTruncating(TW.CreateTruncating(a) * TW.CreateTruncating(b) >> (sizeof(T) * 8));
}

internal struct MultiplyAddHigh<T, TW> : ITernary<T, T, T, T>
    where T : unmanaged, IBinaryInteger<T>
    where TW : unmanaged, IBinaryInteger<TW>
{
    public static T Of(T a, T b, T c) => unchecked(MultiplyHigh<T, TW>.Of(a, b) + c);
}

internal struct Divide<T> : IBinary<T, T, T>
    where T : unmanaged, IBinaryInteger<T>
{
    public static T Of(T a, T b) => b == T.Zero ? T.AllBitsSet : T.IsNegative(b) && b == T.Zero - T.One ? unchecked(T.Zero - a) : a / b;
}

internal struct Remainder<T> : IBinary<T, T, T>
    where T : unmanaged, IBinaryInteger<T>
{
    public static T Of(T a, T b) => b == T.Zero ? T.AllBitsSet : T.IsNegative(b) && b == T.Zero - T.One ? T.Zero : a % b;
}

internal struct Minimum<T> : IVectorBinary<T>, IBinary<T, T, T>
    where T : unmanaged, INumber<T>
{
    public static Vector512<T> Of(Vector512<T> a, Vector512<T> b) => Vector512.Min(a, b);

    public static T Of(T a, T b) => a < b ? a : b;
}

internal struct Maximum<T> : IVectorBinary<T>, IBinary<T, T, T>
    where T : unmanaged, INumber<T>
{
    public static Vector512<T> Of(Vector512<T> a, Vector512<T> b) => Vector512.Max(a, b);

    public static T Of(T a, T b) => a > b ? a : b;
}

internal struct Absolute<T> : IUnary<T, T>
    where T : unmanaged, IBinaryInteger<T>
{
    public static T Of(T a) => T.IsNegative(a) ? unchecked(T.Zero - a) : a;
}

internal struct Negate<T> : IUnary<T, T>
    where T : unmanaged, IBinaryInteger<T>
{
    public static T Of(T a) => unchecked(T.Zero - a);
}

internal struct And<T> : IVectorBinary<T>
    where T : unmanaged
{
    public static Vector512<T> Of(Vector512<T> a, Vector512<T> b) => a & b;
}

internal struct Or<T> : IVectorBinary<T>
    where T : unmanaged
{
    public static Vector512<T> Of(Vector512<T> a, Vector512<T> b) => a | b;
}

internal struct Xor<T> : IVectorBinary<T>
    where T : unmanaged
{
    public static Vector512<T> Of(Vector512<T> a, Vector512<T> b) => a ^ b;
}

internal struct Not<T> : IUnary<T, T>
    where T : unmanaged, IBinaryInteger<T>
{
    public static T Of(T a) => ~a;
}

internal struct LogicalNot<T> : IUnary<T, T>
    where T : unmanaged, IBinaryInteger<T>
{
    public static T Of(T a) => a == T.Zero ? T.One : T.Zero;
}

internal struct ShiftLeft<T> : IBinary<T, uint, T>
    where T : unmanaged, IBinaryInteger<T>
{
    public static unsafe T Of(T a, uint b) => b >= sizeof(T) * 8 ? T.Zero : a << (int)b;
}

internal struct ShiftRight<T> : IBinary<T, uint, T>
    where T : unmanaged, IBinaryInteger<T>
{
    public static unsafe T Of(T a, uint b) => b >= sizeof(T) * 8 ? (T.IsNegative(a) ? T.AllBitsSet : T.Zero) : a >> (int)b;
}

internal struct PopulationCount<T> : IUnary<T, uint>
    where T : unmanaged, IBinaryInteger<T>
{
    public static uint Of(T a) => uint.CreateTruncating(T.PopCount(a));
}

internal struct LeadingZeros<T> : IUnary<T, uint>
    where T : unmanaged, IBinaryInteger<T>
{
    public static uint Of(T a) => uint.CreateTruncating(T.LeadingZeroCount(a));
}

/// <summary>bfind: position of the highest bit that differs from the sign, or all ones.</summary>
internal struct FindBit<T> : IUnary<T, uint>
    where T : unmanaged, IBinaryInteger<T>
{
    public static unsafe uint Of(T a)
    {
        uint zeros = LeadingZeros<T>.Of(T.IsNegative(a) ? ~a : a);
        return zeros == sizeof(T) * 8 ? uint.MaxValue : (uint)(sizeof(T) * 8) - 1 - zeros;
    }
}

/// <summary>bfind.shiftamt: the shift that would bring that bit to the top.</summary>
internal struct FindBitShift<T> : IUnary<T, uint>
    where T : unmanaged, IBinaryInteger<T>
{
    public static unsafe uint Of(T a)
    {
        uint bit = FindBit<T>.Of(a);
        return bit == uint.MaxValue ? bit : (uint)(sizeof(T) * 8) - 1 - bit;
    }
}

internal struct ReverseBits32 : IUnary<uint, uint>
{
    public static uint Of(uint a)
    {
        a = (a >> 1 & 0x5555_5555) | (a & 0x5555_5555) << 1;
        a = (a >> 2 & 0x3333_3333) | (a & 0x3333_3333) << 2;
        a = (a >> 4 & 0x0F0F_0F0F) | (a & 0x0F0F_0F0F) << 4;
        return System.Buffers.Binary.BinaryPrimitives.ReverseEndianness(a);
    }
}

internal struct ReverseBits64 : IUnary<ulong, ulong>
{
    public static ulong Of(ulong a) => (ulong)ReverseBits32.Of((uint)a) << 32 | ReverseBits32.Of((uint)(a >> 32));
}

/// <summary>bfe: bits [position, position + length) of a; beyond the value's end its sign (signed) or zero.</summary>
internal struct ExtractBits<T> : ITernary<T, uint, uint, T>
    where T : unmanaged, IBinaryInteger<T>
{
    public static unsafe T Of(T a, uint b, uint c)
    {
        int width = sizeof(T) * 8;
        int position = (int)(b & 0xFF);
        int length = (int)(c & 0xFF);
        if (length == 0)
            return T.Zero;
        bool signed = T.IsNegative(T.AllBitsSet);
        int top = Math.Min(position + length - 1, width - 1);
        bool fill = signed && (a >> top & T.One) != T.Zero;
        T result = position >= width ? T.Zero : a >>> position;
        int kept = Math.Max(0, Math.Min(length, width - position));
        T mask = kept >= width ? T.AllBitsSet : (T.One << kept) - T.One;
        return fill ? result & mask | ~mask : result & mask;
    }
}

/// <summary>bfi: b with the low bits of a put at [position, position + length).</summary>
internal static class BitInsert
{
    public static T Of<T>(T a, T b, uint c, uint d)
        where T : unmanaged, IBinaryInteger<T>
    {
        int width = int.CreateTruncating(T.PopCount(T.AllBitsSet));
        int position = (int)(c & 0xFF);
        int length = (int)(d & 0xFF);
        if (length == 0 || position >= width)
            return b;
        T mask = length >= width ? T.AllBitsSet : (T.One << length) - T.One;
        return b & ~(mask << position) | (a & mask) << position;
    }
}

internal static class ByteFunctions
{
    /// <summary>prmt in its default mode: four selectors of 4 bits pick bytes of {b, a}; their top bit asks for the byte's sign.</summary>
    public static uint Permute(uint a, uint b, uint selector)
    {
        ulong bytes = (ulong)b << 32 | a;
        uint result = 0;
        for (int i = 0; i < 4; i++)
        {
            uint pick = selector >> (4 * i) & 15;
            uint value = (uint)(bytes >> (int)(8 * (pick & 7))) & 0xFF;
            if ((pick & 8) != 0)
                value = (value & 0x80) != 0 ? 0xFFu : 0;
            result |= value << (8 * i);
        }
        return result;
    }

    /// <summary>dp4a: c plus the dot product of four bytes, each operand signed or not.</summary>
    public static uint DotProduct(uint a, uint b, uint c, bool signedA, bool signedB)
    {
        for (int i = 0; i < 4; i++)
        {
            int x = signedA ? (sbyte)(a >> (8 * i)) : (byte)(a >> (8 * i));
            int y = signedB ? (sbyte)(b >> (8 * i)) : (byte)(b >> (8 * i));
            c = unchecked(c + (uint)(x * y));
        }
        return c;
    }

    /// <summary>lop3: for each bit, the entry of the table that the three operands' bits name.</summary>
    public static uint Lookup(uint a, uint b, uint c, uint table)
    {
        uint result = 0;
        for (int entry = 0; entry < 8; entry++)
            if ((table >> entry & 1) != 0)
                result |= ((entry & 4) != 0 ? a : ~a) & ((entry & 2) != 0 ? b : ~b) & ((entry & 1) != 0 ? c : ~c);
        return result;
    }

    /// <summary>shf: the 64 bits {b, a} shifted; left keeps the upper word, right the lower.</summary>
    public static uint Funnel(uint a, uint b, uint shift, bool left, bool wrap)
    {
        int n = (int)(wrap ? shift & 31 : Math.Min(shift, 32));
        ulong both = (ulong)b << 32 | a;
        return left ? (uint)(both << n >> 32) : (uint)(both >> n);
    }
}

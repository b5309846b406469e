namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>cvt between all numeric types: rounding, limits, sign extension.</summary>
public class ConversionTests
{
    private static readonly float[] Floats =
    [
        0f, -0f, 0.5f, 1.5f, -0.5f, -1.5f, 2.5f, 127.5f, 128f, -128.5f, -129f, 255.5f, 256f, 32767.5f, 65535.9f, 2147483520f,
            2147483648f, -2147483648f, 4294967040f, 4294967296f,
        9.223372e18f, 1.8446744e19f, 3e38f, float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.Epsilon, 65504f,
            65519f, 65520f, 5.9e-8f, 2.9e-8f, 1.00390625f, 1.01171875f,
    ];

    public static TheoryData<string, Func<float, uint>> FromSingle { get; } = new()
    {
        { "cvt.rzi.s32.f32 %r13, %f10;", x => (uint)(int)Limit(Math.Truncate(x), int.MinValue, int.MaxValue) },
        { "cvt.rni.s32.f32 %r13, %f10;", x => (uint)(int)Limit(Math.Round(x, MidpointRounding.ToEven), int.MinValue, int.MaxValue) },
        { "cvt.rmi.s32.f32 %r13, %f10;", x => (uint)(int)Limit(Math.Floor(x), int.MinValue, int.MaxValue) },
        { "cvt.rpi.u32.f32 %r13, %f10;", x => (uint)Limit(Math.Ceiling(x), 0, uint.MaxValue) },
        { "cvt.rzi.u16.f32 %rs13, %f10;\n cvt.u32.u16 %r13, %rs13;", x => (uint)Limit(Math.Truncate(x), 0, 65535) },
        { "cvt.rzi.u8.f32 %rs13, %f10;\n cvt.u32.u16 %r13, %rs13;", x => (uint)Limit(Math.Truncate(x), 0, 255) },
        { "cvt.rzi.s8.f32 %r13, %f10;", x => (uint)(sbyte)Limit(Math.Truncate(x), -128, 127) },
        { "cvt.rn.f16.f32 %rs13, %f10;\n cvt.u32.u16 %r13, %rs13;", x => Half.IsNaN((Half)x) ? 0x7FFFu
            : BitConverter.HalfToUInt16Bits((Half)x) },
        { "cvt.rn.bf16.f32 %rs13, %f10;\n cvt.u32.u16 %r13, %rs13;", BFloat16 },
        { "cvt.rn.bf16x2.f32 %r13, %f10, %f11;", x => BFloat16(x) << 16 },
        { "cvt.rn.f16x2.f32 %r13, %f11, %f10;", x => Half.IsNaN((Half)x) ? 0x7FFFu : BitConverter.HalfToUInt16Bits((Half)x) },
        { "cvt.rz.bf16.f32 %rs13, %f10;\n cvt.u32.u16 %r13, %rs13;", x => float.IsNaN(x) ? 0x7FFFu
            : BitConverter.SingleToUInt32Bits(x) >> 16 },
        { "cvt.rn.relu.bf16x2.f32 %r13, %f10, %f11;", x => x < 0 ? 0
            : (x == 0 ? BitConverter.SingleToUInt32Bits(x) >> 16 : BFloat16(x)) << 16 },
        { "cvt.rna.tf32.f32 %r13, %f10;", x => float.IsNaN(x) ? 0x7FFF_FFFFu : float.IsInfinity(x) ? BitConverter.SingleToUInt32Bits(x)
            : (BitConverter.SingleToUInt32Bits(x) + 0x1000) & ~0x1FFFu },
        { "cvt.f64.f32 %fd13, %f10;\n cvt.rn.f32.f64 %f13, %fd13;\n mov.b32 %r13, %f13;", x => float.IsNaN(x) ? 0x7FFF_FFFFu
            : BitConverter.SingleToUInt32Bits(x) },
    };

    [Theory]
    [MemberData(nameof(FromSingle))]
    public void Single_is_converted_as_the_manual_says(string instruction, Func<float, uint> expected)
    {
        uint[] actual = PtxTest.Map32(instruction, [.. Floats.Select(BitConverter.SingleToUInt32Bits)]);
        for (int i = 0; i < Floats.Length; i++)
            Assert.True(expected(Floats[i]) == actual[i],
                $"{instruction} of {Floats[i]:R}: 0x{actual[i]:X}, expected 0x{expected(Floats[i]):X}");
    }

    public static TheoryData<string, Func<uint, uint>> FromWord { get; } = new()
    {
        { "cvt.rn.f32.s32 %f13, %r10;\n mov.b32 %r13, %f13;", x => BitConverter.SingleToUInt32Bits((int)x) },
        { "cvt.rn.f32.u32 %f13, %r10;\n mov.b32 %r13, %f13;", x => BitConverter.SingleToUInt32Bits(x) },
        { "cvt.rz.f32.u32 %f13, %r10;\n mov.b32 %r13, %f13;", x => Directed(x, up: false) },
        { "cvt.rp.f32.u32 %f13, %r10;\n mov.b32 %r13, %f13;", x => Directed(x, up: true) },
        { "cvt.s32.s8 %r13, %r10;", x => (uint)(sbyte)x },
        { "cvt.u32.u8 %r13, %rs10;", x => (byte)x },
        { "cvt.s32.s16 %r13, %rs10;", x => (uint)(short)x },
        { "cvt.s16.s8 %rs13, %rs10;\n cvt.u32.u16 %r13, %rs13;", x => (ushort)(sbyte)x },
        { "cvt.s8.s32 %r13, %r10;", x => (uint)(sbyte)x },
        { "cvt.u16.u32 %rs13, %r10;\n cvt.u32.u16 %r13, %rs13;", x => (ushort)x },
        { "cvt.sat.s16.s32 %r13, %r10;", x => (uint)Math.Clamp((int)x, short.MinValue, short.MaxValue) },
        { "cvt.sat.u8.s32 %r13, %r10;", x => (uint)Math.Clamp((int)x, 0, 255) },
        { "cvt.sat.u32.s32 %r13, %r10;", x => (int)x < 0 ? 0 : x },
        { "cvt.f32.f16 %f13, %rs10;\n mov.b32 %r13, %f13;", x => Half.IsNaN(BitConverter.UInt16BitsToHalf((ushort)x)) ? 0x7FFF_FFFFu
            : BitConverter.SingleToUInt32Bits((float)BitConverter.UInt16BitsToHalf((ushort)x)) },
        { "cvt.f32.bf16 %f13, %rs10;\n mov.b32 %r13, %f13;", x => float.IsNaN(BitConverter.UInt32BitsToSingle(x << 16)) ? 0x7FFF_FFFFu
            : x << 16 },
        { "cvt.rn.f16.s32 %rs13, %r10;\n cvt.u32.u16 %r13, %rs13;", x => BitConverter.HalfToUInt16Bits((Half)(double)(int)x) },
    };

    [Theory]
    [MemberData(nameof(FromWord))]
    public void Word_is_converted_as_the_manual_says(string instruction, Func<uint, uint> expected)
    {
        uint[] words =
            [0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FF80, 0xFFFF_FF7F,
                16777217, 16777219, 0x1234_5678, 0x7C01, 0x3C00, 0x0001, 0x7F81];
        uint[] actual = PtxTest.Map32(instruction, words);
        for (int i = 0; i < words.Length; i++)
            Assert.True(expected(words[i]) == actual[i],
                $"{instruction} of 0x{words[i]:X}: 0x{actual[i]:X}, expected 0x{expected(words[i]):X}");
    }

    public static TheoryData<string, Func<ulong, ulong>> FromLong { get; } = new()
    {
        { "cvt.s64.s32 %rd13, %r10;", x => (ulong)(int)x },
        { "cvt.u64.u32 %rd13, %r10;", x => (uint)x },
        { "cvt.u32.u64 %r13, %rd10;\n cvt.u64.u32 %rd13, %r13;", x => (uint)x },
        { "cvt.rn.f32.s64 %f13, %rd10;\n mov.b32 %r13, %f13;\n cvt.u64.u32 %rd13, %r13;", x => BitConverter.SingleToUInt32Bits((long)x) },
        { "cvt.rz.f32.u64 %f13, %rd10;\n mov.b32 %r13, %f13;\n cvt.u64.u32 %rd13, %r13;",
            x => BitConverter.SingleToUInt32Bits((UInt128)(double)(float)x > x ? MathF.BitDecrement(x) : x) },
        { "cvt.rn.f64.u64 %fd13, %rd10;\n mov.b64 %rd13, %fd13;", x => BitConverter.DoubleToUInt64Bits(x) },
        { "cvt.rz.f64.u64 %fd13, %rd10;\n cvt.rzi.u64.f64 %rd13, %fd13;", x => x >> 53 == 0 ? x
            : x & ~((1UL << (11 - System.Numerics.BitOperations.LeadingZeroCount(x))) - 1) },
        { "cvt.rzi.s64.f32 %rd13, %f10;", x => Truncated(BitConverter.UInt32BitsToSingle((uint)x)) },
        { "cvt.rzi.s64.f64 %rd13, %fd10;", x => Truncated(BitConverter.UInt64BitsToDouble(x)) },
    };

    [Theory]
    [MemberData(nameof(FromLong))]
    public void Long_is_converted_as_the_manual_says(string instruction, Func<ulong, ulong> expected)
    {
        ulong[] longs =
            [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0001, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, ulong.MaxValue,
                0x0100_0001_0000_0001, 0x3F80_0000, 0xDF00_0000, 0x7FC0_0000, 0x43E0_0000_0000_0000];
        ulong[] actual = PtxTest.Map64(instruction, longs);
        for (int i = 0; i < longs.Length; i++)
            Assert.True(expected(longs[i]) == actual[i],
                $"{instruction} of 0x{longs[i]:X}: 0x{actual[i]:X}, expected 0x{expected(longs[i]):X}");
    }

    private static double Limit(double x, double least, double most) => double.IsNaN(x) ? 0 : Math.Clamp(x, least, most);

    private static uint Directed(uint x, bool up)
    {
        float nearest = x;
        double exact = x;
        if (up ? nearest < exact : nearest > exact)
            nearest = up ? MathF.BitIncrement(nearest) : MathF.BitDecrement(nearest);
        return BitConverter.SingleToUInt32Bits(nearest);
    }

    private static ulong Truncated(double x) =>
        double.IsNaN(x) ? 0 : x >= 9.2233720368547758e18 ? long.MaxValue : x <= -9.2233720368547758e18 ? 1UL << 63 : (ulong)(long)x;

    /// <summary>Nearest bfloat16, ties to even, by searching both neighbours.</summary>
    private static uint BFloat16(float x)
    {
        if (float.IsNaN(x))
            return 0x7FFF;
        uint low = BitConverter.SingleToUInt32Bits(x) >> 16;
        if (float.IsInfinity(x))
            return low;
        double below = Math.Abs((double)x - BitConverter.UInt32BitsToSingle(low << 16));
        double high = low + 1 == 0x7F80 || low + 1 == 0xFF80 ? Math.CopySign(Math.Pow(2, 128), x)
            : BitConverter.UInt32BitsToSingle(low + 1 << 16);
        double above = Math.Abs(x - high);
        return below < above || (below == above && (low & 1) == 0) ? low : low + 1;
    }
}

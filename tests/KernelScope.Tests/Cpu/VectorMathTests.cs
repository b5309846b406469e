using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using KernelScope.Cpu;
using KernelScope.Numerics;

namespace KernelScope.Tests.Cpu;

/// <summary>The vector functions against double arithmetic, over many values of every size.</summary>
public unsafe class VectorMathTests
{
    public static TheoryData<int> Widths()
    {
        TheoryData<int> widths = [128];
        if (Avx2.IsSupported && Fma.IsSupported)
            widths.Add(256);
        if (Vector512.IsHardwareAccelerated)
            widths.Add(512);
        return widths;
    }

    [Theory]
    [MemberData(nameof(Widths))]
    public void Exp_is_exact_to_two_units_in_the_last_place(int width)
    {
        for (float x = -103; x < 88.7f; x += 0.0137f)
        {
            double expected = Math.Exp(x);
            double ulp = Math.Max(expected * Math.Pow(2, -23), float.Epsilon);
            Assert.InRange(Apply(width, Function.Exp, x), expected - (2 * ulp), expected + (2 * ulp));
        }

        Assert.Equal(0, Apply(width, Function.Exp, -110));
        Assert.Equal(0, Apply(width, Function.Exp, float.NegativeInfinity));
        Assert.Equal(1, Apply(width, Function.Exp, 0));
        Assert.Equal(float.PositiveInfinity, Apply(width, Function.Exp, 88.8f));
        Assert.Equal(float.PositiveInfinity, Apply(width, Function.Exp, float.PositiveInfinity));
        Assert.True(float.IsNaN(Apply(width, Function.Exp, float.NaN)));
    }

    [Theory]
    [MemberData(nameof(Widths))]
    public void Softcap_keeps_relative_accuracy_from_the_smallest_to_the_largest_score(int width)
    {
        for (double size = 1e-30; size < 1e6; size *= 1.013)
        {
            foreach (float x in (float[])[(float)size, -(float)size])
            {
                double expected = 30 * Math.Tanh(x / 30.0);
                Assert.Equal(expected, Apply(width, Function.Softcap, x), Math.Abs(expected) * 5e-7);
            }
        }

        Assert.Equal(30, Apply(width, Function.Softcap, float.PositiveInfinity));
        Assert.Equal(-30, Apply(width, Function.Softcap, float.NegativeInfinity));
        Assert.True(float.IsNaN(Apply(width, Function.Softcap, float.NaN)));
    }

    [Theory]
    [MemberData(nameof(Widths))]
    public void Gelu_is_the_tanh_form(int width)
    {
        for (float z = -14; z < 14; z += 0.0031f)
        {
            // ½(1 + tanh u) = 1/(1 + exp(−2u)); the left side has no digits left in double below −7.
            double expected = z / (1 + Math.Exp(-2 * Math.Sqrt(2 / Math.PI) * (z + (0.044715 * z * z * z))));
            // Where exp(−2u) overflows, |z|·e^(2u) < 5·10⁻³⁸ becomes 0.
            // Three roundings of the exponent 2u, which make a relative error of |2u|·2⁻²⁴ each, and four of the result.
            double exponent = Math.Abs(2 * Math.Sqrt(2 / Math.PI) * (z + (0.044715 * z * z * z)));
            Assert.Equal(expected, Apply(width, Function.Gelu, z), (Math.Abs(expected) * (4 + (3 * exponent)) * Math.Pow(2, -24)) + 5e-38);
        }

        Assert.Equal(float.PositiveInfinity, Apply(width, Function.Gelu, float.PositiveInfinity));
        Assert.True(float.IsNaN(Apply(width, Function.Gelu, float.NegativeInfinity)));
        Assert.True(float.IsNaN(Apply(width, Function.Gelu, float.NaN)));
        Assert.Equal(1e20f, Apply(width, Function.Gelu, 1e20f));
        Assert.Equal(0, Apply(width, Function.Gelu, -1e20f));
    }

    [Theory]
    [MemberData(nameof(Widths))]
    public void Every_float16_widens_to_its_value(int width)
    {
        ushort* bits = stackalloc ushort[16];
        float* wide = stackalloc float[16];
        for (int code = 0; code <= ushort.MaxValue; code++)
        {
            bits[0] = (ushort)code;
            switch (width)
            {
                case 512: Simd512.Store(Simd512.LoadF16((byte*)bits), wide); break;
                case 256: Simd256.Store(Simd256.LoadF16((byte*)bits), wide); break;
                default: Simd128.Store(Simd128.LoadF16((byte*)bits), wide); break;
            }

            float expected = (float)BitConverter.UInt16BitsToHalf((ushort)code);
            Assert.True(float.IsNaN(expected) ? float.IsNaN(wide[0])
                : BitConverter.SingleToInt32Bits(expected) == BitConverter.SingleToInt32Bits(wide[0]), $"{code:x4} gave {wide[0]:g9}");
        }
    }

    /// <summary>Every upper half with lower halves around the ties.</summary>
    [Theory]
    [MemberData(nameof(Widths))]
    public void Rounding_to_bfloat16_is_that_of_the_files(int width)
    {
        for (uint upper = 0; upper <= ushort.MaxValue; upper++)
        {
            foreach (uint lower in (uint[])[0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
            {
                float x = BitConverter.UInt32BitsToSingle((upper << 16) | lower);
                uint expected = (uint)((BFloat16)x).Bits << 16,
                    actual = BitConverter.SingleToUInt32Bits(Apply(width, Function.RoundBf16, x));
                Assert.True(expected == actual, $"{upper:x4}{lower:x4} gave {actual:x8}");
            }
        }
    }

    private enum Function
    {
        Exp,
        Softcap,
        Gelu,
        RoundBf16,
    }

    private static float Apply(int width, Function function, float x) => width switch
    {
        512 => Apply<Simd512, Vector512<float>>(function, x),
        256 => Apply<Simd256, Vector256<float>>(function, x),
        _ => Apply<Simd128, Vector128<float>>(function, x),
    };

    private static float Apply<S, V>(Function function, float x)
        where S : struct, ISimd<V>
        where V : struct
    {
        float* lanes = stackalloc float[16];
        S.Store(function switch
        {
            Function.Exp => VectorMath<S, V>.Exp(S.All(x)),
            Function.Softcap => VectorMath<S, V>.Softcap(S.All(x), S.All(30)),
            Function.RoundBf16 => S.RoundBf16(S.All(x)),
            _ => VectorMath<S, V>.Gelu(S.All(x)),
        }, lanes);
        return lanes[S.Lanes - 1];
    }
}

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>Float instructions against C# and exact arithmetic, over NaN, infinities, subnormals and ties.</summary>
public class FloatTests
{
    private const uint Nan = 0x7FFF_FFFF;

    private static readonly float[] Edges =
    [
        0f, -0f, 1f, -1f, 0.5f, 1.5f, 2.5f, -2.5f, 3f, 1f / 3, float.Epsilon, -float.Epsilon, 1.17549435e-38f, 1.1754942e-38f,
            float.MaxValue, float.MinValue,
        float.PositiveInfinity, float.NegativeInfinity, float.NaN, 16777216f, 16777217f, 0.99999994f, 1.0000001f, 1e-20f,
            1e20f, 123.456f, 88.7f, -103.5f,
    ];

    public static TheoryData<string, Func<float, float, float, float>> Exact { get; } = new()
    {
        { "add.f32 %f13, %f10, %f11;", (a, b, _) => a + b },
        { "add.rn.f32 %f13, %f10, %f11;", (a, b, _) => a + b },
        { "sub.f32 %f13, %f10, %f11;", (a, b, _) => a - b },
        { "mul.f32 %f13, %f10, %f11;", (a, b, _) => a * b },
        { "mul.rn.f32 %f13, %f10, %f11;", (a, b, _) => a * b },
        { "fma.rn.f32 %f13, %f10, %f11, %f12;", MathF.FusedMultiplyAdd },
        { "mad.rn.f32 %f13, %f10, %f11, %f12;", MathF.FusedMultiplyAdd },
        { "mul.f32 %f20, %f10, %f11;\n add.f32 %f13, %f20, %f12;", (a, b, c) => (float)(a * b) + c },
        { "div.rn.f32 %f13, %f10, %f11;", (a, b, _) => a / b },
        { "div.approx.f32 %f13, %f10, %f11;", (a, b, _) => a / b },
        { "rcp.rn.f32 %f13, %f10;", (a, _, _) => 1 / a },
        { "sqrt.rn.f32 %f13, %f10;", (a, _, _) => MathF.Sqrt(a) },
        { "rsqrt.approx.f32 %f13, %f10;", (a, _, _) => (float)(1 / Math.Sqrt(a)) },
        { "ex2.approx.f32 %f13, %f10;", (a, _, _) => (float)Math.Pow(2, a) },
        { "lg2.approx.f32 %f13, %f10;", (a, _, _) => (float)Math.Log2(a) },
        { "min.f32 %f13, %f10, %f11;", (a, b, _) => float.MinNumber(a, b) },
        { "max.f32 %f13, %f10, %f11;", (a, b, _) => float.MaxNumber(a, b) },
        { "min.NaN.f32 %f13, %f10, %f11;", (a, b, _) => MathF.Min(a, b) },
        { "add.ftz.f32 %f13, %f10, %f11;", (a, b, _) => Flush(Flush(a) + Flush(b)) },
        { "mul.ftz.f32 %f13, %f10, %f11;", (a, b, _) => Flush(Flush(a) * Flush(b)) },
        { "add.sat.f32 %f13, %f10, %f11;", (a, b, _) => Saturate(a + b) },
        { "fma.rn.ftz.sat.f32 %f13, %f10, %f11, %f12;",
            (a, b, c) => Saturate(Flush(MathF.FusedMultiplyAdd(Flush(a), Flush(b), Flush(c)))) },
        { "cvt.rni.f32.f32 %f13, %f10;", (a, _, _) => MathF.Round(a, MidpointRounding.ToEven) },
        { "cvt.rzi.f32.f32 %f13, %f10;", (a, _, _) => MathF.Truncate(a) },
        { "cvt.rmi.f32.f32 %f13, %f10;", (a, _, _) => MathF.Floor(a) },
        { "cvt.rpi.f32.f32 %f13, %f10;", (a, _, _) => MathF.Ceiling(a) },
        { "cvt.sat.f32.f32 %f13, %f10;", (a, _, _) => Saturate(a) },
        { "set.gtu.f32.f32 %f13, %f10, %f11;", (a, b, _) => !(a <= b) ? 1 : 0 },
        { "setp.neu.f32 %p1, %f10, %f11;\n selp.f32 %f13, %f10, 0f40000000, %p1;", (a, b, _) => a != b ? a : 2 },
        { "setp.ne.f32 %p1, %f10, %f11;\n selp.f32 %f13, 0f3F800000, 0f00000000, %p1;", (a, b, _) => a < b || a > b ? 1 : 0 },
        { "setp.leu.f32 %p1, %f10, %f11;\n selp.f32 %f13, 0f3F800000, 0f00000000, %p1;", (a, b, _) => !(a > b) ? 1 : 0 },
        { "setp.num.f32 %p1, %f10, %f11;\n selp.f32 %f13, 0f3F800000, 0f00000000, %p1;", (a, b, _) => float.IsNaN(a) || float.IsNaN(b) ? 0
            : 1 },
        { "testp.subnormal.f32 %p1, %f10;\n selp.f32 %f13, 0f3F800000, 0f00000000, %p1;", (a, _, _) => float.IsSubnormal(a) ? 1 : 0 },
        { "testp.notanumber.f32 %p1, %f10;\n selp.f32 %f13, 0f3F800000, 0f00000000, %p1;", (a, _, _) => float.IsNaN(a) ? 1 : 0 },
    };

    [Theory]
    [MemberData(nameof(Exact))]
    public void Single_instruction_is_bit_exact(string instruction, Func<float, float, float, float> expected)
    {
        (float[] a, float[] b, float[] c) = Triples();
        uint[] actual = PtxTest.Map32(instruction + "\n mov.b32 %r13, %f13;", Bits(a), Bits(b), Bits(c));
        for (int i = 0; i < a.Length; i++)
        {
            float value = expected(a[i], b[i], c[i]);
            // selp hands through the very bits of its operand; everything else gives the one NaN.
            uint bits = BitConverter.SingleToUInt32Bits(value);
            bool same = float.IsNaN(value) ? actual[i] == Nan
                || (instruction.Contains("selp", StringComparison.Ordinal) && actual[i] == bits) : actual[i] == bits;
            Assert.True(same,
                $"{instruction} of {a[i]:R}, {b[i]:R}, {c[i]:R}: {BitConverter.UInt32BitsToSingle(actual[i]):R}, expected {value:R}");
        }
    }

    [Theory]
    [InlineData("add.rz.f32 %f13, %f10, %f11;", "add", "rz")]
    [InlineData("add.rm.f32 %f13, %f10, %f11;", "add", "rm")]
    [InlineData("add.rp.f32 %f13, %f10, %f11;", "add", "rp")]
    [InlineData("mul.rz.f32 %f13, %f10, %f11;", "mul", "rz")]
    [InlineData("mul.rp.f32 %f13, %f10, %f11;", "mul", "rp")]
    [InlineData("fma.rm.f32 %f13, %f10, %f11, %f12;", "fma", "rm")]
    [InlineData("fma.rz.f32 %f13, %f10, %f11, %f12;", "fma", "rz")]
    [InlineData("div.rp.f32 %f13, %f10, %f11;", "div", "rp")]
    [InlineData("div.rz.f32 %f13, %f10, %f11;", "div", "rz")]
    public void Directed_rounding_brackets_the_exact_result(string instruction, string operation, string mode)
    {
        (float[] a, float[] b, float[] c) = Triples();
        uint[] actual = PtxTest.Map32(instruction + "\n mov.b32 %r13, %f13;", Bits(a), Bits(b), Bits(c));
        for (int i = 0; i < a.Length; i++)
        {
            if (!float.IsFinite(a[i]) || !float.IsFinite(b[i]) || !float.IsFinite(c[i]) || (operation == "div" && b[i] == 0))
                continue;
            float got = BitConverter.UInt32BitsToSingle(actual[i]);
            int side = Side(operation, a[i], b[i], c[i], got, out bool exact);
            Assert.True(mode switch { "rm" => side <= 0, "rp" => side >= 0, _ => float.IsNegative(got) ? side >= 0 : side <= 0 },
                $"{instruction} of {a[i]:R}, {b[i]:R}, {c[i]:R}: {got:R}");
            if (exact || float.IsInfinity(got))
                continue;
            float next = side < 0 ? MathF.BitIncrement(got) : MathF.BitDecrement(got);
            Assert.True(Side(operation, a[i], b[i], c[i], next, out _) * side < 0
                || float.IsInfinity(next), $"{instruction} of {a[i]:R}, {b[i]:R}, {c[i]:R}: {got:R} is not next to the result");
        }
    }

    [Fact]
    public void Sqrt_and_rcp_round_as_told()
    {
        float[] values = [2f, 3f, 5f, 0.1f, 1e-30f, 4f, float.MaxValue];
        uint[] down = PtxTest.Map32("sqrt.rm.f32 %f13, %f10;\n mov.b32 %r13, %f13;", Bits(values));
        uint[] up = PtxTest.Map32("sqrt.rp.f32 %f13, %f10;\n mov.b32 %r13, %f13;", Bits(values));
        uint[] rcp = PtxTest.Map32("rcp.rz.f32 %f13, %f10;\n mov.b32 %r13, %f13;", Bits(values));
        for (int i = 0; i < values.Length; i++)
        {
            double root = Math.Sqrt(values[i]);
            float low = BitConverter.UInt32BitsToSingle(down[i]);
            float high = BitConverter.UInt32BitsToSingle(up[i]);
            Assert.True(low <= root && high >= root && (values[i] == 4 ? low == high : MathF.BitIncrement(low) == high));
            float inverse = BitConverter.UInt32BitsToSingle(rcp[i]);
            Assert.True((double)inverse * values[i] <= 1 && (double)MathF.BitIncrement(inverse) * values[i] > 1);
        }
    }

    [Fact]
    public void Approximate_tanh_errs_by_no_more_than_documented_and_by_nearly_as_much()
    {
        float[] values = [.. Enumerable.Range(-400, 801).Select(i => i / 50f)];
        uint[] actual = PtxTest.Map32("tanh.approx.f32 %f13, %f10;\n mov.b32 %r13, %f13;", Bits(values));
        double worst = 0;
        for (int i = 0; i < values.Length; i++)
            if (values[i] != 0)
                worst = Math.Max(worst, Math.Abs(BitConverter.UInt32BitsToSingle(actual[i]) / Math.Tanh(values[i]) - 1));
        Assert.InRange(worst, Math.Pow(2, -12), Math.Pow(2, -11));
    }

    [Fact]
    public void Approximate_sine_and_cosine_are_good_near_zero_and_drift_far_away()
    {
        float[] near = [.. Enumerable.Range(-31, 63).Select(i => i / 10f)];
        float[] far = [.. Enumerable.Range(1, 64).Select(i => 5000f + 37.7f * i)];
        foreach ((string name, Func<double, double> exact) in new (string, Func<double, double>)[] { ("sin", Math.Sin), ("cos", Math.Cos) })
        {
            uint[] atNear = PtxTest.Map32($"{name}.approx.f32 %f13, %f10;\n mov.b32 %r13, %f13;", Bits(near));
            uint[] atFar = PtxTest.Map32($"{name}.approx.f32 %f13, %f10;\n mov.b32 %r13, %f13;", Bits(far));
            Assert.True(Worst(near, atNear, exact) < 1e-6);
            Assert.InRange(Worst(far, atFar, exact), 1e-5, 1e-2);
        }
    }

    public static TheoryData<string, Func<double, double, double>> Doubles { get; } = new()
    {
        { "add.f64 %fd13, %fd10, %fd11;", (a, b) => a + b },
        { "sub.f64 %fd13, %fd10, %fd11;", (a, b) => a - b },
        { "mul.rn.f64 %fd13, %fd10, %fd11;", (a, b) => a * b },
        { "div.rn.f64 %fd13, %fd10, %fd11;", (a, b) => a / b },
        { "fma.rn.f64 %fd13, %fd10, %fd11, %fd10;", (a, b) => Math.FusedMultiplyAdd(a, b, a) },
        { "sqrt.rn.f64 %fd13, %fd10;", (a, _) => Math.Sqrt(a) },
        { "max.f64 %fd13, %fd10, %fd11;", (a, b) => double.MaxNumber(a, b) },
        { "neg.f64 %fd13, %fd10;", (a, _) => -a },
    };

    [Theory]
    [MemberData(nameof(Doubles))]
    public void Double_instruction_gives_what_csharp_gives(string instruction, Func<double, double, double> expected)
    {
        double[] edges = [0, -0.0, 1, -1.5, 1e300, 1e-310, double.PositiveInfinity, double.NaN, Math.PI];
        var pairs = (from a in edges from b in edges select (a, b)).ToArray();
        ulong[] actual = PtxTest.Map64(instruction + "\n mov.b64 %rd13, %fd13;",
            [.. pairs.Select(p => BitConverter.DoubleToUInt64Bits(p.a))], [.. pairs.Select(p => BitConverter.DoubleToUInt64Bits(p.b))]);
        for (int i = 0; i < pairs.Length; i++)
        {
            double value = expected(pairs[i].a, pairs[i].b);
            double got = BitConverter.UInt64BitsToDouble(actual[i]);
            Assert.True(double.IsNaN(value) ? double.IsNaN(got)
                : BitConverter.DoubleToUInt64Bits(value) == actual[i], $"{instruction} of {pairs[i]}: {got:R}, expected {value:R}");
        }
    }

    public static TheoryData<string, Func<float, float, float, float>> Halves { get; } = new()
    {
        { "add", (a, b, _) => a + b },
        { "sub", (a, b, _) => a - b },
        { "mul", (a, b, _) => a * b },
        { "min", (a, b, _) => float.MinNumber(a, b) },
        { "max", (a, b, _) => float.MaxNumber(a, b) },
    };

    [Theory]
    [MemberData(nameof(Halves))]
    public void Half_instruction_rounds_once(string operation, Func<float, float, float, float> expected)
    {
        Half[] edges =
            [(Half)0, (Half)1, (Half)(-1.5), Half.Epsilon, Half.MaxValue, Half.PositiveInfinity, Half.NaN, (Half)0.1, (Half)1000.5];
        var pairs = (from a in edges from b in edges select (a, b)).ToArray();
        uint[] first = [.. pairs.Select(p => (uint)BitConverter.HalfToUInt16Bits(p.a))];
        uint[] second = [.. pairs.Select(p => (uint)BitConverter.HalfToUInt16Bits(p.b))];
        uint[] scalar = PtxTest.Map32($"{operation}.f16 %rs13, %rs10, %rs11;\n cvt.u32.u16 %r13, %rs13;", first, second);
        uint[] packed =
            PtxTest.Map32(
                $"shl.b32 %r10, %r10, 16;\n shl.b32 %r11, %r11, 16;\n {operation}.f16x2 %r13, %r10, %r11;\n shr.u32 %r13, %r13, 16;",
                first, second);
        for (int i = 0; i < pairs.Length; i++)
        {
            Half value = (Half)expected((float)pairs[i].a, (float)pairs[i].b, 0);
            uint bits = Half.IsNaN(value) ? 0x7FFFu : BitConverter.HalfToUInt16Bits(value);
            Assert.Equal(bits, scalar[i]);
            Assert.Equal(bits, packed[i]);
        }
    }

    [Fact]
    public void Bfloat16_fma_rounds_the_exact_result_once()
    {
        // 1.0078125² = 1.01568603515625 lies between the bfloat16 numbers 1.015625 and 1.0234375; adding 0.0039 tips it over the middle.
        uint[] actual = PtxTest.Map32("fma.rn.bf16x2 %r13, %r10, %r11, %r12;", [0x3F81_3F81], [0x3F81_3F81], [0x3B80_0000]);
        Assert.Equal(0x3F83_3F82u, actual[0]);
    }

    private static (float[] A, float[] B, float[] C) Triples()
    {
        var pairs = (from a in Edges from b in Edges select (a, b)).ToArray();
        return ([.. pairs.Select(p => p.a)], [.. pairs.Select(p => p.b)], [.. pairs.Select((_, i) => Edges[(i * 7 + 3) % Edges.Length])]);
    }

    /// <summary>Sign of got − exact result, in rational arithmetic.</summary>
    private static int Side(string operation, float a, float b, float c, float got, out bool exact)
    {
        System.Numerics.BigInteger A(float x) => Scaled(x);
        int sign;
        if (float.IsInfinity(got))
        {
            exact = false;
            return got > 0 ? 1 : -1;
        }
        System.Numerics.BigInteger unit = System.Numerics.BigInteger.One << 160;
        sign = operation switch
        {
            "add" => (A(got) - A(a) - A(b)).Sign,
            "mul" => (A(got) * unit - A(a) * A(b)).Sign,
            "fma" => (A(got) * unit - A(a) * A(b) - A(c) * unit).Sign,
            _ => (A(got) * A(b) - A(a) * unit).Sign * Math.Sign(b),
        };
        exact = sign == 0;
        return sign;
    }

    /// <summary>x · 2¹⁶⁰, an integer for every single.</summary>
    private static System.Numerics.BigInteger Scaled(float x)
    {
        long bits = BitConverter.DoubleToInt64Bits(x);
        int exponent = (int)(bits >> 52 & 0x7FF);
        if (exponent == 0)
            return 0;
        System.Numerics.BigInteger mantissa = (bits & 0xF_FFFF_FFFF_FFFF) | 1L << 52;
        int shift = exponent - 1075 + 160;
        mantissa = shift >= 0 ? mantissa << shift : mantissa >> -shift;
        return bits < 0 ? -mantissa : mantissa;
    }

    private static double Worst(float[] values, uint[] actual, Func<double, double> exact) =>
        values.Select((x, i) => Math.Abs(BitConverter.UInt32BitsToSingle(actual[i]) - exact(x))).Max();

    private static uint[] Bits(float[] values) => [.. values.Select(BitConverter.SingleToUInt32Bits)];

    private static float Flush(float x) => float.IsSubnormal(x) ? MathF.CopySign(0, x) : x;

    private static float Saturate(float x) => x > 0 ? Math.Min(x, 1) : 0;
}

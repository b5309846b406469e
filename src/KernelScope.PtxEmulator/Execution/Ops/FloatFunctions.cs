using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>Parts that all single-precision functions share.</summary>
internal static class Single32
{
    /// <summary>Every NaN result of a float instruction is this one.</summary>
    public const uint Nan = 0x7FFF_FFFF;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Canonical(Vector512<float> a) =>
        Vector512.ConditionalSelect(Vector512.Equals(a, a), a, Vector512.Create(Nan).AsSingle());

    /// <summary>.ftz: subnormals become zeros of their sign.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Flush(Vector512<float> a)
    {
        Vector512<float> signs = a & Vector512.Create(-0.0f);
        Vector512<float> small = Vector512.LessThan(Vector512.Abs(a), Vector512.Create(1.17549435e-38f));
        return Vector512.ConditionalSelect(small, signs, a);
    }

    /// <summary>.sat: to [0, 1], NaN to +0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Saturate(Vector512<float> a)
    {
        Vector512<float> low = Vector512.ConditionalSelect(Vector512.GreaterThan(a, Vector512<float>.Zero), a, Vector512<float>.Zero);
        return Vector512.ConditionalSelect(Vector512.LessThan(low, Vector512<float>.One), low, Vector512<float>.One);
    }

    /// <summary>Applies a double function to both halves of a vector and rounds once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> ThroughDouble<TF>(Vector512<float> a)
        where TF : struct, IVectorUnary<double>
    {
        (Vector512<double> low, Vector512<double> high) = Vector512.Widen(a);
        return Canonical(Vector512.Narrow(TF.Of(low), TF.Of(high)));
    }
}

internal struct FlushInputs1<TF> : IVectorUnary<float>
    where TF : struct, IVectorUnary<float>
{
    public static Vector512<float> Of(Vector512<float> a) => Single32.Flush(TF.Of(Single32.Flush(a)));
}

internal struct FlushInputs2<TF> : IVectorBinary<float>
    where TF : struct, IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) =>
        Single32.Flush(TF.Of(Single32.Flush(a), Single32.Flush(b)));
}

internal struct FlushInputs3<TF> : IVectorTernary<float>
    where TF : struct, IVectorTernary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b, Vector512<float> c) =>
        Single32.Flush(TF.Of(Single32.Flush(a), Single32.Flush(b), Single32.Flush(c)));
}

internal struct Saturated2<TF> : IVectorBinary<float>
    where TF : struct, IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) => Single32.Saturate(TF.Of(a, b));
}

internal struct Saturated3<TF> : IVectorTernary<float>
    where TF : struct, IVectorTernary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b, Vector512<float> c) => Single32.Saturate(TF.Of(a, b, c));
}

internal struct FloatAdd : IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) => Single32.Canonical(a + b);
}

internal struct FloatSubtract : IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) => Single32.Canonical(a - b);
}

internal struct FloatMultiply : IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) => Single32.Canonical(a * b);
}

internal struct FloatDivide : IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) => Single32.Canonical(a / b);
}

internal struct FloatFusedMultiplyAdd : IVectorTernary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b, Vector512<float> c) =>
        Single32.Canonical(Vector512.FusedMultiplyAdd(a, b, c));
}

/// <summary>min: the number if one operand is NaN, and -0 below +0.</summary>
internal struct FloatMinimum : IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) => Single32.Canonical(Vector512.MinNumber(a, b));
}

internal struct FloatMaximum : IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) => Single32.Canonical(Vector512.MaxNumber(a, b));
}

/// <summary>min.NaN: NaN if either is.</summary>
internal struct FloatMinimumNan : IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) => Single32.Canonical(Vector512.Min(a, b));
}

internal struct FloatMaximumNan : IVectorBinary<float>
{
    public static Vector512<float> Of(Vector512<float> a, Vector512<float> b) => Single32.Canonical(Vector512.Max(a, b));
}

internal struct FloatAbsolute : IVectorUnary<float>
{
    public static Vector512<float> Of(Vector512<float> a) => Vector512.Abs(a);
}

internal struct FloatNegate : IVectorUnary<float>
{
    public static Vector512<float> Of(Vector512<float> a) => a ^ Vector512.Create(-0.0f);
}

internal struct FloatSquareRoot : IVectorUnary<float>
{
    public static Vector512<float> Of(Vector512<float> a) => Single32.Canonical(Vector512.Sqrt(a));
}

internal struct FloatReciprocal : IVectorUnary<float>
{
    public static Vector512<float> Of(Vector512<float> a) => Single32.Canonical(Vector512<float>.One / a);
}

internal struct FloatReciprocalSquareRoot : IVectorUnary<float>, IVectorUnary<double>
{
    public static Vector512<float> Of(Vector512<float> a) => Single32.ThroughDouble<FloatReciprocalSquareRoot>(a);

    public static Vector512<double> Of(Vector512<double> a) => Vector512<double>.One / Vector512.Sqrt(a);
}

/// <summary>ex2.approx, rounded correctly.</summary>
internal struct FloatExp2 : IVectorUnary<float>, IVectorUnary<double>
{
    public static Vector512<float> Of(Vector512<float> a)
    {
        // Out of float's range the result is 0 or infinity; the bound keeps the double function in its range.
        Vector512<float> bounded = Vector512.Min(Vector512.Max(a, Vector512.Create(-200f)), Vector512.Create(200f));
        return Single32.ThroughDouble<FloatExp2>(bounded);
    }

    public static Vector512<double> Of(Vector512<double> a) => Vector512.Exp(a * Vector512.Create(0.693147180559945309417));
}

/// <summary>lg2.approx, rounded correctly.</summary>
internal struct FloatLog2 : IVectorUnary<float>, IVectorUnary<double>
{
    public static Vector512<float> Of(Vector512<float> a) => Single32.ThroughDouble<FloatLog2>(a);

    public static Vector512<double> Of(Vector512<double> a) => Vector512.Log2(a);
}

/// <summary>
/// tanh.approx: PTX gives its largest relative error as 2⁻¹¹; the model cuts the true value to 12 significant bits, which errs by up to that much,
/// always towards zero, so that a kernel which cannot live with it fails here too.
/// </summary>
internal struct FloatTanhApproximation : IUnary<float, float>
{
    public static float Of(float a)
    {
        if (float.IsNaN(a))
            return BitConverter.UInt32BitsToSingle(Single32.Nan);
        uint bits = BitConverter.SingleToUInt32Bits((float)Math.Tanh(a));
        return BitConverter.UInt32BitsToSingle(bits & 0xFFFF_F000);
    }
}

/// <summary>
/// sin.approx and cos.approx reduce their argument by one single-precision product with 1/2π, so the error grows with the argument; the rest is
/// computed exactly.
/// </summary>
internal struct FloatSineApproximation : IUnary<float, float>
{
    public static float Of(float a) => Reduced(a) is { } turns ? (float)Math.Sin(turns * (2 * Math.PI))
        : BitConverter.UInt32BitsToSingle(Single32.Nan);

    public static double? Reduced(float a)
    {
        if (!float.IsFinite(a))
            return null;
        float turns = a * (float)(0.5 / Math.PI);
        return turns - Math.Round((double)turns);
    }
}

/// <inheritdoc cref="FloatSineApproximation"/>
internal struct FloatCosineApproximation : IUnary<float, float>
{
    public static float Of(float a) =>
        FloatSineApproximation.Reduced(a) is { } turns ? (float)Math.Cos(turns * (2 * Math.PI))
            : BitConverter.UInt32BitsToSingle(Single32.Nan);
}

internal struct CopySign32 : IVectorBinary<uint>
{
    public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) =>
        a & Vector512.Create(0x8000_0000u) | b & Vector512.Create(0x7FFF_FFFFu);
}

internal struct CopySign64 : IVectorBinary<ulong>
{
    public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) =>
        a & Vector512.Create(1UL << 63) | b & Vector512.Create(ulong.MaxValue >> 1);
}

internal struct DoubleDivide : IVectorBinary<double>
{
    public static Vector512<double> Of(Vector512<double> a, Vector512<double> b) => a / b;
}

internal struct DoubleFusedMultiplyAdd : IVectorTernary<double>
{
    public static Vector512<double> Of(Vector512<double> a, Vector512<double> b, Vector512<double> c) =>
        Vector512.FusedMultiplyAdd(a, b, c);
}

internal struct DoubleMinimum : IVectorBinary<double>
{
    public static Vector512<double> Of(Vector512<double> a, Vector512<double> b) => Vector512.MinNumber(a, b);
}

internal struct DoubleMaximum : IVectorBinary<double>
{
    public static Vector512<double> Of(Vector512<double> a, Vector512<double> b) => Vector512.MaxNumber(a, b);
}

internal struct DoubleAbsolute : IVectorUnary<double>
{
    public static Vector512<double> Of(Vector512<double> a) => Vector512.Abs(a);
}

internal struct DoubleNegate : IVectorUnary<double>
{
    public static Vector512<double> Of(Vector512<double> a) => a ^ Vector512.Create(-0.0);
}

internal struct DoubleSquareRoot : IVectorUnary<double>
{
    public static Vector512<double> Of(Vector512<double> a) => Vector512.Sqrt(a);
}

internal struct DoubleReciprocal : IVectorUnary<double>
{
    public static Vector512<double> Of(Vector512<double> a) => Vector512<double>.One / a;
}

using System.Numerics;
using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution.Ops;

/// <summary>Integer to integer: cut or extended.</summary>
internal struct Truncate<TA, TR> : IUnary<TA, TR>
    where TA : unmanaged, IBinaryInteger<TA>
    where TR : unmanaged, IBinaryInteger<TR>
{
    public static TR Of(TA a) => TR.CreateTruncating(a);
}

internal struct IntToSingle : IUnary<int, float>
{
    public static float Of(int a) => a;
}

internal struct HalfToSingle : IUnary<ushort, float>
{
    public static float Of(ushort a)
    {
        float value = (float)BitConverter.UInt16BitsToHalf(a);
        return float.IsNaN(value) ? BitConverter.UInt32BitsToSingle(Single32.Nan) : value;
    }
}

internal struct SingleToHalf : IUnary<float, ushort>
{
    public static ushort Of(float a) => float.IsNaN(a) ? (ushort)0x7FFF : BitConverter.HalfToUInt16Bits((Half)a);
}

internal struct SingleToBFloat16 : IUnary<float, ushort>
{
    public static ushort Of(float a)
    {
        if (float.IsNaN(a))
            return 0x7FFF;
        uint bits = BitConverter.SingleToUInt32Bits(a);
        return (ushort)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    }
}

/// <summary>cvt.rn.bf16x2.f32 d, a, b: a to the upper half, b to the lower.</summary>
internal struct SinglesToBFloat16X2 : IBinary<float, float, uint>
{
    public static uint Of(float a, float b) => (uint)SingleToBFloat16.Of(a) << 16 | SingleToBFloat16.Of(b);
}

internal struct SinglesToHalfX2 : IBinary<float, float, uint>
{
    public static uint Of(float a, float b) => (uint)SingleToHalf.Of(a) << 16 | SingleToHalf.Of(b);
}

internal struct SingleToDouble : IUnary<float, double>
{
    public static double Of(float a) => a;
}

internal struct DoubleToSingle : IUnary<double, float>
{
    public static float Of(double a) => double.IsNaN(a) ? BitConverter.UInt32BitsToSingle(Single32.Nan) : (float)a;
}

internal struct RoundToEven : IVectorUnary<float>
{
    public static Vector512<float> Of(Vector512<float> a) => Single32.Canonical(Vector512.Round(a));
}

internal struct RoundToZero : IVectorUnary<float>
{
    public static Vector512<float> Of(Vector512<float> a) => Single32.Canonical(Vector512.Truncate(a));
}

internal struct RoundDown : IVectorUnary<float>
{
    public static Vector512<float> Of(Vector512<float> a) => Single32.Canonical(Vector512.Floor(a));
}

internal struct RoundUp : IVectorUnary<float>
{
    public static Vector512<float> Of(Vector512<float> a) => Single32.Canonical(Vector512.Ceiling(a));
}

using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace KernelScope.Devices.Cpu;

/// <summary>Vectors of 16 values, for processors with AVX-512.</summary>
internal readonly unsafe struct Simd512 : ISimd<Vector512<float>>
{
    public static int Lanes => 16;

    public static int TileRows => 12;

    public static Vector512<float> All(float value) => Vector512.Create(value);

    public static Vector512<float> Load(float* source) => Vector512.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadBf16(byte* source) => (Widen16(source) << 16).AsSingle();

    /// <summary>Moves the 15 magnitude bits into place and multiplies by 2^112, which is exact and handles subnormals; an exponent of all ones becomes one again.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadF16(byte* source)
    {
        Vector512<uint> bits = Widen16(source);
        Vector512<uint> magnitude = (bits & Vector512.Create(0x7FFFu)) << 13;
        Vector512<uint> scaled = (magnitude.AsSingle() * Vector512.Create(5.192296858534828e33f)).AsUInt32();
        Vector512<uint> special = Vector512.GreaterThan(magnitude.AsInt32(), Vector512.Create(0x0F7FFFFF)).AsUInt32() & Vector512.Create(0x7F800000u);
        return (scaled | special | ((bits & Vector512.Create(0x8000u)) << 16)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadF64(byte* source) =>
        Vector512.Narrow(Vector512.Load((double*)source), Vector512.Load((double*)source + (16 / 2)));

    public static void Store(Vector512<float> value, float* destination) => value.Store(destination);

    public static Vector512<float> Add(Vector512<float> a, Vector512<float> b) => a + b;

    public static Vector512<float> Subtract(Vector512<float> a, Vector512<float> b) => a - b;

    public static Vector512<float> Multiply(Vector512<float> a, Vector512<float> b) => a * b;

    public static Vector512<float> Divide(Vector512<float> a, Vector512<float> b) => a / b;

    public static Vector512<float> MultiplyAdd(Vector512<float> a, Vector512<float> b, Vector512<float> c) => Vector512.FusedMultiplyAdd(a, b, c);

    public static Vector512<float> AtMost(Vector512<float> limit, Vector512<float> x) => Vector512.ConditionalSelect(Vector512.LessThan(limit, x), limit, x);

    public static Vector512<float> AtLeast(Vector512<float> limit, Vector512<float> x) => Vector512.ConditionalSelect(Vector512.GreaterThan(limit, x), limit, x);

    public static Vector512<float> Max(Vector512<float> a, Vector512<float> b) => Vector512.Max(a, b);

    public static Vector512<float> Abs(Vector512<float> x) => Vector512.Abs(x);

    public static Vector512<float> CopySign(Vector512<float> magnitude, Vector512<float> sign) => Vector512.CopySign(magnitude, sign);

    public static Vector512<float> Round(Vector512<float> x) => Vector512.Round(x);

    public static Vector512<float> Scale(Vector512<float> x, Vector512<float> n) => Avx512F.Scale(x, n);

    public static uint GreaterMask(Vector512<float> a, Vector512<float> b) => (uint)Vector512.GreaterThan(a, b).ExtractMostSignificantBits();

    public static uint NotAtMostMask(Vector512<float> a, Vector512<float> b) => (uint)(~Vector512.LessThanOrEqual(a, b)).ExtractMostSignificantBits();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector512<float> x) => Simd256.Sum(x.GetLower() + x.GetUpper());

    public static float MaxLane(Vector512<float> x) => Simd256.MaxLane(Vector256.Max(x.GetLower(), x.GetUpper()));

    private static Vector512<uint> Widen16(byte* source) => Avx512F.ConvertToVector512UInt32(Vector256.Load((ushort*)source));
}

using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Vectors of 8 values, for processors with AVX2 and FMA.</summary>
internal readonly unsafe struct Simd256 : ISimd<Vector256<float>>
{
    public static int Lanes => 8;

    public static int TileRows => 6;

    public static Vector256<float> All(float value) => Vector256.Create(value);

    public static Vector256<float> Load(float* source) => Vector256.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LoadBf16(byte* source) => (Widen16(source) << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LoadF16(byte* source) => FromF16(Widen16(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenBf16Pairs(Vector256<float> pairs, out Vector256<float> even, out Vector256<float> odd)
    {
        Vector256<uint> bits = pairs.AsUInt32();
        even = (bits << 16).AsSingle();
        odd = (bits & Vector256.Create(0xFFFF0000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenF16Pairs(Vector256<float> pairs, out Vector256<float> even, out Vector256<float> odd)
    {
        Vector256<uint> bits = pairs.AsUInt32();
        even = FromF16(bits);
        odd = FromF16(bits >> 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LoadCompact(byte* group, int pair)
    {
        if (pair < 3)
            return Vector256.Load((float*)(group + (pair * PanelLayout.StepBytes)));
        Vector256<uint> a = Vector256.Load((uint*)group), b = Vector256.Load((uint*)(group + PanelLayout.StepBytes)),
            c = Vector256.Load((uint*)(group + (2 * PanelLayout.StepBytes)));
        return (((a >> 4) & Vector256.Create(0x07800780u)) | ((b >> 8) & Vector256.Create(0x00780078u)) | ((c << 1) & Vector256.Create(
            0x80008000u)) | ((c >> 11) & Vector256.Create(0x00070007u))).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenCompact(Vector256<float> words, out Vector256<float> even, out Vector256<float> odd)
    {
        even = (((words.AsUInt32() << 16) & Vector256.Create(0x87FF0000u)) | Vector256.Create(0x38000000u)).AsSingle();
        odd = ((words.AsUInt32() & Vector256.Create(0x87FF0000u)) | Vector256.Create(0x38000000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> NarrowCompact(Vector256<float> words, ushort add) =>
        (((words.AsUInt32() & Vector256.Create(0x87FF87FFu)) | Vector256.Create(0x38003800u)).AsUInt16() + Vector256.Create(add))
        .AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> LoadF64(byte* source) =>
        Vector256.Narrow(Vector256.Load((double*)source), Vector256.Load((double*)source + (8 / 2)));

    public static void Store(Vector256<float> value, float* destination) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> RoundBf16(Vector256<float> x)
    {
        Vector256<uint> bits = x.AsUInt32();
        Vector256<uint> rounded = bits + Vector256.Create(0x7FFFu) + ((bits >> 16) & Vector256.Create(1u));
        // A NaN's fraction may lie wholly in the lower half; the quiet bit keeps it a NaN.
        Vector256<uint> kept = Vector256.ConditionalSelect(Vector256.Equals(x, x).AsUInt32(), rounded,
            bits | Vector256.Create(0x00400000u));
        return (kept & Vector256.Create(0xFFFF0000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> PairBf16(Vector256<float> first, Vector256<float> second) =>
        ((first.AsUInt32() >> 16) | (second.AsUInt32() & Vector256.Create(0xFFFF0000u))).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBf16(Vector256<float> value, ushort* destination) =>
        Vector128.Narrow((value.AsUInt32() >> 16).GetLower(), (value.AsUInt32() >> 16).GetUpper()).Store(destination);

    public static Vector256<float> Add(Vector256<float> a, Vector256<float> b) => a + b;

    public static Vector256<float> Subtract(Vector256<float> a, Vector256<float> b) => a - b;

    public static Vector256<float> Multiply(Vector256<float> a, Vector256<float> b) => a * b;

    public static Vector256<float> Divide(Vector256<float> a, Vector256<float> b) => a / b;

    public static Vector256<float> Sqrt(Vector256<float> x) => Vector256.Sqrt(x);

    public static Vector256<float> MultiplyAdd(Vector256<float> a, Vector256<float> b, Vector256<float> c) =>
        Vector256.FusedMultiplyAdd(a, b, c);

    public static Vector256<float> AtMost(Vector256<float> limit, Vector256<float> x) =>
        Vector256.ConditionalSelect(Vector256.LessThan(limit, x), limit, x);

    public static Vector256<float> AtLeast(Vector256<float> limit, Vector256<float> x) =>
        Vector256.ConditionalSelect(Vector256.GreaterThan(limit, x), limit, x);

    public static Vector256<float> Max(Vector256<float> a, Vector256<float> b) => Vector256.Max(a, b);

    public static Vector256<float> Abs(Vector256<float> x) => Vector256.Abs(x);

    public static Vector256<float> CopySign(Vector256<float> magnitude, Vector256<float> sign) => Vector256.CopySign(magnitude, sign);

    public static Vector256<float> Round(Vector256<float> x) => Vector256.Round(x);

    /// <summary>In two halves, because 2^n itself may be outside the exponents of float32.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Scale(Vector256<float> x, Vector256<float> n)
    {
        Vector256<int> whole = Vector256.ConvertToInt32(n);
        Vector256<int> half = whole >> 1;
        return x * PowerOfTwo(half) * PowerOfTwo(whole - half);
    }

    public static uint GreaterMask(Vector256<float> a, Vector256<float> b) => (uint)Vector256.GreaterThan(a, b)
        .ExtractMostSignificantBits();

    public static uint NotAtMostMask(Vector256<float> a, Vector256<float> b) => (uint)(~Vector256.LessThanOrEqual(a, b))
        .ExtractMostSignificantBits();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector256<float> x) => Simd128.Sum(x.GetLower() + x.GetUpper());

    public static float MaxLane(Vector256<float> x) => Simd128.MaxLane(Vector128.Max(x.GetLower(), x.GetUpper()));

    private static Vector256<float> PowerOfTwo(Vector256<int> n) => ((n + Vector256.Create(127)) << 23).AsSingle();

    /// <summary>Moves the 15 magnitude bits into place and multiplies by 2^112, which is exact and handles subnormals; an exponent of all ones becomes one again.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> FromF16(Vector256<uint> bits)
    {
        Vector256<uint> magnitude = (bits & Vector256.Create(0x7FFFu)) << 13;
        Vector256<uint> scaled = (magnitude.AsSingle() * Vector256.Create(5.192296858534828e33f)).AsUInt32();
        Vector256<uint> special = Vector256.GreaterThan(magnitude.AsInt32(), Vector256.Create(0x0F7FFFFF))
            .AsUInt32() & Vector256.Create(0x7F800000u);
        return (scaled | special | ((bits & Vector256.Create(0x8000u)) << 16)).AsSingle();
    }

    private static Vector256<uint> Widen16(byte* source) => Avx2.ConvertToVector256Int32(Vector128.Load((ushort*)source)).AsUInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TurnFour(float* rows, long stride, float* columns, long columnStride)
    {
        Turn<ElementF32>((byte*)rows, stride * sizeof(float), out Vector256<float> a, out Vector256<float> b, out Vector256<float> c,
            out Vector256<float> d);
        StoreHalves(a, columns, 4 * columnStride);
        StoreHalves(b, columns + columnStride, 4 * columnStride);
        StoreHalves(c, columns + (2 * columnStride), 4 * columnStride);
        StoreHalves(d, columns + (3 * columnStride), 4 * columnStride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TurnBf16(float* rows, long stride, uint* pairs, long pairStride)
    {
        Turn<ElementF32>((byte*)rows, stride * sizeof(float), out Vector256<float> a, out Vector256<float> b, out Vector256<float> c,
            out Vector256<float> d);
        StoreHalves(PairBf16(RoundBf16(a), RoundBf16(b)), (float*)pairs, 2 * pairStride);
        StoreHalves(PairBf16(RoundBf16(c), RoundBf16(d)), (float*)pairs + pairStride, 2 * pairStride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreHalves(Vector256<float> x, float* destination, long stride)
    {
        x.GetLower().Store(destination);
        x.GetUpper().Store(destination + stride);
    }

    // Fours of rows are turned inside each 128-bit lane; then lanes change places with rows. NativeAOT calls it unless it is told to inline it: a tenth of a token of the demo.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Transpose<E>(byte* source, long rowBytes, float* destination, long stride)
        where E : struct, IElement
    {
        Turn<E>(source, rowBytes, out Vector256<float> a0, out Vector256<float> a1, out Vector256<float> a2, out Vector256<float> a3);
        Turn<E>(source + (4 * rowBytes), rowBytes, out Vector256<float> b0, out Vector256<float> b1, out Vector256<float> b2,
            out Vector256<float> b3);
        Put(a0, b0, destination, stride);
        Put(a1, b1, destination + stride, stride);
        Put(a2, b2, destination + (2 * stride), stride);
        Put(a3, b3, destination + (3 * stride), stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Turn<E>(byte* rows, long rowBytes, out Vector256<float> t0, out Vector256<float> t1, out Vector256<float> t2,
        out Vector256<float> t3)
        where E : struct, IElement
    {
        Turn(
            E.Load<Simd256, Vector256<float>>(rows),
            E.Load<Simd256, Vector256<float>>(rows + rowBytes),
            E.Load<Simd256, Vector256<float>>(rows + (2 * rowBytes)),
            E.Load<Simd256, Vector256<float>>(rows + (3 * rowBytes)),
            out t0,
            out t1,
            out t2,
            out t3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Turn(Vector256<float> a, Vector256<float> b, Vector256<float> c, Vector256<float> d, out Vector256<float> t0,
        out Vector256<float> t1, out Vector256<float> t2, out Vector256<float> t3)
    {
        Vector256<double> ab0 = Avx.UnpackLow(a, b).AsDouble(), ab1 = Avx.UnpackHigh(a, b).AsDouble();
        Vector256<double> cd0 = Avx.UnpackLow(c, d).AsDouble(), cd1 = Avx.UnpackHigh(c, d).AsDouble();
        t0 = Avx.UnpackLow(ab0, cd0).AsSingle();
        t1 = Avx.UnpackHigh(ab0, cd0).AsSingle();
        t2 = Avx.UnpackLow(ab1, cd1).AsSingle();
        t3 = Avx.UnpackHigh(ab1, cd1).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(Vector256<float> a, Vector256<float> b, float* destination, long stride)
    {
        Avx.Permute2x128(a, b, 0x20).Store(destination);
        Avx.Permute2x128(a, b, 0x31).Store(destination + (4 * stride));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TransposeFour(byte* source, long rowBytes, out Vector256<float> first, out Vector256<float> second,
        out Vector256<float> third, out Vector256<float> fourth) =>
        Turn(
            TwoRows(source, rowBytes),
            TwoRows(source + rowBytes, rowBytes),
            TwoRows(source + (2 * rowBytes), rowBytes),
            TwoRows(source + (3 * rowBytes), rowBytes),
            out first,
            out second,
            out third,
            out fourth);

    /// <summary>16 bytes of a row, and 16 of the fourth behind it. Those are the upper half of a load that begins in the row before: a blend is cheaper than moving a half up.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> TwoRows(byte* row, long rowBytes) =>
        Avx.Blend(Vector128.Load((float*)row).ToVector256Unsafe(), Vector256.Load((float*)(row + (4 * rowBytes) - 16)), 0xF0);
}

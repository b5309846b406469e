using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Vectors of 16 values, for processors with AVX-512.</summary>
internal readonly unsafe struct Simd512 : ISimd<Vector512<float>>
{
    // (a & b) | c, as the table of a vpternlog.
    private const byte AndThenOr = 0xEA;

    public static int Lanes => 16;

    public static int TileRows => 12;

    public static Vector512<float> All(float value) => Vector512.Create(value);

    public static Vector512<float> Load(float* source) => Vector512.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadBf16(byte* source) => (Widen16(source) << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadF16(byte* source) => FromF16(Widen16(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenBf16Pairs(Vector512<float> pairs, out Vector512<float> even, out Vector512<float> odd)
    {
        Vector512<uint> bits = pairs.AsUInt32();
        even = (bits << 16).AsSingle();
        odd = (bits & Vector512.Create(0xFFFF0000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenF16Pairs(Vector512<float> pairs, out Vector512<float> even, out Vector512<float> odd)
    {
        Vector512<uint> bits = pairs.AsUInt32();
        even = FromF16(bits);
        odd = FromF16(bits >> 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadCompact(byte* group, int pair)
    {
        if (pair < 3)
            return Vector512.Load((float*)(group + (pair * PanelLayout.StepBytes)));
        Vector512<uint> a = Vector512.Load((uint*)group), b = Vector512.Load((uint*)(group + PanelLayout.StepBytes)),
            c = Vector512.Load((uint*)(group + (2 * PanelLayout.StepBytes)));
        return (((a >> 4) & Vector512.Create(0x07800780u)) | ((b >> 8) & Vector512.Create(0x00780078u)) | ((c << 1) & Vector512.Create(
            0x80008000u)) | ((c >> 11) & Vector512.Create(0x00070007u))).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenCompact(Vector512<float> words, out Vector512<float> even, out Vector512<float> odd)
    {
        even = Avx512F.TernaryLogic(words.AsUInt32() << 16, Vector512.Create(0x87FF0000u), Vector512.Create(0x38000000u), AndThenOr)
            .AsSingle();
        odd = Avx512F.TernaryLogic(words.AsUInt32(), Vector512.Create(0x87FF0000u), Vector512.Create(0x38000000u), AndThenOr).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> NarrowCompact(Vector512<float> words, ushort add) =>
        (Avx512F.TernaryLogic(words.AsUInt32(), Vector512.Create(0x87FF87FFu), Vector512.Create(0x38003800u), AndThenOr)
        .AsUInt16() + Vector512.Create(add)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadF64(byte* source) =>
        Vector512.Narrow(Vector512.Load((double*)source), Vector512.Load((double*)source + (16 / 2)));

    public static void Store(Vector512<float> value, float* destination) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> RoundBf16(Vector512<float> x)
    {
        Vector512<uint> bits = x.AsUInt32();
        Vector512<uint> rounded = bits + Vector512.Create(0x7FFFu) + ((bits >> 16) & Vector512.Create(1u));
        // A NaN's fraction may lie wholly in the lower half; the quiet bit keeps it a NaN.
        Vector512<uint> kept = Vector512.ConditionalSelect(Vector512.Equals(x, x).AsUInt32(), rounded,
            bits | Vector512.Create(0x00400000u));
        return (kept & Vector512.Create(0xFFFF0000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> PairBf16(Vector512<float> first, Vector512<float> second) =>
        ((first.AsUInt32() >> 16) | (second.AsUInt32() & Vector512.Create(0xFFFF0000u))).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBf16(Vector512<float> value, ushort* destination) =>
        Avx512F.ConvertToVector256UInt16(value.AsUInt32() >> 16).Store(destination);

    public static Vector512<float> Add(Vector512<float> a, Vector512<float> b) => a + b;

    public static Vector512<float> Subtract(Vector512<float> a, Vector512<float> b) => a - b;

    public static Vector512<float> Multiply(Vector512<float> a, Vector512<float> b) => a * b;

    public static Vector512<float> Divide(Vector512<float> a, Vector512<float> b) => a / b;

    public static Vector512<float> Sqrt(Vector512<float> x) => Vector512.Sqrt(x);

    public static Vector512<float> MultiplyAdd(Vector512<float> a, Vector512<float> b, Vector512<float> c) =>
        Vector512.FusedMultiplyAdd(a, b, c);

    public static Vector512<float> AtMost(Vector512<float> limit, Vector512<float> x) =>
        Vector512.ConditionalSelect(Vector512.LessThan(limit, x), limit, x);

    public static Vector512<float> AtLeast(Vector512<float> limit, Vector512<float> x) =>
        Vector512.ConditionalSelect(Vector512.GreaterThan(limit, x), limit, x);

    public static Vector512<float> Max(Vector512<float> a, Vector512<float> b) => Vector512.Max(a, b);

    public static Vector512<float> Abs(Vector512<float> x) => Vector512.Abs(x);

    public static Vector512<float> CopySign(Vector512<float> magnitude, Vector512<float> sign) => Vector512.CopySign(magnitude, sign);

    public static Vector512<float> Round(Vector512<float> x) => Vector512.Round(x);

    public static Vector512<float> Scale(Vector512<float> x, Vector512<float> n) => Avx512F.Scale(x, n);

    public static uint GreaterMask(Vector512<float> a, Vector512<float> b) => (uint)Vector512.GreaterThan(a, b)
        .ExtractMostSignificantBits();

    public static uint NotAtMostMask(Vector512<float> a, Vector512<float> b) => (uint)(~Vector512.LessThanOrEqual(a, b))
        .ExtractMostSignificantBits();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector512<float> x) => Simd256.Sum(x.GetLower() + x.GetUpper());

    public static float MaxLane(Vector512<float> x) => Simd256.MaxLane(Vector256.Max(x.GetLower(), x.GetUpper()));

    /// <summary>Moves the 15 magnitude bits into place and multiplies by 2^112, which is exact and handles subnormals; an exponent of all ones becomes one again.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> FromF16(Vector512<uint> bits)
    {
        Vector512<uint> magnitude = (bits & Vector512.Create(0x7FFFu)) << 13;
        Vector512<uint> scaled = (magnitude.AsSingle() * Vector512.Create(5.192296858534828e33f)).AsUInt32();
        Vector512<uint> special = Vector512.GreaterThan(magnitude.AsInt32(), Vector512.Create(0x0F7FFFFF))
            .AsUInt32() & Vector512.Create(0x7F800000u);
        return (scaled | special | ((bits & Vector512.Create(0x8000u)) << 16)).AsSingle();
    }

    private static Vector512<uint> Widen16(byte* source) => Avx512F.ConvertToVector512UInt32(Vector256.Load((ushort*)source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TurnFour(float* rows, long stride, float* columns, long columnStride)
    {
        Turn<ElementF32>((byte*)rows, stride * sizeof(float), out Vector512<float> a, out Vector512<float> b, out Vector512<float> c,
            out Vector512<float> d);
        StoreQuarters(a, columns, 4 * columnStride);
        StoreQuarters(b, columns + columnStride, 4 * columnStride);
        StoreQuarters(c, columns + (2 * columnStride), 4 * columnStride);
        StoreQuarters(d, columns + (3 * columnStride), 4 * columnStride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TurnBf16(float* rows, long stride, uint* pairs, long pairStride)
    {
        Turn<ElementF32>((byte*)rows, stride * sizeof(float), out Vector512<float> a, out Vector512<float> b, out Vector512<float> c,
            out Vector512<float> d);
        StoreQuarters(PairBf16(RoundBf16(a), RoundBf16(b)), (float*)pairs, 2 * pairStride);
        StoreQuarters(PairBf16(RoundBf16(c), RoundBf16(d)), (float*)pairs + pairStride, 2 * pairStride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreQuarters(Vector512<float> x, float* destination, long stride)
    {
        x.GetLower().GetLower().Store(destination);
        x.GetLower().GetUpper().Store(destination + stride);
        x.GetUpper().GetLower().Store(destination + (2 * stride));
        x.GetUpper().GetUpper().Store(destination + (3 * stride));
    }

    // Fours of rows are turned inside each 128-bit lane; then lanes change places with rows.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Transpose<E>(byte* source, long rowBytes, float* destination, long stride)
        where E : struct, IElement
    {
        Turn<E>(source, rowBytes, out Vector512<float> a0, out Vector512<float> a1, out Vector512<float> a2, out Vector512<float> a3);
        Turn<E>(source + (4 * rowBytes), rowBytes, out Vector512<float> b0, out Vector512<float> b1, out Vector512<float> b2,
            out Vector512<float> b3);
        Turn<E>(source + (8 * rowBytes), rowBytes, out Vector512<float> c0, out Vector512<float> c1, out Vector512<float> c2,
            out Vector512<float> c3);
        Turn<E>(source + (12 * rowBytes), rowBytes, out Vector512<float> d0, out Vector512<float> d1, out Vector512<float> d2,
            out Vector512<float> d3);
        Put(a0, b0, c0, d0, destination, stride);
        Put(a1, b1, c1, d1, destination + stride, stride);
        Put(a2, b2, c2, d2, destination + (2 * stride), stride);
        Put(a3, b3, c3, d3, destination + (3 * stride), stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Turn<E>(byte* rows, long rowBytes, out Vector512<float> t0, out Vector512<float> t1, out Vector512<float> t2,
        out Vector512<float> t3)
        where E : struct, IElement
    {
        Vector512<float> a = E.Load<Simd512, Vector512<float>>(rows), b = E.Load<Simd512, Vector512<float>>(rows + rowBytes);
        Vector512<float> c = E.Load<Simd512, Vector512<float>>(rows + (2 * rowBytes)),
            d = E.Load<Simd512, Vector512<float>>(rows + (3 * rowBytes));
        Turn(a, b, c, d, out t0, out t1, out t2, out t3);
    }

    /// <summary>A 4 by 4 block inside each 128-bit lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Turn(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d, out Vector512<float> t0,
        out Vector512<float> t1, out Vector512<float> t2, out Vector512<float> t3)
    {
        Vector512<double> ab0 = Avx512F.UnpackLow(a, b).AsDouble(), ab1 = Avx512F.UnpackHigh(a, b).AsDouble();
        Vector512<double> cd0 = Avx512F.UnpackLow(c, d).AsDouble(), cd1 = Avx512F.UnpackHigh(c, d).AsDouble();
        t0 = Avx512F.UnpackLow(ab0, cd0).AsSingle();
        t1 = Avx512F.UnpackHigh(ab0, cd0).AsSingle();
        t2 = Avx512F.UnpackLow(ab1, cd1).AsSingle();
        t3 = Avx512F.UnpackHigh(ab1, cd1).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TransposeFour(byte* source, long rowBytes, out Vector512<float> first, out Vector512<float> second,
        out Vector512<float> third, out Vector512<float> fourth) =>
        Turn(
            FourRows(source, rowBytes),
            FourRows(source + rowBytes, rowBytes),
            FourRows(source + (2 * rowBytes), rowBytes),
            FourRows(source + (3 * rowBytes), rowBytes),
            out first,
            out second,
            out third,
            out fourth);

    /// <summary>16 bytes of a row, and of the fourth, eighth and twelfth behind it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> FourRows(byte* row, long rowBytes)
    {
        byte* second = row + (4 * rowBytes);
        byte* fourth = row + (12 * rowBytes);
        Vector512<float> rows = Vector128.Load((float*)row).ToVector256Unsafe().ToVector512Unsafe();
        rows = Avx512F.InsertVector128(rows, Vector128.Load((float*)second), 1);
        rows = Avx512F.InsertVector128(rows, Vector128.Load((float*)(second + (4 * rowBytes))), 2);
        return Avx512F.InsertVector128(rows, Vector128.Load((float*)fourth), 3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d, float* destination, long stride)
    {
        Vector512<float> ab0 = Avx512F.Shuffle4x128(a, b, 0x44), ab1 = Avx512F.Shuffle4x128(a, b, 0xEE);
        Vector512<float> cd0 = Avx512F.Shuffle4x128(c, d, 0x44), cd1 = Avx512F.Shuffle4x128(c, d, 0xEE);
        Avx512F.Shuffle4x128(ab0, cd0, 0x88).Store(destination);
        Avx512F.Shuffle4x128(ab0, cd0, 0xDD).Store(destination + (4 * stride));
        Avx512F.Shuffle4x128(ab1, cd1, 0x88).Store(destination + (8 * stride));
        Avx512F.Shuffle4x128(ab1, cd1, 0xDD).Store(destination + (12 * stride));
    }
}

using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Vectors of 4 values in portable operations: SSE, Arm's AdvSimd, or plain loops of the runtime.</summary>
/// <remarks>
/// On Arm, <see cref="MultiplyAdd"/> is one <c>fmla</c> and widening one <c>ushll</c>. .NET 10 has no bfloat16 products of Arm's (<c>bfdot</c>, <c>bfmmla</c>).
/// <c>tools/check-arm.sh</c> runs all ops so on an emulated Arm machine.
/// </remarks>
internal readonly unsafe struct Simd128 : ISimd<Vector128<float>>
{
    public static int Lanes => 4;

    public static int TileRows => 6;

    public static Vector128<float> All(float value) => Vector128.Create(value);

    public static Vector128<float> Load(float* source) => Vector128.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LoadBf16(byte* source) => (Widen16(source) << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LoadF16(byte* source) => FromF16(Widen16(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenBf16Pairs(Vector128<float> pairs, out Vector128<float> even, out Vector128<float> odd)
    {
        Vector128<uint> bits = pairs.AsUInt32();
        even = (bits << 16).AsSingle();
        odd = (bits & Vector128.Create(0xFFFF0000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenF16Pairs(Vector128<float> pairs, out Vector128<float> even, out Vector128<float> odd)
    {
        Vector128<uint> bits = pairs.AsUInt32();
        even = FromF16(bits);
        odd = FromF16(bits >> 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LoadCompact(byte* group, int pair)
    {
        if (pair < 3)
            return Vector128.Load((float*)(group + (pair * PanelLayout.StepBytes)));
        Vector128<uint> a = Vector128.Load((uint*)group), b = Vector128.Load((uint*)(group + PanelLayout.StepBytes)),
            c = Vector128.Load((uint*)(group + (2 * PanelLayout.StepBytes)));
        return (((a >> 4) & Vector128.Create(0x07800780u)) | ((b >> 8) & Vector128.Create(0x00780078u)) | ((c << 1) & Vector128.Create(
            0x80008000u)) | ((c >> 11) & Vector128.Create(0x00070007u))).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void WidenCompact(Vector128<float> words, out Vector128<float> even, out Vector128<float> odd)
    {
        even = (((words.AsUInt32() << 16) & Vector128.Create(0x87FF0000u)) | Vector128.Create(0x38000000u)).AsSingle();
        odd = ((words.AsUInt32() & Vector128.Create(0x87FF0000u)) | Vector128.Create(0x38000000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> NarrowCompact(Vector128<float> words, ushort add) =>
        (((words.AsUInt32() & Vector128.Create(0x87FF87FFu)) | Vector128.Create(0x38003800u)).AsUInt16() + Vector128.Create(add))
        .AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LoadF64(byte* source) =>
        Vector128.Narrow(Vector128.Load((double*)source), Vector128.Load((double*)source + (4 / 2)));

    public static void Store(Vector128<float> value, float* destination) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> RoundBf16(Vector128<float> x)
    {
        Vector128<uint> bits = x.AsUInt32();
        Vector128<uint> rounded = bits + Vector128.Create(0x7FFFu) + ((bits >> 16) & Vector128.Create(1u));
        // A NaN's fraction may lie wholly in the lower half; the quiet bit keeps it a NaN.
        Vector128<uint> kept = Vector128.ConditionalSelect(Vector128.Equals(x, x).AsUInt32(), rounded,
            bits | Vector128.Create(0x00400000u));
        return (kept & Vector128.Create(0xFFFF0000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> PairBf16(Vector128<float> first, Vector128<float> second) =>
        ((first.AsUInt32() >> 16) | (second.AsUInt32() & Vector128.Create(0xFFFF0000u))).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBf16(Vector128<float> value, ushort* destination) =>
        Unsafe.WriteUnaligned(destination, Vector128.Narrow(value.AsUInt32() >> 16, default).AsUInt64().ToScalar());

    public static Vector128<float> Add(Vector128<float> a, Vector128<float> b) => a + b;

    public static Vector128<float> Subtract(Vector128<float> a, Vector128<float> b) => a - b;

    public static Vector128<float> Multiply(Vector128<float> a, Vector128<float> b) => a * b;

    public static Vector128<float> Divide(Vector128<float> a, Vector128<float> b) => a / b;

    public static Vector128<float> Sqrt(Vector128<float> x) => Vector128.Sqrt(x);

    public static Vector128<float> MultiplyAdd(Vector128<float> a, Vector128<float> b, Vector128<float> c) =>
        Vector128.MultiplyAddEstimate(a, b, c);

    public static Vector128<float> AtMost(Vector128<float> limit, Vector128<float> x) =>
        Vector128.ConditionalSelect(Vector128.LessThan(limit, x), limit, x);

    public static Vector128<float> AtLeast(Vector128<float> limit, Vector128<float> x) =>
        Vector128.ConditionalSelect(Vector128.GreaterThan(limit, x), limit, x);

    public static Vector128<float> Max(Vector128<float> a, Vector128<float> b) => Vector128.Max(a, b);

    public static Vector128<float> Abs(Vector128<float> x) => Vector128.Abs(x);

    public static Vector128<float> CopySign(Vector128<float> magnitude, Vector128<float> sign) => Vector128.CopySign(magnitude, sign);

    public static Vector128<float> Round(Vector128<float> x) => Vector128.Round(x);

    /// <summary>In two halves, because 2^n itself may be outside the exponents of float32.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Scale(Vector128<float> x, Vector128<float> n)
    {
        Vector128<int> whole = Vector128.ConvertToInt32(n);
        Vector128<int> half = whole >> 1;
        return x * PowerOfTwo(half) * PowerOfTwo(whole - half);
    }

    public static uint GreaterMask(Vector128<float> a, Vector128<float> b) => (uint)Vector128.GreaterThan(a, b)
        .ExtractMostSignificantBits();

    public static uint NotAtMostMask(Vector128<float> a, Vector128<float> b) => (uint)(~Vector128.LessThanOrEqual(a, b))
        .ExtractMostSignificantBits();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(Vector128<float> x)
    {
        Vector128<float> pairs = x + Vector128.Shuffle(x, Vector128.Create(2, 3, 0, 1));
        return pairs[0] + pairs[1];
    }

    public static float MaxLane(Vector128<float> x) => MathF.Max(MathF.Max(x[0], x[1]), MathF.Max(x[2], x[3]));

    private static Vector128<float> PowerOfTwo(Vector128<int> n) => ((n + Vector128.Create(127)) << 23).AsSingle();

    /// <summary>Moves the 15 magnitude bits into place and multiplies by 2^112, which is exact and handles subnormals; an exponent of all ones becomes one again.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> FromF16(Vector128<uint> bits)
    {
        Vector128<uint> magnitude = (bits & Vector128.Create(0x7FFFu)) << 13;
        Vector128<uint> scaled = (magnitude.AsSingle() * Vector128.Create(5.192296858534828e33f)).AsUInt32();
        Vector128<uint> special = Vector128.GreaterThan(magnitude.AsInt32(), Vector128.Create(0x0F7FFFFF))
            .AsUInt32() & Vector128.Create(0x7F800000u);
        return (scaled | special | ((bits & Vector128.Create(0x8000u)) << 16)).AsSingle();
    }

    private static Vector128<uint> Widen16(byte* source) =>
        Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<ulong>(source)).AsUInt16());

    public static void Transpose<E>(byte* source, long rowBytes, float* destination, long stride)
        where E : struct, IElement =>
        Turn(
            E.Load<Simd128, Vector128<float>>(source),
            E.Load<Simd128, Vector128<float>>(source + rowBytes),
            E.Load<Simd128, Vector128<float>>(source + (2 * rowBytes)),
            E.Load<Simd128, Vector128<float>>(source + (3 * rowBytes)),
            destination,
            stride);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TurnFour(float* rows, long stride, float* columns, long columnStride) => Turn(
        Vector128.Load(rows),
        Vector128.Load(rows + stride),
        Vector128.Load(rows + (2 * stride)),
        Vector128.Load(rows + (3 * stride)),
        columns,
        columnStride);

    public static void TurnBf16(float* rows, long stride, uint* pairs, long pairStride)
    {
        float* columns = stackalloc float[16];
        Transpose<ElementF32>((byte*)rows, stride * sizeof(float), columns, 4);
        PairBf16(RoundBf16(Load(columns)), RoundBf16(Load(columns + 4))).AsUInt32().Store(pairs);
        PairBf16(RoundBf16(Load(columns + 8)), RoundBf16(Load(columns + 12))).AsUInt32().Store(pairs + pairStride);
    }

    /// <summary>Four rows of four are stored as four columns, <paramref name="stride"/> apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Turn(Vector128<float> a, Vector128<float> b, Vector128<float> c, Vector128<float> d, float* destination, long stride)
    {
        Turn(a, b, c, d, out Vector128<float> t0, out Vector128<float> t1, out Vector128<float> t2, out Vector128<float> t3);
        t0.Store(destination);
        t1.Store(destination + stride);
        t2.Store(destination + (2 * stride));
        t3.Store(destination + (3 * stride));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Turn(Vector128<float> a, Vector128<float> b, Vector128<float> c, Vector128<float> d, out Vector128<float> t0,
        out Vector128<float> t1, out Vector128<float> t2, out Vector128<float> t3)
    {
        Vector128<float> ab0 = ZipLow(a, b), ab1 = ZipHigh(a, b), cd0 = ZipLow(c, d), cd1 = ZipHigh(c, d);
        t0 = Vector128.Create(ab0.GetLower(), cd0.GetLower());
        t1 = Vector128.Create(ab0.GetUpper(), cd0.GetUpper());
        t2 = Vector128.Create(ab1.GetLower(), cd1.GetLower());
        t3 = Vector128.Create(ab1.GetUpper(), cd1.GetUpper());
    }

    private static Vector128<float> ZipLow(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.UnpackLow(a, b) : Vector128.Create(a[0], b[0], a[1], b[1]);

    private static Vector128<float> ZipHigh(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.UnpackHigh(a, b) : Vector128.Create(a[2], b[2], a[3], b[3]);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void TransposeFour(byte* source, long rowBytes, out Vector128<float> first, out Vector128<float> second,
        out Vector128<float> third, out Vector128<float> fourth) =>
        Turn(
            Load((float*)source),
            Load((float*)(source + rowBytes)),
            Load((float*)(source + (2 * rowBytes))),
            Load((float*)(source + (3 * rowBytes))),
            out first,
            out second,
            out third,
            out fourth);
}

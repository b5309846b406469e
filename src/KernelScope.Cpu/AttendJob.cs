using System.Runtime.CompilerServices;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Cpu;

/// <summary>Where a layer's keys and values are.</summary>
internal unsafe struct KvSlots
{
    public byte* Keys;
    public byte* Values;

    /// <summary>F32 or BF16.</summary>
    public DType Type;
    public int Heads;
    public int Capacity;
    public int HeadDim;

    /// <summary>Offset of a position of a key/value head.</summary>
    public readonly long At(int head, int position) => (((long)head * Capacity) + (position % Capacity)) * HeadDim;

    /// <summary>Bytes of a value.</summary>
    public readonly int Size => Type == DType.BF16 ? sizeof(ushort) : sizeof(float);

    /// <summary>Where a position of a key/value head lies.</summary>
    public readonly byte* Place(byte* keysOrValues, int head, int position) => keysOrValues + (At(head, position) * Size);

    /// <summary>
    /// The keys (or values) of consecutive positions, one after the other, as they are stored: where they lie, or in <paramref name="copy"/> where the ring's end is between them.
    /// So sums are cut the same way whatever the capacity.
    /// </summary>
    public readonly byte* Block(byte* keysOrValues, int head, int first, int count, float* copy)
    {
        int before = Math.Min(count, Capacity - (first % Capacity)), row = HeadDim * Size;
        byte* start = Place(keysOrValues, head, first);
        if (before == count)
            return start;
        new ReadOnlySpan<byte>(start, before * row).CopyTo(new Span<byte>(copy, before * row));
        int after = (count - before) * row;
        new ReadOnlySpan<byte>(Place(keysOrValues, head, first + before), after)
            .CopyTo(new Span<byte>((byte*)copy + (before * row), after));
        return (byte*)copy;
    }

    /// <summary>The same as float32: in <paramref name="copy"/> where they are stored otherwise.</summary>
    public readonly float* Widened(byte* keysOrValues, int head, int first, int count, float* copy)
    {
        if (Type == DType.F32)
            return (float*)Block(keysOrValues, head, first, count, copy);
        int before = Math.Min(count, Capacity - (first % Capacity)), after = (count - before) * HeadDim;
        Widen(Place(keysOrValues, head, first), before * HeadDim, copy);
        if (after > 0)
            Widen(Place(keysOrValues, head, first + before), after, copy + (before * HeadDim));
        return copy;
    }

    private static void Widen(byte* stored, int count, float* values) =>
        BFloat16.Widen(new ReadOnlySpan<BFloat16>(stored, count), new Span<float>(values, count));
}

/// <summary>Arguments of <see cref="AttendFewOp{S, V}"/> and <see cref="AttendManyOp{S, V}"/>.</summary>
internal unsafe struct AttendJob
{
    /// <summary>Keys that are treated at once; blocks begin at multiples of it, so a query's sums do not depend on the chunk that it comes in.</summary>
    public const int BlockKeys = 128;

    public float* Q;
    public long QStride;

    /// <summary>Number of queries of each head.</summary>
    public int Rows;
    public KvSlots Cache;
    public int Heads;

    /// <summary>Position of the first query.</summary>
    public int Position;
    public float Scale;

    /// <summary>0: none.</summary>
    public float Cap;

    /// <summary>0: all keys.</summary>
    public int Window;
    public float* Y;
    public long Stride;

    /// <summary>Memory of each worker.</summary>
    public float* Scratch;
    public long ScratchStride;

    /// <summary>Few rows: for each row, head and block z, then the maximum and the sum. Many rows: not used.</summary>
    public float* Partials;
    public int FirstBlock;
    public int Blocks;

    /// <summary>Few rows: the sequence's first unit, and its first unit of the merge, among those of all sequences of the op.</summary>
    public int FirstUnit;
    public int FirstMerge;

    /// <summary>Many rows: queries of a unit.</summary>
    public int UnitRows;

    /// <summary>Query heads that share a key/value head.</summary>
    public readonly int Group => Heads / Cache.Heads;

    /// <summary>Values of one entry of <see cref="Partials"/>.</summary>
    public readonly int PartialLength => (Cache.HeadDim + 2 + 15) / 16 * 16;

    /// <summary>Values of <see cref="Partials"/>.</summary>
    public readonly long PartialsLength => (long)Rows * Heads * Blocks * PartialLength;

    /// <summary>First position that a query at <paramref name="position"/> sees.</summary>
    public readonly int FirstKey(int position) => Window > 0 ? Math.Max(0, position - Window + 1) : 0;
}

/// <summary>Few rows each of one or several sequences, whose units are numbered through.</summary>
internal unsafe struct AttendFewJob
{
    public AttendJob* Jobs;
    public int Count;

    /// <summary>Number of units.</summary>
    public int Units;

    /// <summary>Number of units of the merge.</summary>
    public int Merges;
}

/// <summary>A softmax over blocks of keys, of which each has its own maximum: the maximum so far, and the sum of exponentials relative to it.</summary>
/// <remarks>Few queries and many join blocks by it, one after the other, so a query gets the same bits among few as among many.</remarks>
internal struct RunningSoftmax
{
    public float Max;
    public double Sum;

    /// <summary>That of no block.</summary>
    public static RunningSoftmax None => new() { Max = float.NegativeInfinity };

    /// <summary>Takes a block in, whose maximum is not −∞.</summary>
    /// <param name="max">Its maximum.</param>
    /// <param name="sum">Its sum of exponentials, relative to <paramref name="max"/>.</param>
    /// <returns>What z so far, and the block's own z, are to be multiplied by.</returns>
    public (float Old, float Block) Add(float max, float sum)
    {
        float all = MathF.Max(Max, max);
        double old = Max == all ? 1 : Math.Exp((double)Max - all), factor = max == all ? 1 : Math.Exp((double)max - all);
        Sum = (Sum * old) + (factor * sum);
        Max = all;
        return ((float)old, (float)factor);
    }
}

/// <summary>Scores of one query over some keys.</summary>
internal static unsafe class Scores<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>
    /// s ← cap(scale·s) for <paramref name="count"/> scores, of which the first <paramref name="hidden"/> become −∞, as do those up to a whole vector;
    /// gives the largest (NaN if one is).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Finish(float* s, int hidden, int count, float scale, float cap)
    {
        V factor = S.All(cap > 0 ? scale / cap : scale), limit = S.All(cap), max = S.All(float.NegativeInfinity);
        for (int j = 0; j < count; j += S.Lanes)
        {
            V value = S.Multiply(S.Load(s + j), factor);
            value = cap > 0 ? S.Multiply(limit, VectorMath<S, V>.Tanh(value)) : value;
            S.Store(value, s + j);
            max = S.Max(max, value);
        }

        if (hidden == 0 && count % S.Lanes == 0)
            return S.MaxLane(max);
        new Span<float>(s, hidden).Fill(float.NegativeInfinity);
        for (int j = count; j % S.Lanes != 0; j++)
            s[j] = float.NegativeInfinity;
        max = S.All(float.NegativeInfinity);
        for (int j = 0; j < count; j += S.Lanes)
            max = S.Max(max, S.Load(s + j));
        return S.MaxLane(max);
    }

    /// <summary>s ← exp(s − max), up to a whole vector; gives the sum.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Exponentials(float* s, int count, float max)
    {
        V shift = S.All(max), sum = S.All(0);
        for (int j = 0; j < count; j += S.Lanes)
        {
            V p = VectorMath<S, V>.Exp(S.Subtract(S.Load(s + j), shift));
            S.Store(p, s + j);
            sum = S.Add(sum, p);
        }

        return S.Sum(sum);
    }

    /// <summary>Brings z, whose softmax had another maximum, and a block's own z together: z ← old·z + factor·block. Each value by itself, so any portions give the same bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Join(float* z, float old, float* block, float factor, int count)
    {
        V a = S.All(old), b = S.All(factor);
        int i = 0;
        for (; i + S.Lanes <= count; i += S.Lanes)
            S.Store(S.MultiplyAdd(b, S.Load(block + i), S.Multiply(a, S.Load(z + i))), z + i);
        if (i == count)
            return;
        V own = Partial.Load<S, V, ElementF32>((byte*)(z + i), count - i),
            added = Partial.Load<S, V, ElementF32>((byte*)(block + i), count - i);
        Partial.Store<S, V>(S.MultiplyAdd(b, added, S.Multiply(a, own)), z + i, count - i);
    }

    /// <summary>z ← factor·z.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale(float* z, int count, float factor)
    {
        int i = 0;
        for (; i + S.Lanes <= count; i += S.Lanes)
            S.Store(S.Multiply(S.Load(z + i), S.All(factor)), z + i);
        for (; i < count; i++)
            z[i] *= factor;
    }
}

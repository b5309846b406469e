using System.Runtime.InteropServices;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Devices;

/// <summary>The keys and values of one layer: a ring of <see cref="Capacity"/> positions for every key/value head.</summary>
/// <remarks>
/// Position p of key/value head h is row <c>h·Capacity + p mod Capacity</c> of <see cref="Keys"/> and <see cref="Values"/>, each [kv heads · capacity, d_head]:
/// a head's keys lie side by side, as attention reads them. A global layer's capacity is the context length, so it never wraps.
/// A sliding layer needs its window and one chunk less one token: the first query of a chunk still reads what its last token must not overwrite.
/// A cache of <see cref="DType.BF16"/> takes half the memory: keys (after RoPE) and values are rounded to nearest even as they are stored; scores and sums stay
/// float32. Its matrices are [kv heads · capacity, d_head/2], and each float32 in them is a word of two bfloat16, the first in the lower half.
/// Any number of threads may read it; what its memory holds is for one caller at a time, as its session is.
/// </remarks>
public sealed class KvLayer
{
    /// <summary>Describes a layer's cache in memory that somebody else owns.</summary>
    public KvLayer(Mat keys, Mat values, int kvHeadCount, int capacity, DType type = DType.F32)
    {
        ThrowIfNoType(type);
        if (keys.Rows != (long)kvHeadCount * capacity || values.Rows != keys.Rows || values.Columns != keys.Columns || !keys.IsDense
            || !values.IsDense)
            throw new ArgumentException($"{keys} and {values} are not a cache of {kvHeadCount} heads and {capacity} positions.",
            nameof(keys));
        Keys = keys;
        Values = values;
        KvHeadCount = kvHeadCount;
        Capacity = capacity;
        Type = type;
    }

    /// <summary>Keys after RoPE, [kv heads · capacity, d_head].</summary>
    public Mat Keys { get; }

    /// <summary>Values, [kv heads · capacity, d_head].</summary>
    public Mat Values { get; }

    /// <summary>Number of key/value heads.</summary>
    public int KvHeadCount { get; }

    /// <summary>Number of positions that are kept.</summary>
    public int Capacity { get; }

    /// <summary>How keys and values are kept: F32 or BF16.</summary>
    public DType Type { get; }

    /// <summary>d_head: values of a key or of a value.</summary>
    public int HeadDim => Keys.Columns * (Type == DType.BF16 ? 2 : 1);

    /// <summary>Refuses a type in which no cache is kept.</summary>
    internal static void ThrowIfNoType(DType type)
    {
        if (type is not (DType.F32 or DType.BF16))
            throw new ArgumentException($"Keys and values are kept as F32 or BF16, not as {type}.", nameof(type));
    }

    /// <summary>Value <paramref name="i"/> of a row of <see cref="Keys"/> or <see cref="Values"/> in host memory.</summary>
    internal float At(ReadOnlySpan<float> row, int i) =>
        Type == DType.F32 ? row[i] : (float)MemoryMarshal.Cast<float, BFloat16>(row)[i];

    /// <summary>Puts values into such a row.</summary>
    internal void Put(ReadOnlySpan<float> values, Span<float> row)
    {
        if (Type == DType.F32)
            values.CopyTo(row);
        else
            BFloat16.Narrow(values, MemoryMarshal.Cast<float, BFloat16>(row));
    }

    /// <summary>The values of whole rows.</summary>
    internal float[] Widened(float[] rows)
    {
        if (Type == DType.F32)
            return rows;
        float[] values = new float[2 * rows.Length];
        BFloat16.Widen(MemoryMarshal.Cast<float, BFloat16>(rows), values);
        return values;
    }
}

/// <summary>What attention needs to know besides q, k and v.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct AttentionShape
{
    /// <summary>A shape of its numbers.</summary>
    /// <param name="headCount">Number of query heads; a multiple of the key/value heads. Query head h reads key/value head h / (heads / kv heads).</param>
    /// <param name="scale">Factor of q·k, query_pre_attn_scalar^(−1/2).</param>
    /// <param name="softcap">Scores s become cap·tanh(s/cap); 0: no cap.</param>
    /// <param name="window">Number of keys that a query sees, its own included; 0: all before it.</param>
    public AttentionShape(int headCount, float scale, float softcap, int window)
    {
        HeadCount = headCount;
        Scale = scale;
        Softcap = softcap;
        Window = window;
    }

    /// <summary>Number of query heads; a multiple of the key/value heads. Query head h reads key/value head h / (heads / kv heads).</summary>
    public int HeadCount { get; init; }

    /// <summary>Factor of q·k, query_pre_attn_scalar^(−1/2).</summary>
    public float Scale { get; init; }

    /// <summary>Scores s become cap·tanh(s/cap); 0: no cap.</summary>
    public float Softcap { get; init; }

    /// <summary>Number of keys that a query sees, its own included; 0: all before it.</summary>
    public int Window { get; init; }
}

/// <summary>Consecutive rows of a call that belong to one sequence.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct SequenceRows
{
    /// <summary>The rows of one sequence, with its cache and position.</summary>
    /// <param name="cache">The sequence's keys and values.</param>
    /// <param name="firstRow">The first of the rows.</param>
    /// <param name="rowCount">Their number, at least 1.</param>
    /// <param name="position">Position of the first row in its sequence.</param>
    public SequenceRows(KvLayer cache, int firstRow, int rowCount, int position)
    {
        Cache = cache;
        FirstRow = firstRow;
        RowCount = rowCount;
        Position = position;
    }

    /// <summary>The sequence's keys and values.</summary>
    public KvLayer Cache { get; init; }

    /// <summary>The first of the rows.</summary>
    public int FirstRow { get; init; }

    /// <summary>Number of rows, at least 1.</summary>
    public int RowCount { get; init; }

    /// <summary>Position of the first row in its sequence.</summary>
    public int Position { get; init; }

    /// <summary>The rows and the position, for messages.</summary>
    public override string ToString() => $"A sequence of {RowCount} rows from row {FirstRow} at position {Position}";
}

using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace KernelScope.Cpu;

/// <summary>Where a kernel prefetches the weights that it will read next.</summary>
internal enum PrefetchTo
{
    /// <summary>It does not.</summary>
    Nothing,

    /// <summary><see cref="Prefetch.Passing"/>.</summary>
    Passing,

    /// <summary><see cref="Prefetch.Near"/>.</summary>
    Near,

    /// <summary>The block behind the one that is read, at several places of it at once, by every pass over this one its share: memory gives more to several streams than to one, and works on while a pass finds all in a cache.</summary>
    NextBlock,
}

/// <summary>Cache lines of a block of memory that will be needed next, prefetched in small portions while something else computes.</summary>
internal unsafe struct Prefetch
{
    private const int LineBytes = 64;

    private readonly long _stride;
    private readonly int _lines;
    private byte* _row;
    private int _line;
    private int _rows;

    /// <summary>A block of rows of <paramref name="bytes"/> bytes, <paramref name="stride"/> apart.</summary>
    public Prefetch(byte* start, long stride, int bytes, int rows)
    {
        _row = start;
        _stride = stride;
        _lines = (bytes + LineBytes - 1) / LineBytes;
        _rows = rows;
    }

    /// <summary>Prefetches bytes, a multiple of 64 and not many, that will be read once: they come into the first-level cache and drive nothing else out. What is prefetched need not exist.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Passing(byte* start, int bytes)
    {
        for (int at = 0; Sse.IsSupported && at < bytes; at += LineBytes)
            Sse.PrefetchNonTemporal(start + at);
    }

    /// <summary>The same into the second-level cache: for streams so many that they would drive each other out of the first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Near(byte* start, int bytes)
    {
        for (int at = 0; Sse.IsSupported && at < bytes; at += LineBytes)
            Sse.Prefetch1(start + at);
    }

    /// <summary>A line into the second-level cache.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Line(byte* start)
    {
        if (Sse.IsSupported)
            Sse.Prefetch1(start);
    }

    /// <summary>Lines of each of <paramref name="portions"/> portions.</summary>
    public readonly int Share(int portions) => (int)((((long)_lines * _rows) + portions - 1) / portions);

    /// <summary>Prefetches the next lines; does nothing when all were, or where the processor has no such instruction.</summary>
    public void Issue(int lines)
    {
        for (; Sse.IsSupported && lines > 0 && _rows > 0; lines--)
        {
            Sse.Prefetch1(_row + ((long)_line * LineBytes));
            if (++_line == _lines)
            {
                _line = 0;
                _row += _stride;
                _rows--;
            }
        }
    }
}

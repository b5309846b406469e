using System.Runtime.CompilerServices;

namespace KernelScope.Cpu;

/// <summary>What one pass over a block of a panel prefetches, group by group.</summary>
internal unsafe struct PanelPrefetch
{
    private const int LineBytes = 64;

    // From what is computed with to what is prefetched; measured best of 1 to 16 kB.
    private const int AheadBytes = 4096;

    private readonly PrefetchTo _to;
    private readonly int _streams;
    private readonly long _stride;
    private byte* _next;

    /// <summary>One of the passes over a block.</summary>
    /// <param name="to">Where to; unless that is the next block, the first pass does it for all.</param>
    /// <param name="pass">Which one.</param>
    /// <param name="passes">Of so many.</param>
    /// <param name="block">The block.</param>
    /// <param name="groups">Its groups.</param>
    /// <param name="groupBytes">Bytes of a group.</param>
    public PanelPrefetch(PrefetchTo to, int pass, int passes, byte* block, int groups, int groupBytes)
    {
        _to = pass == 0 || to == PrefetchTo.NextBlock ? to : PrefetchTo.Nothing;
        // As many places of the block as a group has lines, shared among the passes.
        int lines = groupBytes / LineBytes, first = pass * lines / passes;
        _streams = ((pass + 1) * lines / passes) - first;
        _stride = (long)groups * LineBytes;
        _next = block + ((long)groups * groupBytes) + (first * _stride);
    }

    /// <summary>Prefetches what belongs to a group.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Issue(byte* group, int groupBytes)
    {
        if (_to == PrefetchTo.Passing)
        {
            Prefetch.Passing(group + AheadBytes, groupBytes);
        }
        else if (_to == PrefetchTo.Near)
        {
            Prefetch.Near(group + AheadBytes, groupBytes);
        }
        else if (_to == PrefetchTo.NextBlock)
        {
            for (int s = 0; s < _streams; s++)
                Prefetch.Line(_next + (s * _stride));
            _next += LineBytes;
        }
    }
}

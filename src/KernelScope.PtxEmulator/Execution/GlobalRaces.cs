namespace KernelScope.PtxEmulator.Execution;

internal enum AccessKind
{
    Read,
    Write,

    /// <summary>Atomics, and loads and stores marked volatile, relaxed, acquire or release.</summary>
    Atomic,
}

/// <summary>
/// Which blocks touched which bytes of global memory in one launch. A word's entry holds the kind of access, a mask of its bytes and the block, and
/// changes by compare-and-swap, so a conflict is found whatever the order in which host threads run blocks. Where the bytes of a word have
/// different stories, the entry says so and a table keeps them apart.
/// </summary>
internal sealed unsafe class GlobalRaces(GlobalMemory memory)
{
    /// <summary>Blocks that an entry can name.</summary>
    public const long MaxBlocks = 1 << 25;

    private const uint ReadOne = 1u << 29;
    private const uint ReadMany = 2u << 29;
    private const uint WriteOne = 3u << 29;
    private const uint AtomicOne = 4u << 29;
    private const uint AtomicMany = 5u << 29;
    private const uint Mixed = 6u << 29;
    private const uint KindMask = 7u << 29;
    private const int BytesShift = 25;
    private const uint BytesMask = 15u << BytesShift;
    private const uint BlockMask = (1u << BytesShift) - 1;
    private const int ChunkShift = 16;

    private readonly Dictionary<long, uint[]> _mixed = [];
    private readonly byte[] _chunks = new byte[(memory.Bytes >> ChunkShift) + 1];

    /// <summary>Records an access to [start, end), offsets in memory. Returns the offset at which it conflicts with another block, or -1.</summary>
    public long Touch(long start, long end, AccessKind kind, uint block)
    {
        _chunks[start >> ChunkShift] = 1;
        _chunks[(end - 1) >> ChunkShift] = 1;
        if (((start | end) & 3) == 0 && kind != AccessKind.Atomic)
        {
            var words = new Span<uint>(memory.Touched + (start >> 2), (int)((end - start) >> 2));
            int settled = kind == AccessKind.Read
                ? words.IndexOfAnyExcept(ReadMany | BytesMask, ReadOne | BytesMask | block, WriteOne | BytesMask | block)
                : words.IndexOfAnyExcept(WriteOne | BytesMask | block);
            if (settled < 0)
                return -1;
            start += settled * 4L;
        }
        for (long at = start; at < end; at = (at & ~3L) + 4)
        {
            uint bytes = 15u << (int)(at & 3) & 15;
            if (end - (at & ~3L) < 4)
                bytes &= (1u << (int)(end & 3)) - 1;
            if (!TouchWord(at >> 2, bytes, kind, block))
                return at;
        }
        return -1;
    }

    /// <summary>The block that touched a byte before, for messages; -1 if several did.</summary>
    public long Other(long offset)
    {
        uint entry = memory.Touched[offset >> 2];
        if ((entry & KindMask) == Mixed)
            lock (_mixed)
                entry = _mixed[offset >> 2][offset & 3];
        return (entry & KindMask) is ReadMany or AtomicMany ? -1 : entry & BlockMask;
    }

    /// <summary>Forgets the launch.</summary>
    public void Clear()
    {
        for (int chunk = 0; chunk < _chunks.Length; chunk++)
        {
            if (_chunks[chunk] == 0)
                continue;
            _chunks[chunk] = 0;
            long start = (long)chunk << ChunkShift;
            long bytes = Math.Min(1L << ChunkShift, memory.Bytes - start);
            new Span<uint>(memory.Touched + (start >> 2), (int)(bytes >> 2)).Clear();
        }
        _mixed.Clear();
    }

    private bool TouchWord(long word, uint bytes, AccessKind kind, uint block)
    {
        ref uint place = ref memory.Touched[word];
        while (true)
        {
            uint old = Volatile.Read(ref place);
            if ((old & KindMask) == Mixed)
                return TouchMixed(word, bytes, kind, block);
            uint known = (old & BytesMask) >> BytesShift;
            uint story = old & ~BytesMask;
            uint fresh = Fresh(kind, block);
            uint next = fresh;
            if ((known & bytes) != 0 && !TryStep(story, kind, block, out next))
                return false;
            bool one = ((bytes & ~known) == 0 || next == fresh) && ((known & ~bytes) == 0 || next == story);
            if (!one)
            {
                Split(ref place, old, word);
                continue;
            }
            next |= (known | bytes) << BytesShift;
            if (next == old || Interlocked.CompareExchange(ref place, next, old) == old)
                return true;
        }
    }

    private void Split(ref uint place, uint old, long word)
    {
        lock (_mixed)
        {
            if (Volatile.Read(ref place) != old)
                return;
            uint known = (old & BytesMask) >> BytesShift;
            var stories = new uint[4];
            for (int i = 0; i < 4; i++)
                stories[i] = (known >> i & 1) != 0 ? old & ~BytesMask : 0;
            _mixed[word] = stories;
            if (Interlocked.CompareExchange(ref place, Mixed, old) != old)
                _mixed.Remove(word);
        }
    }

    private bool TouchMixed(long word, uint bytes, AccessKind kind, uint block)
    {
        lock (_mixed)
        {
            uint[] stories = _mixed[word];
            for (int i = 0; i < 4; i++)
            {
                if ((bytes >> i & 1) == 0)
                    continue;
                if (!TryStep(stories[i], kind, block, out uint next))
                    return false;
                stories[i] = next;
            }
            return true;
        }
    }

    private static uint Fresh(AccessKind kind, uint block) =>
        (kind == AccessKind.Read ? ReadOne : kind == AccessKind.Write ? WriteOne : AtomicOne) | block;

    /// <summary>What the story of a byte becomes by an access; false on a conflict.</summary>
    private static bool TryStep(uint story, AccessKind kind, uint block, out uint next)
    {
        uint was = story & KindMask;
        next = Fresh(kind, block);
        if (story == 0)
            return true;
        if ((story & BlockMask) == block && (was is ReadOne or WriteOne or AtomicOne))
        {
            // A block's own accesses conflict with nothing; what matters to others is the strongest of them.
            next = next == story ? story : WriteOne | block;
            return true;
        }
        next = kind == AccessKind.Read ? ReadMany : AtomicMany;
        return kind switch
        {
            AccessKind.Read => was is ReadOne or ReadMany,
            AccessKind.Atomic => was is AtomicOne or AtomicMany,
            _ => false,
        };
    }
}

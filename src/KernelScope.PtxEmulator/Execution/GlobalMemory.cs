using System.Runtime.InteropServices;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>A device buffer.</summary>
internal sealed class Allocation(string name, ulong start, long bytes)
{
    public string Name { get; } = name;

    public ulong Start { get; } = start;

    public long Bytes { get; } = bytes;

    public ulong End => Start + (ulong)Bytes;

    /// <summary>Everything before this address was written by the host: no byte needs looking up.</summary>
    public ulong WrittenEnd { get; set; } = start;

    /// <summary>A kernel has written into it.</summary>
    public bool KernelsWrite { get; set; }
}

/// <summary>
/// Device memory with two shadows: one byte a byte says whether it was written, one word a word says which blocks touched it in the running launch.
/// Buffers lie apart, and freed space is used again only when nothing else is left, so that stray and late accesses are seen.
/// </summary>
internal sealed unsafe class GlobalMemory : IDisposable
{
    public const int Alignment = 256;
    private const int RedZone = 256;
    private readonly SortedList<ulong, Allocation> _live = [];
    private readonly SortedList<ulong, Allocation> _freed = [];
    private Allocation[] _sorted = [];
    private ulong _top = AddressSpace.GlobalBase;

    public GlobalMemory(long bytes)
    {
        Bytes = (bytes + 65535) & ~65535L;
        Data = (byte*)NativeMemory.AllocZeroed((nuint)Bytes);
        Written = (byte*)NativeMemory.AllocZeroed((nuint)Bytes);
        Touched = (uint*)NativeMemory.AllocZeroed((nuint)Bytes);
    }

    public long Bytes { get; }

    public byte* Data { get; private set; }

    /// <summary>Per byte, 1 once written.</summary>
    public byte* Written { get; private set; }

    /// <summary>Per 4-byte word, see <see cref="GlobalRaces"/>.</summary>
    public uint* Touched { get; private set; }

    public long UsedBytes { get; private set; }

    public ulong Allocate(long bytes, string name)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        ulong span = Span(bytes);
        ulong end = AddressSpace.GlobalBase + (ulong)Bytes;
        ulong start = _top;
        if (start + span > end)
        {
            start = FindGap(span);
            ForgetFreed(start, start + span);
        }
        else
        {
            _top = start + span;
        }
        var allocation = new Allocation(name, start, bytes);
        _live.Add(start, allocation);
        _sorted = [.. _live.Values];
        UsedBytes += (long)span;
        return start;
    }

    public void Free(ulong address)
    {
        if (!_live.Remove(address, out Allocation? allocation))
            throw new ArgumentException($"no device buffer begins at 0x{address:X}", nameof(address));
        _sorted = [.. _live.Values];
        _freed[address] = allocation;
        UsedBytes -= (long)Span(allocation.Bytes);
        NativeMemory.Clear(Written + (address - AddressSpace.GlobalBase), (nuint)allocation.Bytes);
    }

    /// <summary>The live buffer that holds the range, or null.</summary>
    public Allocation? Find(ulong start, ulong end)
    {
        Allocation? candidate = Below(_sorted, start);
        return candidate is not null && end <= candidate.End ? candidate : null;
    }

    /// <summary>The freed buffer that held the address, or null.</summary>
    public Allocation? FindFreed(ulong address)
    {
        Allocation? candidate = Below([.. _freed.Values], address);
        return candidate is not null && address < candidate.End ? candidate : null;
    }

    /// <summary>Says where an address lies relative to the nearest buffers.</summary>
    public string Describe(ulong address)
    {
        Allocation? below = Below(_sorted, address);
        if (below is not null && address < below.End)
            return $"at byte {address - below.Start} of buffer '{below.Name}' ({below.Bytes} bytes)";
        if (below is not null && address - below.End < 1 << 20)
            return $"{address - below.End} bytes from the end of buffer '{below.Name}' ({below.Bytes} bytes)";
        foreach (Allocation above in _sorted)
            if (above.Start > address && above.Start - address <= 1 << 20)
                return $"{above.Start - address} bytes before buffer '{above.Name}' ({above.Bytes} bytes)";
        return "near no buffer";
    }

    /// <summary>Host access: checks the range and returns its place.</summary>
    public byte* HostRange(ulong address, long bytes, string verb)
    {
        Allocation allocation = Find(address, address + (ulong)bytes) ?? throw new ArgumentException(
            $"cannot {verb} {bytes} bytes at 0x{address:X}: {Describe(address)}, which is not {bytes} bytes inside one buffer",
            nameof(address));
        return Data + (allocation.Start - AddressSpace.GlobalBase) + (address - allocation.Start);
    }

    /// <summary>Notes that the host wrote a range.</summary>
    public void MarkWritten(ulong address, long bytes)
    {
        Allocation allocation = Find(address, address + (ulong)bytes)!;
        ulong end = address + (ulong)bytes;
        if (address <= allocation.WrittenEnd)
        {
            allocation.WrittenEnd = Math.Max(allocation.WrittenEnd, end);
            return;
        }
        for (ulong at = address; at < end; at += 1 << 30)
            new Span<byte>(Written + (at - AddressSpace.GlobalBase), (int)Math.Min(end - at, 1 << 30)).Fill(1);
    }

    /// <summary>Notes that a range is as much written as another one.</summary>
    public void CopyWritten(ulong target, ulong source, long bytes)
    {
        ulong known = Find(source, source + (ulong)bytes)!.WrittenEnd;
        long whole = known <= source ? 0 : (long)Math.Min(known - source, (ulong)bytes);
        Buffer.MemoryCopy(Written + (source - AddressSpace.GlobalBase) + whole, Written + (target - AddressSpace.GlobalBase) + whole,
            bytes - whole, bytes - whole);
        if (whole > 0)
            MarkWritten(target, whole);
    }

    public void Dispose()
    {
        NativeMemory.Free(Data);
        NativeMemory.Free(Written);
        NativeMemory.Free(Touched);
        Data = Written = null;
        Touched = null;
    }

    private static ulong Span(long bytes) => ((ulong)bytes + Alignment - 1) / Alignment * Alignment + RedZone;

    private static Allocation? Below(Allocation[] sorted, ulong address)
    {
        int low = 0;
        int high = sorted.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            if (sorted[middle].Start <= address)
                low = middle + 1;
            else
                high = middle - 1;
        }
        return high < 0 ? null : sorted[high];
    }

    private ulong FindGap(ulong span)
    {
        ulong start = AddressSpace.GlobalBase;
        foreach (Allocation allocation in _sorted)
        {
            if (start + span <= allocation.Start)
                return start;
            start = allocation.Start + Span(allocation.Bytes);
        }
        if (start + span <= AddressSpace.GlobalBase + (ulong)Bytes)
            return start;
        throw new InsufficientMemoryException(
            $"the emulated device has {Bytes} bytes, {UsedBytes} of them in use; {span} bytes in one piece are not free");
    }

    private void ForgetFreed(ulong start, ulong end)
    {
        for (int i = _freed.Count - 1; i >= 0; i--)
            if (_freed.Values[i].Start < end && _freed.Values[i].End > start)
                _freed.RemoveAt(i);
    }
}

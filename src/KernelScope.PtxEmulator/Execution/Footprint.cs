using System.Numerics;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>Which sectors of device memory a launch touched, whatever the number of times: what would go to and from the memory itself if no cache ever forgot anything.</summary>
internal sealed class Footprint(long memoryBytes)
{
    private const int SectorShift = 5;
    private readonly ulong[] _read = new ulong[(memoryBytes >> (SectorShift + 6)) + 1];
    private readonly ulong[] _written = new ulong[(memoryBytes >> (SectorShift + 6)) + 1];

    /// <summary>Bytes of the distinct sectors that were read.</summary>
    public long ReadBytes => Bytes(_read);

    /// <summary>Bytes of the distinct sectors that were written.</summary>
    public long WrittenBytes => Bytes(_written);

    /// <summary>Notes the sectors of a range; host threads may do so at once.</summary>
    public void Touch(ulong start, ulong end, AccessMode mode)
    {
        ulong[] sectors = (mode & AccessMode.Write) != 0 ? _written : _read;
        ulong last = (end - 1 - AddressSpace.GlobalBase) >> SectorShift;
        for (ulong sector = (start - AddressSpace.GlobalBase) >> SectorShift; sector <= last; sector++)
        {
            ulong bit = 1UL << (int)(sector & 63);
            ref ulong word = ref sectors[sector >> 6];
            if ((Volatile.Read(ref word) & bit) == 0)
                Interlocked.Or(ref word, bit);
        }
    }

    private static long Bytes(ulong[] sectors)
    {
        long count = 0;
        foreach (ulong word in sectors)
            count += BitOperations.PopCount(word);
        return count << SectorShift;
    }
}

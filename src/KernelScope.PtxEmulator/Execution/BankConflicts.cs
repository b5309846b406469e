using System.Numerics;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>
/// Wavefronts of a shared-memory request: 32 banks of 4 bytes, one word a bank and wavefront, lanes that want the same word share it. Accesses of
/// 8 bytes are served by half warps, of 16 bytes by quarter warps.
/// </summary>
internal static unsafe class BankConflicts
{
    /// <summary>Wavefronts of a request, and the fewest that its active lanes could do with.</summary>
    public static (int Wavefronts, int Least) Count(int* offsets, uint mask, int bytes)
    {
        int lanes = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
        int wavefronts = 0;
        int least = 0;
        for (int first = 0; first < 32; first += lanes)
        {
            uint phase = mask >> first & (uint)((1UL << lanes) - 1);
            if (phase == 0)
                continue;
            wavefronts += Phase(offsets + first, phase, Math.Max(1, bytes / 4));
            least++;
        }
        return (wavefronts, least);
    }

    private static int Phase(int* offsets, uint mask, int words)
    {
        int* first = stackalloc int[32];
        uint used = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int word = offsets[BitOperations.TrailingZeroCount(rest)] >> 2;
            for (int i = 0; i < words; i++, word++)
            {
                int bank = word & 31;
                if ((used >> bank & 1) == 0)
                {
                    used |= 1u << bank;
                    first[bank] = word;
                }
                else if (first[bank] != word)
                {
                    return Conflicted(offsets, mask, words);
                }
            }
        }
        return 1;
    }

    private static int Conflicted(int* offsets, uint mask, int words)
    {
        Span<int> seen = stackalloc int[128];
        Span<int> perBank = stackalloc int[32];
        perBank.Clear();
        int count = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int word = offsets[BitOperations.TrailingZeroCount(rest)] >> 2;
            for (int i = 0; i < words; i++, word++)
            {
                if (seen[..count].Contains(word))
                    continue;
                seen[count++] = word;
                perBank[word & 31]++;
            }
        }
        int most = 0;
        foreach (int distinct in perBank)
            most = Math.Max(most, distinct);
        return most;
    }
}

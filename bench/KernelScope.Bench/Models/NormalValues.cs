using KernelScope.Numerics;

namespace KernelScope.Bench.Models;

/// <summary>
/// Values like trained weights: normal, σ = 0.02, in bfloat16. The value at an index is one of 65,536 drawn ones, chosen by a hash of the index: any range can be made by any thread, at the speed of memory.
/// </summary>
/// <remarks>
/// Through Gemma 2's layers such values neither vanish nor grow: a norm stands before and behind every product, so that each sub-layer adds a row of size about 1 to the stream.
/// </remarks>
internal sealed class NormalValues
{
    public const double Deviation = 0.02;

    private const int Draws = 1 << 16;
    private const int PieceLength = 1 << 16;
    private readonly BFloat16[] _drawn = new BFloat16[Draws];

    public NormalValues()
    {
        var random = new Random(2);
        for (int n = 0; n < Draws; n += 2)
        {
            // Box and Muller: two independent normal values of two uniform ones.
            double radius = Deviation * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())), angle = 2 * Math.PI * random.NextDouble();
            _drawn[n] = (BFloat16)(float)(radius * Math.Cos(angle));
            _drawn[n + 1] = (BFloat16)(float)(radius * Math.Sin(angle));
        }
    }

    /// <summary>Writes the values from an index on, a multiple of 4, with all cores.</summary>
    public void Fill(BFloat16[] values, int count, long index) => Parallel.For(0, (count + PieceLength - 1) / PieceLength, piece =>
    {
        int start = piece * PieceLength;
        Fill(values.AsSpan(start, Math.Min(PieceLength, count - start)), (ulong)(index + start) / 4);
    });

    private void Fill(Span<BFloat16> values, ulong counter)
    {
        for (int n = 0; n < values.Length; n += 4)
        {
            ulong bits = Hash(counter++);
            for (int of = n; of < Math.Min(n + 4, values.Length); of++, bits >>= 16)
                values[of] = _drawn[(ushort)bits];
        }
    }

    /// <summary>The finalizer of SplitMix64.</summary>
    private static ulong Hash(ulong counter) => SplitMix64.Mix((counter + 1) * SplitMix64.Step);
}

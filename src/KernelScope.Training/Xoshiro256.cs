using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using KernelScope.Numerics;

namespace KernelScope.Training;

/// <summary>xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), seeded by SplitMix64: the same
/// numbers on every machine. A value can be copied and its state stored.</summary>
/// <remarks>For one caller at a time.</remarks>
internal sealed class Xoshiro256
{
    public const int StateLength = 4 * sizeof(ulong);

    private readonly ulong[] _state = new ulong[4];

    /// <summary>A stream of its own for each name: adding a consumer changes none of the others.</summary>
    public Xoshiro256(string identity, long seed, string stream)
    {
        ulong mixed = BinaryPrimitives.ReadUInt64LittleEndian(SHA256.HashData(Encoding.UTF8.GetBytes($"{identity}\n{seed}\n{stream}")));
        for (int n = 0; n < _state.Length; n++)
            _state[n] = SplitMix64.Next(ref mixed);
    }

    public Xoshiro256(ReadOnlySpan<byte> state)
    {
        for (int n = 0; n < _state.Length; n++)
            _state[n] = BinaryPrimitives.ReadUInt64LittleEndian(state[(n * sizeof(ulong))..]);
    }

    public void WriteState(Span<byte> destination)
    {
        for (int n = 0; n < _state.Length; n++)
            BinaryPrimitives.WriteUInt64LittleEndian(destination[(n * sizeof(ulong))..], _state[n]);
    }

    public ulong Next()
    {
        ulong[] s = _state;
        ulong result = ulong.RotateLeft(s[1] * 5, 7) * 9, shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = ulong.RotateLeft(s[3], 45);
        return result;
    }

    /// <summary>In [0, 1), a multiple of 2⁻⁵³.</summary>
    public double Uniform() => (Next() >> 11) * (1.0 / (1L << 53));

    /// <summary>In 0 … <paramref name="limit"/> − 1, each as likely as the others (Lemire, "Fast random integer generation in an interval",
    /// 2019).</summary>
    public long Below(long limit)
    {
        ulong range = (ulong)limit, least = (0 - range) % range;
        while (true)
        {
            ulong high = Math.BigMul(Next(), range, out ulong low);
            if (low >= least)
                return (long)high;
        }
    }

    /// <summary>A permutation, each as likely as the others (Fisher and Yates).</summary>
    public void Shuffle(Span<int> values)
    {
        for (int n = values.Length - 1; n > 0; n--)
        {
            int other = (int)Below(n + 1);
            (values[n], values[other]) = (values[other], values[n]);
        }
    }
}

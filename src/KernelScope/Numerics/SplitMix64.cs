namespace KernelScope.Numerics;

/// <summary>Hashes and pseudorandom numbers of 64 bits that are the same on every machine.</summary>
/// <remarks>
/// SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014. What is stored depends on these bits (rows held back,
/// examples chosen, sampled tokens), so they never change. Any number of threads may call it, each with a state of its own.
/// </remarks>
internal static class SplitMix64
{
    /// <summary>The step between two states: 2⁶⁴ / φ, made odd.</summary>
    public const ulong Step = 0x9E3779B97F4A7C15;

    /// <summary>The finaliser: a bijection in which every bit of the result depends on every bit of the value.</summary>
    public static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>The next number of a sequence.</summary>
    public static ulong Next(ref ulong state) => Mix(state += Step);

    /// <summary>The upper 53 bits as a number in [0, 1), a multiple of 2⁻⁵³.</summary>
    public static double ToUnit(ulong bits) => (bits >> 11) * (1.0 / (1L << 53));
}

using KernelScope.Numerics;

namespace KernelScope.Conformance;

/// <summary>Seeded numbers that are the same on every machine: integers and exact arithmetic only, no library function.</summary>
internal sealed class Generator(ulong seed)
{
    private ulong _state = seed;

    /// <summary>A seed from a name (FNV-1a), so that a case does not depend on the cases before it.</summary>
    public static ulong SeedOf(string name)
    {
        ulong hash = 14695981039346656037;
        foreach (char c in name)
            hash = (hash ^ c) * 1099511628211;
        return hash;
    }

    public ulong Next() => SplitMix64.Next(ref _state);

    /// <summary>In [0, 1), a multiple of 2⁻⁵³.</summary>
    public double Uniform() => SplitMix64.ToUnit(Next());

    /// <summary>Near enough to a standard normal: four uniforms, mean 0, variance 1, within ±3.5.</summary>
    public double Normal() => (Uniform() + Uniform() + Uniform() + Uniform() - 2) * 1.7320508075688772;

    /// <summary>In 0 … <paramref name="limit"/> − 1.</summary>
    public int Below(int limit) => (int)(Uniform() * limit);

    /// <summary>Normal values of a size.</summary>
    public float[] Normals(int count, double size = 1)
    {
        float[] values = new float[count];
        foreach (ref float value in values.AsSpan())
            value = (float)(Normal() * size);
        return values;
    }
}

using System.Runtime.InteropServices;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Measuring;

/// <summary>Uniform random values, the same ones every time.</summary>
internal static class RandomValues
{
    /// <summary>Weights lie between minus and plus this, as trained ones do: nothing overflows or vanishes.</summary>
    public const float Largest = 0.025f;

    /// <summary>Their standard deviation: Largest / √3.</summary>
    public const double Deviation = 0.0144338;

    // Not a power of two, and prime: no two rows are alike.
    private const int TableLength = 1_000_003;

    private static readonly Lazy<float[]> Table = new(() => Create(TableLength, Largest));

    /// <summary>Values in ±<paramref name="size"/>; the same for the same arguments.</summary>
    public static float[] Create(int count, float size)
    {
        var random = new Random(count);
        var values = new float[count];
        foreach (ref float value in values.AsSpan())
            value = ((2 * random.NextSingle()) - 1) * size;
        return values;
    }

    /// <summary>What weights of a type are filled with, over and over, as a file has it.</summary>
    public static byte[] Bytes(DType type)
    {
        if (type == DType.F32)
            return MemoryMarshal.AsBytes<float>(Table.Value).ToArray();
        var narrow = new BFloat16[TableLength];
        BFloat16.Narrow(Table.Value, narrow);
        return MemoryMarshal.AsBytes<BFloat16>(narrow).ToArray();
    }
}

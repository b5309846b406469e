using System.Runtime.InteropServices;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>Test data, and the comparison with formulas in double.</summary>
internal static class Data
{
    /// <summary>Normally distributed values.</summary>
    public static float[] Normal(int count, int seed, double scale = 1)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count)
            .Select(_ => (float)(scale * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble())))];
    }

    /// <summary>Values as a file of the dtype holds them: its bytes, and what they mean.</summary>
    public static (byte[] Bytes, double[] Values) Weights(string dtype, int count, int seed, double scale = 1)
    {
        float[] values = Normal(count, seed, scale);
        switch (dtype)
        {
            case "bf16":
                ushort[] bits = [.. values.Select(RoundToBFloat16)];
                return (MemoryMarshal.AsBytes<ushort>(bits).ToArray(),
                    [.. bits.Select(b => (double)BitConverter.Int32BitsToSingle(b << 16))]);
            case "f16":
                Half[] halves = [.. values.Select(v => (Half)v)];
                return (MemoryMarshal.AsBytes<Half>(halves).ToArray(), [.. halves.Select(h => (double)h)]);
            default:
                return (MemoryMarshal.AsBytes<float>(values).ToArray(), [.. values.Select(v => (double)v)]);
        }
    }

    public static ushort RoundToBFloat16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    /// <summary>The terms of x as bfloat16 [terms, rows, columns], each what is left, rounded; what the tensor forms of products read.</summary>
    public static byte[] Planes(float[] x, int rows, int columns, int stride, int terms)
    {
        ushort[] planes = new ushort[terms * rows * columns];
        for (int i = 0; i < rows * columns; i++)
        {
            float left = x[(i / columns * stride) + (i % columns)];
            for (int t = 0; t < terms; t++)
            {
                ushort term = RoundToBFloat16(left);
                planes[(t * rows * columns) + i] = term;
                left -= BitConverter.Int32BitsToSingle(term << 16);
            }
        }

        return MemoryMarshal.AsBytes<ushort>(planes).ToArray();
    }

    /// <summary>Every value within relative · |expected| + absolute, and NaN where NaN is expected.</summary>
    public static void Close(string name, ReadOnlySpan<double> expected, ReadOnlySpan<float> actual, double relative, double absolute = 0)
    {
        Assert.Equal(expected.Length, actual.Length);
        double worst = 0;
        int at = -1;
        for (int i = 0; i < expected.Length; i++)
        {
            double error = expected[i] == actual[i] || (double.IsNaN(expected[i]) && float.IsNaN(actual[i]))
                ? 0
                : Math.Abs(expected[i] - actual[i]) / ((relative * Math.Abs(expected[i])) + absolute);
            if (!(error <= worst))
            {
                worst = error;
                at = i;
            }
        }

        Assert.True(worst <= 1, at < 0 ? name
            : $"{name}: value {at} is {actual[at]}, expected {expected[at]}: {worst:F2} of what is allowed.");
    }

    /// <summary>x·Wᵀ in double, and Σ|x·w| for each result: what an error is measured against.</summary>
    public static (double[] Product, double[] Magnitude) Multiply(
        ReadOnlySpan<float> x, ReadOnlySpan<double> w, int rows, int columns, int outputs, int xStride)
    {
        double[] product = new double[rows * outputs], magnitude = new double[rows * outputs];
        for (int t = 0; t < rows; t++)
        {
            for (int r = 0; r < outputs; r++)
            {
                double sum = 0, size = 0;
                for (int i = 0; i < columns; i++)
                {
                    double p = x[(t * xStride) + i] * w[(r * columns) + i];
                    sum += p;
                    size += Math.Abs(p);
                }

                product[(t * outputs) + r] = sum;
                magnitude[(t * outputs) + r] = size;
            }
        }

        return (product, magnitude);
    }

    public static double Gelu(double z) => 0.5 * z * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (z + (0.044715 * z * z * z))));

    public static double Cap(double s, double cap) => cap > 0 ? cap * Math.Tanh(s / cap) : s;

    /// <summary>The [rows, columns] part of a matrix with a row stride.</summary>
    public static float[] Rows(float[] values, int rows, int columns, int stride) =>
        [.. Enumerable.Range(0, rows).SelectMany(t => values.AsSpan(t * stride, columns).ToArray())];
}

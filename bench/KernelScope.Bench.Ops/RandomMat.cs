using KernelScope.Devices;

namespace KernelScope.Bench.Ops;

/// <summary>Matrices of random values.</summary>
internal static class RandomMat
{
    /// <summary>Values evenly spread over ±1, the same for the same sizes.</summary>
    public static Mat Create(Device device, int rows, int columns)
    {
        Mat mat = device.CreateMat(rows, columns, "random");
        var random = new Random(rows + columns);
        var values = new float[(long)rows * columns];
        foreach (ref float value in values.AsSpan())
            value = (2 * random.NextSingle()) - 1;
        device.Write(values, mat);
        return mat;
    }
}

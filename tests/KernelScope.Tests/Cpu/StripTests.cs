using KernelScope.Conformance;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Tests.Cpu;

/// <summary>Products with a matrix stored [in, out], whose kernel depends on the number of rows.</summary>
public class StripTests
{
    private static readonly (int Inputs, int Outputs)[] Shapes =
        [(1, 1), (7, 63), (8, 64), (17, 65), (100, 200), (333, 1500), (40, 5000), (301, 4700)];

    /// <summary>Every sum runs over the inputs in their order, whichever kernel computes it: from 2 rows on, a row's bits do not depend on how many there are.</summary>
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    [InlineData(DType.F64)]
    public void A_row_has_the_same_bits_among_few_rows_as_among_many(DType type)
    {
        using CpuDevice device = new(2);
        Generator random = new(7);
        foreach ((int inputs, int outputs) in Shapes)
        {
            using TrialWeight weight =
                new("w", inputs, [new(outputs, new WeightForm(type, Transposed: true))], (_, _) => random.Normal(), device, device);
            const int Many = 200;
            float[] x = random.Normals(Many * inputs);
            uint[] all = Product(device, weight.Tested, x, Many);
            foreach (int rows in (int[])[2, 3, 4, 5, 6, 7, 8, 11, 13, 16, 17, 19, 31, 61])
                Assert.True(all.AsSpan(0, rows * outputs).SequenceEqual(Product(device, weight.Tested, x, rows)),
                    $"{type} [{inputs}, {outputs}]: {rows} rows differ from {Many}.");
        }
    }

    private static uint[] Product(CpuDevice device, Weight weight, float[] x, int rows)
    {
        Mat a = device.CreateMat(rows, weight.Columns, "x"), y = device.CreateMat(rows, weight.Rows, "y");
        using DeviceBuffer ofA = a.Buffer, ofY = y.Buffer;
        device.Write(x.AsSpan(0, rows * weight.Columns), a);
        device.Linear(a, weight, y);
        return device.Bits(y);
    }
}

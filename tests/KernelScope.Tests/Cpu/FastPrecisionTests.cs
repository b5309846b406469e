using KernelScope.Conformance;
using KernelScope.Cpu;
using KernelScope.Cpu.MachineCode;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Numerics;
using Xunit.Abstractions;

namespace KernelScope.Tests.Cpu;

/// <summary><see cref="Precision.Fast"/>: with many rows the products of an exact device of rounded values, with few those of an exact device.</summary>
public sealed class FastPrecisionTests(ITestOutputHelper output)
{
    // More than a panel either way, and no multiple of anything.
    private const int Outputs = 227;

    public static TheoryData<int, int> Products()
    {
        TheoryData<int, int> data = [];
        for (int form = 0; form < WeightForm.All.Length; form++)
        {
            data.Add(form, 833);
            data.Add(form, 834);
        }

        return data;
    }

    /// <summary>
    /// Bits where the same kernels compute: with fewer rows than <see cref="ProductPlan"/>'s table says, and without <c>vdpbf16ps</c>. Where that multiplies, the order of a sum: n·2⁻²⁴ of the
    /// sum of sizes in the worst case, and far less in fact.
    /// </summary>
    [Theory]
    [MemberData(nameof(Products))]
    public void Products_of_many_rows_are_those_of_rounded_values(int form, int inputs)
    {
        using CpuDevice exact = new(2), machine = new(2, Precision.Fast),
            plain = new(2, Precision.Fast, Precision.Exact, machineCode: false);
        Assert.Equal(Bf16Code.IsSupported ? "vdpbf16ps" : "float32", machine.FastProducts);
        Assert.Equal("float32", plain.FastProducts);
        Generator random = new(17);
        float[] w = random.Normals(Outputs * inputs);
        WeightForm stored = WeightForm.All[form];
        bool inputsFirst = stored.Transposed ^ stored.ColumnMajor;
        using TrialWeight weight = new("w", inputs, [new PartForm(Outputs, stored)], (j, i) => w[(j * inputs) + i], exact, exact);
        using PackingDevice packing = new(1);
        using TrialWeight packed = new("w", inputs, [new PartForm(Outputs, stored)], (j, i) => w[(j * inputs) + i], packing, packing);
        float[] held = RoundedWeights(exact, weight.Tested);
        using TrialWeight rounded =
            new("rounded", inputs, [new PartForm(Outputs, new(DType.F32, Transposed: inputsFirst))], (j, i) => held[(j * inputs) + i],
                exact, exact);
        bool isWide = stored.DType.ByteSize() > 2, hasPairs = machine.FastProducts == "vdpbf16ps", hasPanels = stored.DType != DType.F64;
        int below = inputsFirst ? isWide ? 128 : 96 : isWide ? 48 : 16;
        foreach (int rows in (int[])[1, 5, 16, 17, 48, 49, 96, 97, 128, 129])
        {
            float[] x = random.Normals(rows * inputs), exactly = Multiply(exact, x, rows, weight.Tested);
            float[] expected = Multiply(exact, Array.ConvertAll(x, v => (float)(BFloat16)v), rows, rounded.Tested);
            Assert.Equal(exactly, Multiply(plain, x, rows, weight.Tested));
            float[] actual = Multiply(machine, x, rows, weight.Tested), ofPanels = Multiply(machine, x, rows, packed.Tested);
            bool pairs = hasPairs && rows > below, panelPairs = hasPairs && rows > (hasPanels ? 16 : below);
            Assert.InRange(Compare.Relative(ofPanels, panelPairs ? expected : exactly), 0, 2e-6);
            if (!pairs)
            {
                Assert.Equal(exactly, actual);
                continue;
            }

            Assert.InRange(Compare.Relative(actual, expected), 0, 2e-6);
            Assert.NotEqual(exactly, actual);
            // The same tiles over the same blocks, wherever the panels come from.
            Assert.Equal(actual, ofPanels);
        }
    }

    [Fact]
    public void An_SAE_is_exact_unless_asked_otherwise()
    {
        using CpuDevice exact = new(1), fast = new(1, Precision.Fast), all = new(1, Precision.Fast, Precision.Fast);
        Assert.Null(exact.FastProducts);
        using Workload workload = new(exact, 3, 140, exactRows: true);
        int encode = Array.IndexOf(Workload.Ops, "SaeEncode");
        uint[] expected = workload.Run(exact)[encode];
        Assert.Equal(expected, workload.Run(fast)[encode]);
        // A processor that cannot multiply bfloat16 rounds nothing.
        Assert.Equal(all.MultipliesBf16, !expected.SequenceEqual(workload.Run(all)[encode]));
    }

    [Fact]
    public void The_best_token_stays_at_99_of_100_positions()
    {
        using CpuDevice fast = new(0, Precision.Fast), exact = new();
        var found = BestTokens.Compare(fast, exact);
        output.WriteLine($"{fast.FastProducts}: {found}");
        Assert.True(found.Agree, found.ToString());
        // Where products are rounded it must show, or this would say nothing of fast.
        Assert.Equal(fast.MultipliesBf16, found.LargestDifference > 1e-4);
    }

    /// <summary>What the file holds, column by column, rounded.</summary>
    private static float[] RoundedWeights(CpuDevice exact, Weight weight)
    {
        float[] held = new float[weight.Rows * weight.Columns], unit = new float[weight.Columns];
        for (int i = 0; i < weight.Columns; i++)
        {
            unit[i] = 1;
            float[] column = Multiply(exact, unit, 1, weight);
            unit[i] = 0;
            for (int j = 0; j < weight.Rows; j++)
                held[(j * weight.Columns) + i] = (float)(BFloat16)column[j];
        }

        return held;
    }

    private static float[] Multiply(CpuDevice device, float[] x, int rows, Weight weight)
    {
        float[] result = new float[rows * weight.Rows];
        Mat a = device.CreateMat(rows, weight.Columns, "x"), b = device.CreateMat(rows, weight.Rows, "y");
        using DeviceBuffer aBuffer = a.Buffer, bBuffer = b.Buffer;
        device.Write(x, a);
        device.Linear(a, weight, b);
        device.Read(b, result);
        return result;
    }
}

using KernelScope.Conformance;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Tests.Cpu;

/// <summary>Many rows of codes against many megabytes of weights go on by a range of features at a time. That must not change a bit.</summary>
public sealed class SaeDecodeRangesTests : IDisposable
{
    private const int Features = 5000;
    private const int Outputs = 1700;

    // More than a block of rows.
    private const int Rows = 600;
    private const int Active = 16;

    private readonly CpuDevice _one = new(1);
    private readonly Generator _random = new(11);

    public void Dispose() => _one.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(8)]
    public void Rows_together_give_the_bits_of_each_row_alone(int threads)
    {
        float[] values = _random.Normals(1_000_003);
        PartForm[] parts =
            [new(500, new WeightForm(DType.F32, Transposed: true)), new(Outputs - 500, new WeightForm(DType.F32, Transposed: true))];
        using var decoder =
            new TrialWeight("w_dec", Features, parts, (r, i) => values[(((long)r * Features) + i) % values.Length], _one, _one);
        using var encoder = new TrialWeight("w_enc", 1, [new(Features, new WeightForm(DType.F32))], (_, _) => 0, _one, _one);
        Mat none = _one.CreateMat(1, Features, "none"), bias = _one.CreateMat(1, Outputs, "b_dec"),
            together = _one.CreateMat(Rows, Outputs, "together"), alone = _one.CreateMat(Rows, Outputs, "alone");
        _one.Write(_random.Normals(Outputs), bias);
        var sae = new SaeParameters(encoder.Tested, none, none, decoder.Tested, bias);
        CodeList list = Codes();
        using SparseCodes codes = _one.CreateCodes(Features, "codes");
        using var device = new CpuDevice(threads);
        _one.Write(list, codes);
        device.SaeDecode(codes, sae, together);
        for (int t = 0; t < Rows; t++)
        {
            var row = new CodeList();
            row.Resize(1, list.FeaturesOf(t).Length);
            list.FeaturesOf(t).CopyTo(row.Feature);
            list.ValuesOf(t).CopyTo(row.Value);
            row.RowStart[1] = list.FeaturesOf(t).Length;
            _one.Write(row, codes);
            _one.SaeDecode(codes, sae, alone.RowRange(t, 1));
        }

        Assert.Equal(_one.Bits(alone), _one.Bits(together));
        foreach (Mat mat in (Mat[])[none, bias, together, alone])
            mat.Buffer.Dispose();
    }

    /// <summary>Random features; some rows have none, one, or all in the last range.</summary>
    private CodeList Codes()
    {
        var list = new CodeList();
        list.Resize(Rows, Rows * Active);
        int count = 0;
        for (int t = 0; t < Rows; t++)
        {
            int active = t % 50 == 7 ? 0 : t % 50 == 8 ? 1 : Active, least = t % 50 == 9 ? Features - 100 : 0;
            var features = new SortedSet<int>();
            while (features.Count < active)
                features.Add(least + _random.Below(Features - least));
            features.CopyTo(list.Feature, count);
            _random.Normals(active).CopyTo(list.Value.AsSpan(count));
            list.RowStart[t + 1] = count += active;
        }

        return list;
    }
}

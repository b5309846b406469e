using System.Runtime.Intrinsics;
using KernelScope.Conformance;
using KernelScope.Cpu;

namespace KernelScope.Tests.Cpu;

/// <summary>Two ways to add rows of active features: blocks of outputs in registers, and whole rows. They must give the same bits, since either may sum a row's outputs.</summary>
public unsafe class FeatureColumnsTests
{
    private const int Features = 40;

    [Theory]
    [InlineData(384, 0)]
    [InlineData(384, 1)]
    [InlineData(384, 3)]
    [InlineData(768, 4)]
    [InlineData(768, 5)]
    [InlineData(1157, 29)]
    public void A_block_in_registers_sums_as_whole_rows_do(int outputs, int count)
    {
        var random = new Generator(7);
        float[] w = random.Normals(Features * outputs), value = random.Normals(count + 1);
        int[] feature = [.. Enumerable.Range(0, count + 1).Select(_ => random.Below(Features))];
        float[] columns = random.Normals(outputs), rows = [.. columns];
        int done;
        fixed (float* weights = w, values = value, y = columns, expected = rows)
        fixed (int* features = feature)
        {
            byte* first = (byte*)weights;
            done = FeatureColumns<Simd512, Vector512<float>>.Add(
                first, outputs * sizeof(float), features, values, count, features + count, 1, y, outputs);
            FeatureSum<Simd512, Vector512<float>>.Add<ElementF32>(
                first, outputs * sizeof(float), features, values, count, features + count, 1, expected, done);
        }

        Assert.Equal(outputs / 384 * 384, done);
        Assert.Equal(rows, columns);
    }

    [Fact]
    public void Registers_of_half_the_length_are_left_to_whole_rows() =>
        Assert.Equal(0, FeatureColumns<Simd256, Vector256<float>>.Add(null, 0, null, null, 0, null, 0, null, 4096));
}

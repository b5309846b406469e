using KernelScope.Numerics;

namespace KernelScope.Tests.Files;

/// <summary>bfloat16 is the upper half of a float32; both directions over all 65,536 values.</summary>
public sealed class BFloat16Tests
{
    [Fact]
    public void Every_value_survives_widening_and_narrowing()
    {
        for (int bits = 0; bits <= ushort.MaxValue; bits++)
        {
            var value = new BFloat16((ushort)bits);
            float wide = (float)value;
            Assert.Equal((uint)bits << 16, BitConverter.SingleToUInt32Bits(wide));
            if (float.IsNaN(wide))
                Assert.True(float.IsNaN((float)(BFloat16)wide));
            else
                Assert.Equal(value, (BFloat16)wide);
        }
    }

    [Theory]
    [InlineData(0x3F800000u, 0x3F80)] // 1
    [InlineData(0x3F808000u, 0x3F80)] // halfway to the next: ties to even, down
    [InlineData(0x3F818000u, 0x3F82)] // halfway: ties to even, up
    [InlineData(0x3F808001u, 0x3F81)] // just over half
    [InlineData(0x3F807FFFu, 0x3F80)] // just under half
    [InlineData(0x7F7FFFFFu, 0x7F80)] // the largest float32 rounds to infinity
    [InlineData(0x7F800000u, 0x7F80)] // infinity
    [InlineData(0xFF800000u, 0xFF80)] // minus infinity
    [InlineData(0x80000000u, 0x8000)] // minus zero
    [InlineData(0x00008001u, 0x0001)] // subnormal
    public void Narrowing_rounds_to_nearest_even(uint single, int expected) =>
        Assert.Equal((ushort)expected, ((BFloat16)BitConverter.UInt32BitsToSingle(single)).Bits);

    [Fact]
    public void Narrowing_keeps_a_nan_whose_fraction_lies_in_the_lower_half() =>
        Assert.True(float.IsNaN((float)(BFloat16)BitConverter.UInt32BitsToSingle(0x7F800001)));

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(31)]
    [InlineData(1000)]
    public void Spans_give_what_single_values_give(int count)
    {
        var random = new Random(count);
        float[] values = [.. Enumerable.Range(0, count).Select(_ => BitConverter.UInt32BitsToSingle((uint)random.NextInt64(1L << 32)))];
        var narrow = new BFloat16[count];
        BFloat16.Narrow(values, narrow);
        Assert.Equal(values.Select(v => ((BFloat16)v).Bits), narrow.Select(n => n.Bits));
        float[] wide = new float[count];
        BFloat16.Widen(narrow, wide);
        Assert.Equal(narrow.Select(n => BitConverter.SingleToUInt32Bits((float)n)), wide.Select(BitConverter.SingleToUInt32Bits));
        Assert.Throws<ArgumentException>(() => BFloat16.Widen(narrow, new float[count + 1]));
    }
}

using KernelScope.Numerics;

namespace KernelScope.Tests.Generation;

public class SplitMix64Tests
{
    /// <summary>The first numbers of Vigna's splitmix64.c from the state 1234567, as they are published.</summary>
    [Fact]
    public void It_gives_the_published_numbers()
    {
        ulong state = 1234567;
        ulong[] expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821];
        Assert.Equal(expected, expected.Select(_ => SplitMix64.Next(ref state)));
    }

    [Fact]
    public void The_unit_interval_is_half_open()
    {
        Assert.Equal(0, SplitMix64.ToUnit(0x7FF));
        Assert.Equal(0.5, SplitMix64.ToUnit(1UL << 63));
        Assert.Equal(1 - Math.Pow(2, -53), SplitMix64.ToUnit(ulong.MaxValue));
    }
}

using KernelScope.Training.Suites;

namespace KernelScope.Training.Tests.Suites;

/// <summary>The search for the scale of the default sparsities.</summary>
public class SuitePilotTests
{
    /// <summary>Where L0 is a power of the sparsity, whatever the power, few rounds suffice.</summary>
    [Theory]
    [InlineData(-0.5, 300)]
    [InlineData(-1, 5)]
    [InlineData(-1, 700)]
    [InlineData(-2, 3000)]
    [InlineData(-0.4, 2)]
    public void It_finds_the_scale_in_five_rounds(double power, double first)
    {
        double target = SuitePilot.TargetOf(2048), scale = 1;
        Assert.Equal(Math.Sqrt(20 * 300), target);
        var rounds = new List<(double Scale, double L0)>();
        while (rounds.Count < 5 && (rounds.Count == 0 || Math.Abs(Math.Log(rounds[^1].L0 / target)) >= Math.Log(1.25)))
        {
            rounds.Add((scale, first * Math.Pow(scale, power)));
            scale = SuitePilot.Next(rounds, target);
        }

        Assert.InRange(rounds[^1].L0, target / 1.25, target * 1.25);
    }

    [Fact]
    public void A_narrow_sae_is_brought_to_an_eighth_of_its_features() => Assert.Equal(8, SuitePilot.TargetOf(64));
}

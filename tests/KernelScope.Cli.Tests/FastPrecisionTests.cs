using KernelScope.Cpu;
using KernelScope.Devices;

namespace KernelScope.Cli.Tests;

/// <summary><c>--precision fast</c> on the cpu.</summary>
public sealed class FastPrecisionTests
{
    [Theory]
    [InlineData("features", "And the king said", "--device", "auto")]
    [InlineData("generate", "Once upon a time", "--max-new-tokens", "3", "--device", "cpu", "--features")]
    [InlineData("run", "And the king said", "--clamp", "562=1")]
    [InlineData("attribute", "More than anything", "--target", " he", "--against", " she")]
    [InlineData("lens", "And the king said", "--site", "resid_post.3")]
    [InlineData("doctor", "--sae", "res.3.2k.l0_19")]
    public void Verbs_run(params string[] arguments)
    {
        Outcome outcome = Program.Run([.. arguments, "--precision", "fast"]);
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
    }

    /// <summary>Rounded to bfloat16, losses move by a few thousandths of a nat; on a processor that cannot multiply bfloat16 nothing is rounded.</summary>
    [Fact]
    public void Losses_are_near_those_of_exact_and_not_the_same_where_products_are_rounded()
    {
        double[] exact = Losses("exact"), fast = Losses("fast");
        Assert.Equal(exact.Length, fast.Length);
        double largest = exact.Zip(fast, (a, b) => Math.Abs(a - b)).Max();
        if (RoundsProducts)
            Assert.InRange(largest, 1e-4, 0.1);
        else
            Assert.Equal(0, largest);

        static double[] Losses(string precision) =>
            [.. Program.Json("run", Fixtures.DemoText("tale"), "--precision", precision).GetProperty("next_token_loss").EnumerateArray()
                .Select(e => e.GetDouble())];
    }

    /// <summary>Whether products with weights are rounded in <c>fast</c> on this processor's cpu device.</summary>
    internal static bool RoundsProducts
    {
        get
        {
            using var cpu = new CpuDevice(1, Precision.Fast);
            return cpu.MultipliesBf16;
        }
    }
}

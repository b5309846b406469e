using KernelScope.Kernels;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>The functions that kernels share, against double; a GPU and the emulator give the same bits as this machine.</summary>
public sealed class KernelMathTests
{
    [Fact]
    public void Exp_is_within_two_units_in_the_last_place() => Sweep(KernelMath.Exp, Math.Exp, -103.9, 88.72, 2);

    [Fact]
    public void Log_is_within_two_units_in_the_last_place()
    {
        Sweep(KernelMath.Log, Math.Log, 1, 4, 2);
        Sweep(KernelMath.Log, Math.Log, 1e-3, 1e6, 2);
    }

    [Fact]
    public void Tanh_keeps_its_relative_accuracy_for_small_arguments()
    {
        Sweep(KernelMath.Tanh, Math.Tanh, -10, 10, 3);
        Sweep(KernelMath.Tanh, Math.Tanh, -1e-3, 1e-3, 2);
    }

    [Fact]
    public void Functions_handle_what_is_not_a_number_or_too_large()
    {
        Assert.True(float.IsNaN(KernelMath.Exp(float.NaN)) && float.IsNaN(KernelMath.Log(float.NaN))
            && float.IsNaN(KernelMath.Tanh(float.NaN)) && float.IsNaN(KernelMath.Gelu(float.NaN)));
        Assert.Equal(float.PositiveInfinity, KernelMath.Exp(float.PositiveInfinity));
        Assert.Equal(float.PositiveInfinity, KernelMath.Exp(88.8f));
        Assert.Equal(0f, KernelMath.Exp(float.NegativeInfinity));
        Assert.Equal(float.PositiveInfinity, KernelMath.Log(float.PositiveInfinity));
        Assert.Equal(1f, KernelMath.Tanh(float.PositiveInfinity));
        Assert.Equal(-1f, KernelMath.Tanh(-1000f));
        Assert.Equal(-30f, KernelMath.Softcap(float.NegativeInfinity, 30f));
        Assert.Equal(1000f, KernelMath.Gelu(1000f));
        Assert.Equal(0f, KernelMath.Gelu(-1000f));
    }

    [Fact]
    public void Gelu_does_not_cancel_for_negative_arguments()
    {
        for (double z = -6; z < 6; z += 1.0 / 512)
        {
            // ½(1 + tanh u) = 1/(1 + e^(−2u)), which double evaluates without loss.
            double expected = z / (1 + Math.Exp(-2 * Math.Sqrt(2 / Math.PI) * (z + (0.044715 * z * z * z))));
            Assert.InRange(KernelMath.Gelu((float)z), expected - (3e-6 * Math.Abs(expected)), expected + (3e-6 * Math.Abs(expected)));
        }
    }

    private static void Sweep(Func<float, float> actual, Func<double, double> expected, double from, double to, double units)
    {
        const int Steps = 300_000;
        double worst = 0, at = 0;
        for (int i = 0; i <= Steps; i++)
        {
            float x = (float)(from + ((to - from) * i / Steps));
            double right = expected(x);
            double error = Math.Abs(actual(x) - right) / (MathF.BitIncrement(Math.Abs((float)right)) - Math.Abs((float)right));
            if (error > worst)
                (worst, at) = (error, x);
        }

        Assert.True(worst <= units, $"{worst:F2} units in the last place at {at}.");
    }
}

using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Devices.Reference;

namespace KernelScope.Training.Tests;

/// <summary>A gradient that is longer than allowed is scaled down as a whole, over all parameters; a shorter one is left alone.</summary>
public class ClippingTests
{
    private const string Run = "theta-eps0.05";

    [Theory]
    [InlineData("reference")]
    [InlineData("cpu")]
    public void A_long_gradient_is_scaled_to_the_norm_and_a_short_one_is_not(string device)
    {
        Dictionary<string, float[]> plain = Gradients(device, 0, out double norm, out float[] encoder);
        Dictionary<string, float[]> halved = Gradients(device, norm / 2, out double logged, out _);
        Assert.Equal(norm, logged, norm * 1e-6);
        Assert.Equal(5, plain.Count);
        foreach ((string name, float[] gradient) in plain)
        {
            double size = gradient.Max(g => Math.Abs((double)g));
            Assert.True(size > 0, $"{name} has no gradient to compare.");
            for (int n = 0; n < gradient.Length; n++)
                Assert.Equal(gradient[n] / 2.0, halved[name][n], size * 1e-6);
        }

        Assert.Equal(norm / 2, Math.Sqrt(halved.Values.Sum(g => g.Sum(v => (double)v * v))), norm * 1e-6);
        _ = Gradients(device, norm * 2, out _, out float[] same);
        Assert.Equal(encoder, same);
    }

    [Fact]
    public void A_clip_is_named_where_it_is_used_and_only_there()
    {
        var options = new TrainingOptions { Width = 8, Sparsity = 0.1 };
        Assert.DoesNotContain("clip", Json(options), StringComparison.Ordinal);
        Assert.Contains("\"clip\":0.5", Json(options with { Clip = 0.5 }), StringComparison.Ordinal);
        Assert.Throws<ArgumentException>((options with { Clip = -1 }).Require);
        Assert.Throws<ArgumentException>((options with { Clip = double.NaN }).Require);
    }

    private static string Json(TrainingOptions options) =>
        System.Text.Encoding.UTF8.GetString([.. JsonFile.Line(json => OptionsJson.Write(json, options))]);

    /// <summary>What the first step is given, its norm as logged, and W_enc after three steps.</summary>
    private static Dictionary<string, float[]> Gradients(string device, double clip, out double norm, out float[] encoder)
    {
        using Device d = device == "cpu" ? new CpuDevice(2) : new ReferenceDevice();
        using var problem = new TrainingProblem(Run);
        TrainingOptions options = problem.Options with { Clip = clip };
        using var parameters = new TrainingParameters(d, TrainingProblem.Inputs, null, options);
        problem.Start(d, parameters);
        using ActivationRule rule = ActivationRule.Create(d, options);
        using var step = new TrainingStep(d, parameters, options, rule);
        Mat x = d.CreateMat(TrainingProblem.Rows, TrainingProblem.Inputs, "x");
        using DeviceBuffer room = x.Buffer;
        Dictionary<string, float[]> gradients = [];
        step.GradientFound = (name, first, block) => gradients[name] = first == 0 ? block : [.. gradients[name], .. block];
        norm = 0;
        Dictionary<string, float[]> found = [];
        for (int t = 0; t < 3; t++)
        {
            gradients.Clear();
            d.Write(problem.X(t), x);
            step.Run(t, x, x, norms: true);
            if (t > 0)
                continue;
            norm = Math.Sqrt(step.SquaredGradients.Values.Sum());
            found = new(gradients);
        }

        encoder = parameters.Read(parameters.Encoder.Values);
        return found;
    }
}

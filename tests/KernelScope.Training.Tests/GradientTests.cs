using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Devices.Reference;

namespace KernelScope.Training.Tests;

/// <summary>
/// The sparse gradients of every activation against finite differences, in double, of the loss written down densely here. Active sets are
/// those of the parameters as they are: there the loss is smooth. (Thresholds have
/// pseudo-derivatives, which no difference shows; <see cref="StepTests"/> holds them to PyTorch.)
/// </summary>
public class GradientTests
{
    private const int Rows = 16, Inputs = 7, Width = 24;
    private const double Nudge = 1e-4;

    // Of the largest entry: gradients are float32, and sums of a few dozen terms.
    private const double Tolerance = 1e-6;

    public static TheoryData<string, TrainingActivation, bool> Forms
    {
        get
        {
            var forms = new TheoryData<string, TrainingActivation, bool>();
            foreach (string device in (string[])["reference", "cpu"])
            {
                foreach (TrainingActivation activation in Enum.GetValues<TrainingActivation>())
                {
                    forms.Add(device, activation, false);
                    forms.Add(device, activation, true);
                }
            }

            return forms;
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void Gradients_are_those_of_the_loss(string deviceName, TrainingActivation activation, bool transcoder)
    {
        using Device device = deviceName == "cpu" ? new CpuDevice(2) : new ReferenceDevice();
        int outputs = transcoder ? 5 : Inputs;
        var options = new TrainingOptions
        {
            Width = Width,
            Batch = Rows,
            Activation = activation,
            Sparsity = activation is TrainingActivation.JumpRelu or TrainingActivation.Relu ? 0.07 : 0,
            SparsityWarmUp = 0,
            K = activation is TrainingActivation.TopK or TrainingActivation.BatchTopK ? 3 : 0,
            Threshold = 0.2,
            Skip = transcoder,
        };
        using var parameters = new TrainingParameters(device, Inputs, transcoder ? outputs : null, options);
        parameters.Initialize(options, "test");
        var random = new Xoshiro256("values", 5, "test");
        foreach (TrainedMatrix matrix in parameters.All.Where(m => m.Name is "b_enc" or "b_dec" or "W_skip"))
            device.Write(Values(random, matrix.Values.Rows * matrix.Values.Columns, 0.1), matrix.Values);
        float[] x = Values(random, Rows * Inputs, 0.8), y = transcoder ? Values(random, Rows * outputs, 0.8) : x;
        Dictionary<string, double[]> at = parameters.All.ToDictionary(m => m.Name, m => Array.ConvertAll(parameters.Read(m.Values),
            v => (double)v));
        var loss = new DenseLoss(x, y, transcoder, outputs, options, at);
        Dictionary<string, float[]> found = Gradients(device, parameters, options, x, y);
        foreach ((string name, double[] values) in at)
        {
            if (name == "threshold")
                continue;
            double[] expected = [.. Enumerable.Range(0, values.Length).Select(n => loss.Derivative(name, n, Nudge))];
            double size = expected.Max(Math.Abs);
            Assert.True(size > 1e-3, $"{name} has no gradient to compare.");
            for (int n = 0; n < expected.Length; n++)
                Assert.True(Math.Abs(expected[n] - found[name][n]) <= Tolerance * size,
                    $"{name}, element {n}: {found[name][n]}, by differences {expected[n]}; the largest is {size}.");
        }
    }

    private static Dictionary<string, float[]> Gradients(Device device, TrainingParameters parameters, TrainingOptions options, float[] x,
        float[] y)
    {
        using ActivationRule rule = ActivationRule.Create(device, options);
        using var step = new TrainingStep(device, parameters, options, rule);
        Mat inputs = device.CreateMat(Rows, Inputs, "x"), targets = device.CreateMat(Rows, y.Length / Rows, "y");
        using DeviceBuffer room = inputs.Buffer, roomOut = targets.Buffer;
        device.Write(x, inputs);
        device.Write(y, targets);
        Dictionary<string, float[]> found = [];
        step.GradientFound = (name, first, block) => found[name] = first == 0 ? block : [.. found[name], .. block];
        step.Run(0, inputs, targets, norms: false);
        return found;
    }

    private static float[] Values(Xoshiro256 random, int count, double size) => [.. Enumerable.Range(0,
        count).Select(_ => (float)(size * ((2 * random.Uniform()) - 1)))];

    /// <summary>Mean of ‖x̂ − y‖² (+ λ·Σ codes for a ReLU) with dense loops, for the active set of the first parameters. λ·L0 does not
    /// change with them.</summary>
    private sealed class DenseLoss
    {
        private readonly float[] _x, _y;
        private readonly bool _transcoder;
        private readonly int _outputs;
        private readonly double _penalty;
        private readonly Dictionary<string, double[]> _p;
        private readonly bool[] _active;

        public DenseLoss(float[] x, float[] y, bool transcoder, int outputs, TrainingOptions options, Dictionary<string,
            double[]> parameters)
        {
            (_x, _y, _transcoder, _outputs, _p) = (x, y, transcoder, outputs, parameters);
            _penalty = options.Activation == TrainingActivation.Relu ? options.Sparsity : 0;
            double[] z = [.. Enumerable.Range(0, Rows * Width).Select(n => Preactivation(n / Width, n % Width))];
            double[] all = [.. z.OrderDescending()];
            _active = [.. z.Select((a, n) => options.Activation switch
            {
                TrainingActivation.JumpRelu => a > parameters["threshold"][n % Width],
                TrainingActivation.Relu => a > 0,
                TrainingActivation.TopK => a > 0 && z.Skip(n / Width * Width).Take(Width).Count(other => other > a) < options.K,
                _ => a > 0 && a >= all[(options.K * Rows) - 1],
            })];
        }

        public double Derivative(string name, int n, double nudge)
        {
            double value = _p[name][n];
            _p[name][n] = value + nudge;
            double above = Value();
            _p[name][n] = value - nudge;
            double below = Value();
            _p[name][n] = value;
            return (above - below) / (2 * nudge);
        }

        private double Value()
        {
            double sum = 0;
            double[] made = new double[_outputs];
            for (int r = 0; r < Rows; r++)
            {
                for (int j = 0; j < _outputs; j++)
                    made[j] = _p["b_dec"][j] + Skipped(r, j);
                for (int f = 0; f < Width; f++)
                {
                    if (!_active[(r * Width) + f])
                        continue;
                    double code = Preactivation(r, f);
                    sum += _penalty * code;
                    for (int j = 0; j < _outputs; j++)
                        made[j] += code * _p["W_dec"][(f * _outputs) + j];
                }

                for (int j = 0; j < _outputs; j++)
                    sum += Math.Pow(made[j] - _y[(r * _outputs) + j], 2);
            }

            return sum / Rows;
        }

        private double Preactivation(int r, int f)
        {
            double sum = _p["b_enc"][f];
            for (int i = 0; i < Inputs; i++)
                sum += (_x[(r * Inputs) + i] - (_transcoder ? 0 : _p["b_dec"][i])) * _p["W_enc"][(f * Inputs) + i];
            return sum;
        }

        private double Skipped(int r, int j)
        {
            double sum = 0;
            for (int i = 0; i < Inputs && _transcoder; i++)
                sum += _x[(r * Inputs) + i] * _p["W_skip"][(j * Inputs) + i];
            return sum;
        }
    }
}

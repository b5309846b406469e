using System.Diagnostics;
using KernelScope.Bench.Peers;
using KernelScope.Devices;
using KernelScope.Measuring;
using KernelScope.Training;

namespace KernelScope.Bench.Cases;

/// <summary>One step of training a JumpReLU SAE, with about as many active features and pre-activations near thresholds as in the middle of
/// a training. The peer does the same step with dense products and without autograd.</summary>
internal static class TrainingCases
{
    // Of 16,384 features: pre-activations of unit rows and unit weights have a standard deviation of 1/√d, and 0.43 % lie above 2.63 of
    // them.
    private const double ThresholdInDeviations = 2.63;
    // θ = 0.001 of the paper's first step, in which nearly half of the features are active.
    private const double FirstThresholdInDeviations = 0.048;
    private const double Bandwidth = 0.001;
    private const double Sparsity = 6e-4;

    public static IEnumerable<Case> All()
    {
        yield return Step("", 576, 4096, 1024, ThresholdInDeviations);
        yield return Step("", Shape2B.ModelDim, 16_384, 4096, ThresholdInDeviations);
        yield return Step("first ", 576, 4096, 1024, FirstThresholdInDeviations);
        yield return Step("first ", Shape2B.ModelDim, 16_384, 4096, FirstThresholdInDeviations);
    }

    /// <summary>The work is that of the one dense product that a sparse step needs: what the rest takes shows as a lower share of the
    /// peak.</summary>
    private static Case Step(string which, int inputs, int width, int rows, double threshold) =>
        new($"train {which}step {inputs} to {width} rows {rows} f32", Bound.Peak, 2.0 * rows * inputs * width, machine =>
        {
            var ours = new OurStep(machine.Exact, inputs, width, rows, threshold);
            var contest = new Contest(new Contestant("KernelScope", ours.Run, ours.Gradients));
            contest.Own(ours);
            contest.Figures.Add(new Figure("active features of a row", "", () => ours.ActiveFeatures));
            contest.Figures.Add(new Figure("step over its encoder product", "", ours.OverEncode));
            Torch.Join(contest, machine, () => contest.Peers.Add(new Peer(
                contest.Own(new TorchTraining(ours.Rows, ours.Decoder, (float)ours.Options.Threshold, (float)Bandwidth, (float)Sparsity,
                    rows)).Contestant, Agreement.Within(1e-3))));
            return contest;
        });

    /// <summary>A step whose learning rate is so small that the next is the same.</summary>
    private sealed class OurStep : IDisposable
    {
        private readonly Device _device;
        private readonly TrainingParameters _parameters;
        private readonly ActivationRule _rule;
        private readonly TrainingStep _step;
        private readonly SparseCodes _active, _near;
        private readonly Mat _x;
        private double _seconds;

        public OurStep(Device device, int inputs, int width, int rows, double threshold)
        {
            _device = device;
            Options = new TrainingOptions
            {
                Width = width,
                Batch = rows,
                Sparsity = Sparsity,
                SparsityWarmUp = 0,
                LearningRate = 1e-30,
                LearningRateWarmUp = 0,
                Bandwidth = Bandwidth,
                Threshold = threshold / Math.Sqrt(inputs),
            };
            _parameters = new TrainingParameters(device, inputs, null, Options);
            _parameters.Initialize(Options, "bench");
            _rule = ActivationRule.Create(device, Options);
            _step = new TrainingStep(device, _parameters, Options, _rule);
            _active = device.CreateCodes(width, "active features");
            _near = device.CreateCodes(width, "features near thresholds");
            // Uniform on both sides of 0: of a variance that makes a row a unit vector.
            Rows = RandomValues.Create(rows * inputs, (float)Math.Sqrt(3.0 / inputs));
            Decoder = _parameters.Read(_parameters.Decoder.Values);
            _x = device.CreateMat(rows, inputs, "x");
        }

        public TrainingOptions Options { get; }

        public float[] Rows { get; }

        public float[] Decoder { get; }

        public double ActiveFeatures { get; private set; }

        public void Run()
        {
            long start = Stopwatch.GetTimestamp();
            _device.Write(Rows, _x);
            ActiveFeatures = (double)_step.Run(0, _x, _x, norms: false).Active / Options.Batch;
            _seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        /// <summary>What its dense product takes with both lists, in the same round.</summary>
        public double OverEncode()
        {
            long start = Stopwatch.GetTimestamp();
            _device.SaeEncodeNear(_x, _parameters.Sae, _active, (float)(Bandwidth / 2), _near);
            return _seconds / Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        /// <summary>The gradients of b_enc and b_dec, in which all others have a part.</summary>
        public float[] Gradients()
        {
            Dictionary<string, float[]> found = [];
            _step.GradientFound = (name, _, values) => found.TryAdd(name, values);
            Run();
            _step.GradientFound = null;
            return [.. found["b_enc"], .. found["b_dec"]];
        }

        public void Dispose()
        {
            foreach (IDisposable owned in (ReadOnlySpan<IDisposable>)[_step, _rule, _parameters, _active, _near, _x.Buffer])
                owned.Dispose();
        }
    }
}

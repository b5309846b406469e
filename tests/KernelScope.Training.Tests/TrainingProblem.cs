using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Tests;

namespace KernelScope.Training.Tests;

/// <summary>The exact steps of <c>fixtures/sae/training</c>: PyTorch in float64, 20 steps of 128 rows of 24, 64 features.</summary>
internal sealed class TrainingProblem : IDisposable
{
    public const int Rows = 128, Inputs = 24, Width = 64, Steps = 20;

    private readonly NpzArrays _problem = new(Fixtures.Path("sae", "training", "problem.npz"));
    private readonly JsonDocument _json = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("sae", "training", "training.json")));

    public TrainingProblem(string run)
    {
        Run = _json.RootElement.GetProperty("runs").GetProperty(run);
        Expected = new NpzArrays(Fixtures.Path("sae", "training", $"{run}.npz"));
        C = _problem.Any("C")[0];
        Options = new TrainingOptions
        {
            Width = Width,
            Sparsity = 0.02,
            Steps = Steps,
            Batch = Rows,
            LearningRate = 0.002,
            LearningRateWarmUp = 5,
            SparsityWarmUp = 8,
            Bandwidth = Run.GetProperty("eps").GetDouble(),
            Threshold = 1,
            Parameter = Run.GetProperty("log_theta").GetBoolean() ? ThresholdParameter.LogTheta : ThresholdParameter.Theta,
            Scale = C,
        };
    }

    public JsonElement Run { get; }

    public NpzArrays Expected { get; }

    public double C { get; }

    public TrainingOptions Options { get; }

    /// <summary>The rows of a step as they are stored.</summary>
    public float[] Raw(int step) => _problem.Floats("x_raw").AsSpan(step * Rows * Inputs, Rows * Inputs).ToArray();

    /// <summary>The rows of a step, divided by C.</summary>
    public float[] X(int step) => [.. Raw(step).Select(value => (float)(value / C))];

    /// <summary>Gives parameters the values before step 0.</summary>
    public void Start(Device device, TrainingParameters parameters)
    {
        device.Write(Turned(_problem.Floats("init_W_enc"), Inputs, Width), parameters.Encoder.Values);
        device.Write(_problem.Floats("init_W_dec"), parameters.Decoder.Values);
        device.Write(_problem.Floats("init_b_enc"), parameters.EncoderBias.Values);
        device.Write(_problem.Floats("init_b_dec"), parameters.DecoderBias.Values);
        float[] threshold = _problem.Floats("init_threshold");
        if (parameters.IsLogThreshold)
            threshold = [.. threshold.Select(value => (float)Math.Log(value))];
        device.Write(threshold, parameters.Threshold!.Value.Values);
        parameters.UpdateTheta(threshold);
    }

    /// <summary>[rows, columns] to [columns, rows].</summary>
    public static T[] Turned<T>(T[] values, int rows, int columns)
    {
        var turned = new T[values.Length];
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++)
                turned[(c * rows) + r] = values[(r * columns) + c];
        }

        return turned;
    }

    public void Dispose()
    {
        _problem.Dispose();
        Expected.Dispose();
        _json.Dispose();
    }
}

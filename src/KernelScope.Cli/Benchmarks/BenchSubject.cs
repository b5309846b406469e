using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>What <c>bench</c> runs: the demo with its SAE, or random weights of a released shape with random SAEs.</summary>
internal sealed class BenchSubject : IDisposable
{
    private const int DefaultLayers = 2, Prefill = 512;
    private const int Narrow = 1 << 14, Wide = 1 << 16;

    /// <summary>Of the memory that is there, what is used: the rest is for everything small, and for whoever else runs here.</summary>
    private const double UsableShare = 0.9;

    private static readonly int[] RowCounts = [1, 32, 512];
    private readonly List<IDisposable> _owned = [];

    private BenchSubject(Gemma2Config measured, int layersOfModel, DType type)
    {
        Measured = measured;
        LayersOfModel = layersOfModel;
        Type = type;
    }

    /// <summary>The config of what runs; it may have fewer layers than the model of that name.</summary>
    public Gemma2Config Measured { get; }

    public int LayersOfModel { get; }

    public DType Type { get; }

    public BenchCases Cases { get; private set; } = null!;

    /// <summary>The demo. A device that is a test rather than a processor gets so little to do that it ends.</summary>
    public static BenchSubject OfDemo(Device device, bool isSlow, CancellationToken cancellation)
    {
        Gemma2Checkpoint checkpoint = Demo.OpenCheckpoint();
        var subject = new BenchSubject(checkpoint.Config, checkpoint.Config.LayerCount, checkpoint.Embedding.DType);
        return subject.Filled(() =>
        {
            Gemma2Model model = subject.Own(Gemma2Model.Load(device, checkpoint, cancellation: cancellation));
            int prefill = isSlow ? 8 : Math.Min(Prefill, model.Config.ContextLength);
            subject.Cases = subject.Own(new BenchCases(model, subject.Type, model.Config.LayerCount, prefill, cancellation));
            SaeCheckpoint saeCheckpoint = Demo.OpenSae(Demo.DefaultSae);
            double elementBytes = saeCheckpoint.Encoder.DType.ByteSize();
            JumpReluSae sae = subject.Own(JumpReluSae.Load(device, saeCheckpoint));
            Mat stream = subject.Cases.Capture(sae.Site!.Value, prefill);
            subject.Cases.AddSae($"{sae.FeatureCount / 1000}k", sae.Parameters, elementBytes, stream, isSlow ? RowCounts.AsSpan(0, 1) : RowCounts);
        });
    }

    /// <summary>Random weights of a shape, of as many layers as were asked for and fit.</summary>
    /// <param name="device">Where.</param>
    /// <param name="shape">The shape's name.</param>
    /// <param name="layers">Layers to measure; null: two.</param>
    /// <param name="type">Type of the weights.</param>
    /// <param name="streams">For what does not fit, and progress.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <exception cref="WorkException">Not even one layer fits.</exception>
    public static BenchSubject OfShape(Device device, string shape, int? layers, DType type, Streams streams, CancellationToken cancellation)
    {
        Gemma2Config whole = BenchShape.ConfigOf(shape);
        Gemma2Config config = whole with { LayerCount = Math.Min(layers ?? DefaultLayers, whole.LayerCount) };
        double usable = MemoryCheck.Available() * UsableShare;
        while (config.LayerCount > 1 && Bytes(config, type, Narrow) > usable)
            config = config with { LayerCount = config.LayerCount - 1 };
        if (layers > config.LayerCount)
            Failure.WriteLine(streams.Error, $"{layers} layers do not fit into memory; {config.LayerCount} are measured.");
        MemoryCheck.Require(("weights", ModelBytes(config, type)), ("SAE", SaeBytes(config, type, Narrow)), ("context", Session.BytesFor(config, Prefill)), ("bandwidth", BenchLimits.CpuBytes));
        bool wide = Bytes(config, type, Narrow) + SaeBytes(config, type, Wide) <= usable;
        if (!wide)
            Failure.WriteLine(streams.Error, $"an SAE of {Wide} features does not fit into memory; it is left out.");

        var subject = new BenchSubject(config, whole.LayerCount, type);
        return subject.Filled(() =>
        {
            using var progress = new Progress(streams, "Making random weights");
            RandomTensors tensors = subject.Own(RandomTensors.Create($"(random {shape})", RandomTensors.OfModel(config, type), progress, cancellation));
            var checkpoint = Gemma2Checkpoint.Open(new ModelFolder("(memory)"), config, ShardedTensors.OfFile(tensors.File));
            Gemma2Model model = subject.Own(Gemma2Model.Load(device, checkpoint, cancellation: cancellation));
            subject.Cases = subject.Own(new BenchCases(model, type, whole.LayerCount, Prefill, cancellation));
            Mat inputs = RandomSae.Inputs(device, RowCounts[^1], config.ModelDim);
            subject.Own(inputs.Buffer);
            foreach (int features in wide ? (int[])[Narrow, Wide] : [Narrow])
            {
                RandomSae sae = subject.Own(new RandomSae(device, config.ModelDim, features, type, progress, cancellation));
                subject.Cases.AddSae($"{features / 1000}k", sae.Parameters, type.ByteSize(), inputs, RowCounts);
            }
        });
    }

    /// <summary>What reads goes before what is read.</summary>
    public void Dispose()
    {
        for (int i = _owned.Count - 1; i >= 0; i--)
            _owned[i].Dispose();
        _owned.Clear();
    }

    private static double Bytes(Gemma2Config config, DType type, int features) => ModelBytes(config, type) + SaeBytes(config, type, features) + Session.BytesFor(config, Prefill) + BenchLimits.CpuBytes;

    private static long ModelBytes(Gemma2Config config, DType type) => RandomTensors.BytesFor(RandomTensors.OfModel(config, type));

    private static long SaeBytes(Gemma2Config config, DType type, int features) => RandomTensors.BytesFor(RandomTensors.OfSae(config.ModelDim, features, type));

    private BenchSubject Filled(Action fill)
    {
        try
        {
            fill();
            return this;
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    private T Own<T>(T disposable)
        where T : IDisposable
    {
        _owned.Add(disposable);
        return disposable;
    }
}

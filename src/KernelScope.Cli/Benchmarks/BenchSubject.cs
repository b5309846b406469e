using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Measuring;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>What <c>bench</c> runs: the demo with its SAE, or random weights of a released shape with random SAEs.</summary>
internal sealed class BenchSubject : IDisposable
{
    private const int DefaultCpuLayers = 2;
    private static readonly int[] Widths = [1 << 14, 1 << 16, 1 << 17];
    private static readonly int[] Prefills = [512, 2048];

    private static readonly int[] RowCounts = [1, 32, 512, 4096];
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
    public static BenchSubject OfDemo(Device device, bool isSlow, DType kv, CancellationToken cancellation)
    {
        Gemma2Checkpoint checkpoint = Demo.OpenCheckpoint();
        var subject = new BenchSubject(checkpoint.Config, checkpoint.Config.LayerCount, checkpoint.Embedding.DType);
        return subject.Filled(() =>
        {
            Gemma2Model model = subject.Own(Gemma2Model.Load(device, checkpoint, cancellationToken: cancellation));
            model.CacheType = kv;
            int prefill = isSlow ? 16 : Math.Min(Prefills[0], model.Config.ContextLength);
            subject.Cases = subject.Own(new BenchCases(model, subject.Type, model.Config.LayerCount, [prefill], cancellation));
            SaeCheckpoint saeCheckpoint = Demo.OpenSae(Demo.DefaultSae);
            DType saeType = saeCheckpoint.Encoder.DType;
            JumpReluSae sae = subject.Own(JumpReluSae.Load(device, saeCheckpoint));
            Mat stream = subject.Cases.Capture(sae.Site!.Value, prefill);
            subject.Cases.AddSae($"{sae.FeatureCount / 1000}k", sae.Parameters, saeType, stream, isSlow ? [1, 16] : RowCounts.AsSpan(0, 3));
        });
    }

    /// <summary>Random weights of a shape, of as many layers as were asked for and fit.</summary>
    /// <param name="device">Where.</param>
    /// <param name="shape">The shape's name.</param>
    /// <param name="layers">Layers to measure; null: two, or on a CUDA device all.</param>
    /// <param name="type">Type of the weights.</param>
    /// <param name="kv">Type of keys and values.</param>
    /// <param name="streams">For what does not fit, and progress.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <exception cref="WorkException">Not even one layer fits.</exception>
    public static BenchSubject OfShape(Device device, string shape, int? layers, DType type, DType kv, Streams streams,
        CancellationToken cancellation)
    {
        Gemma2Config whole = ModelSizes.ConfigOf(shape);
        int asked = Math.Min(layers ?? (device is CudaDevice ? whole.LayerCount : DefaultCpuLayers), whole.LayerCount);
        var room = new BenchRoom(device, type);
        Gemma2Config config = whole with { LayerCount = asked };
        while (config.LayerCount > 1 && !room.Has(config, Prefills[^1], RowCounts[^1], Widths.AsSpan(0, 1)))
            config = config with { LayerCount = config.LayerCount - 1 };
        room.Require(config, Prefills[^1], RowCounts[^1], Widths.AsSpan(0, 1));
        if (config.LayerCount < asked)
            Failure.WriteLine(streams.Error, $"{asked} layers do not fit into " +
                $"memory; {config.LayerCount} {(config.LayerCount == 1 ? "is" : "are")} measured.");
        int count = 1;
        while (count < Widths.Length && room.Has(config, Prefills[^1], RowCounts[^1], Widths.AsSpan(0, count + 1)))
            count++;
        foreach (int width in Widths.AsSpan(count))
            Failure.WriteLine(streams.Error, $"an SAE of {width} features does not fit into memory beside the rest; it is left out.");

        var subject = new BenchSubject(config, whole.LayerCount, type);
        return subject.Filled(() =>
        {
            using var progress = new Progress(streams, "Making random weights");
            RandomTensors tensors = subject.Own(RandomTensors.InMemory($"(random {shape})", ModelSizes.Tensors(config, type), progress,
                cancellation));
            var checkpoint = Gemma2Checkpoint.Open(new ModelFolder("(memory)"), config, ShardedTensors.OfFile(tensors.File));
            Gemma2Model model = subject.Own(Gemma2Model.Load(device, checkpoint, cancellationToken: cancellation));
            model.CacheType = kv;
            subject.Cases = subject.Own(new BenchCases(model, type, whole.LayerCount, Prefills, cancellation));
            Mat inputs = RandomSae.Inputs(device, RowCounts[^1], config.ModelDim);
            subject.Own(inputs.Buffer);
            foreach (int features in Widths.AsSpan(0, count))
            {
                RandomSae sae = subject.Own(new RandomSae(device, config.ModelDim, features, type, progress, cancellation));
                subject.Cases.AddSae($"{features / 1000}k", sae.Parameters, type, inputs, RowCounts);
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

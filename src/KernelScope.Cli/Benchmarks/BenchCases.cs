using KernelScope.Cpu;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Measuring;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>One thing to time.</summary>
/// <param name="Name">As in the table.</param>
/// <param name="Rows">Tokens or rows of one run.</param>
/// <param name="Peak">Which arithmetic it uses.</param>
/// <param name="Products">How many products of that arithmetic make one of its own: more than 1 where tensor cores keep float32 accuracy by splitting values.</param>
/// <param name="Cost">Bytes and operations of one run.</param>
/// <param name="Scaled">Whether its time is that of more layers than were run.</param>
/// <param name="Seconds">Runs it and gives the time of one run.</param>
internal sealed record BenchCase(string Name, int Rows, Bound Peak, int Products, OpCost Cost, bool Scaled, Func<double> Seconds);

/// <summary>The cases of a model and of SAEs on the stream of its width.</summary>
internal sealed class BenchCases : IDisposable
{
    private const int PromptLength = 16, MostDecoded = 32;
    private readonly Gemma2Model _model;
    private readonly Session _session;
    private readonly int[] _tokens;
    private readonly double _elementBytes;
    private readonly int _layersOfModel;
    private readonly Mat _logits;
    private readonly List<IDisposable> _owned = [];
    private readonly List<BenchCase> _all = [];
    private readonly CancellationToken _cancellation;

    /// <summary>Makes the cases of a model.</summary>
    /// <param name="model">The model, of as many layers as are to be measured.</param>
    /// <param name="type">Type of its matrices.</param>
    /// <param name="layersOfModel">Layers of the whole model.</param>
    /// <param name="prefills">Tokens of each prefill.</param>
    /// <param name="cancellation">Stops between two layers.</param>
    public BenchCases(Gemma2Model model, DType type, int layersOfModel, ReadOnlySpan<int> prefills, CancellationToken cancellation)
    {
        _model = model;
        _elementBytes = type.ByteSize();
        _layersOfModel = layersOfModel;
        _cancellation = cancellation;
        int longest = prefills[^1];
        _session = Own(model.NewSession(Math.Max(longest, PromptLength + MostDecoded)));
        _logits = model.Device.CreateMat(1, model.Config.VocabSize, "logits");
        _owned.Add(_logits.Buffer);
        var random = new Random(1);
        _tokens = [.. Enumerable.Range(0, Math.Max(longest, PromptLength)).Select(_ => random.Next(model.Config.VocabSize))];
        bool scaled = layersOfModel != model.Config.LayerCount;
        _all.Add(new BenchCase("decode", 1, Bound.Peak, 1, LayersCost(1, PromptLength) + HeadCost, scaled, Decode));
        foreach (int prefill in prefills)
        {
            (Bound peak, int products) = ArithmeticOf(prefill, type, Device.Precision);
            _all.Add(new BenchCase($"prefill_{prefill}", prefill, peak, products, LayersCost(prefill, 0) + HeadCost, scaled,
                () => Prefill(prefill)));
        }
    }

    public IReadOnlyList<BenchCase> All => _all;

    private Device Device => _model.Device;

    private OpCost HeadCost => ModelSizes.Head(_model.Config, _elementBytes);

    public void Dispose()
    {
        foreach (IDisposable owned in _owned)
            owned.Dispose();
    }

    /// <summary>Adds encode and decode of an SAE.</summary>
    /// <param name="name">Its width, for the names.</param>
    /// <param name="sae">Its parameters.</param>
    /// <param name="type">Type of its matrices.</param>
    /// <param name="x">What it reads; its first rows are encoded.</param>
    /// <param name="rowCounts">Numbers of rows, the largest last.</param>
    public void AddSae(string name, SaeParameters sae, DType type, Mat x, ReadOnlySpan<int> rowCounts)
    {
        double elementBytes = type.ByteSize();
        Mat reconstruction = Device.CreateMat(rowCounts[^1], sae.OutputDim, "reconstruction");
        _owned.Add(reconstruction.Buffer);
        foreach (int rows in rowCounts)
        {
            _cancellation.ThrowIfCancellationRequested();
            Mat input = x.RowRange(0, rows), output = reconstruction.RowRange(0, rows);
            SparseCodes codes = Own(Device.CreateCodes(sae.FeatureCount, "codes"));
            Device.SaeEncode(input, sae, codes);
            var list = new CodeList();
            Device.Read(codes, list);
            int distinct = list.Feature.Take(list.Count).Distinct().Count();
            OpCost encode = OpCost.SaeEncode(rows, sae.InputDim, sae.FeatureCount, elementBytes * sae.InputDim * sae.FeatureCount,
                list.Count);
            OpCost decode = OpCost.SaeDecode(rows, sae.OutputDim, elementBytes, list.Count, distinct);
            // An SAE is exact in either precision.
            (Bound peak, int products) = ArithmeticOf(rows, type, Precision.Exact);
            _all.Add(new BenchCase($"sae_{name}_encode_{rows}", rows, peak, products, encode, false,
                () => Clock.Seconds(Device, () => Device.SaeEncode(input, sae, codes))));
            _all.Add(new BenchCase($"sae_{name}_decode_{rows}", rows, Bound.Peak, 1, decode, false,
                () => Clock.Seconds(Device, () => Device.SaeDecode(codes, sae, output))));
        }
    }

    /// <summary>What multiplies so many rows with a weight: bfloat16 products where the cpu is fast by them; tensor cores where a CUDA device has them, and then several of their products for one that keeps float32 accuracy.</summary>
    private (Bound Peak, int Products) ArithmeticOf(int rows, DType type, Precision precision)
    {
        if (Device is CpuDevice { MultipliesBf16: true } && precision == Precision.Fast && rows > 1)
            return (Bound.Bf16Peak, 1);
        if (Device is not CudaDevice { HasTensorCores: true } || rows <= CudaDevice.FewRows)
            return (Bound.Peak, 1);
        return (Bound.Bf16Peak, precision == Precision.Fast ? 1 : type switch { DType.BF16 => 3, DType.F16 => 5, _ => 6 });
    }

    /// <summary>The stream of the prefill's tokens at a site, [tokens, width].</summary>
    public Mat Capture(HookPoint site, int rows)
    {
        Mat kept = Device.CreateMat(rows, _model.Config.ModelDim, "stream");
        _owned.Add(kept.Buffer);
        using (_session.Hooks.Add(site, (call, _, values) => Device.Copy(values, kept.RowRange(call.Position, values.Rows))))
            Run(rows, LogitRows.None);
        return kept;
    }

    private OpCost LayersCost(int rows, int position) => ModelSizes.Layers(
        _model.Config with { LayerCount = _layersOfModel }, rows, position, _elementBytes, _model.CacheType);

    private double Decode()
    {
        Run(PromptLength, LogitRows.None);
        return Scaled(rows => Clock.Seconds(Device, () => _model.Forward(_tokens.AsSpan(0, 1), _session, rows, _cancellation),
            MostDecoded));
    }

    private double Prefill(int count) => Scaled(rows => Clock.Seconds(Device, () => Run(count, rows)));

    /// <summary>A time of the whole model: as it runs, or that of the layers that there are, multiplied, and of the head.</summary>
    private double Scaled(Func<LogitRows, double> seconds)
    {
        int layers = _model.Config.LayerCount;
        if (layers == _layersOfModel)
            return seconds(LogitRows.Last);
        return (seconds(LogitRows.None) * _layersOfModel / layers) + Clock.Seconds(Device, Head);
    }

    private void Head()
    {
        Device.Linear(_session.FinalNorm.RowRange(0, 1), _model.Unembedding, _logits);
        Device.Softcap(_logits, _model.Config.FinalSoftcap);
    }

    /// <summary>Feeds the first tokens from position 0, in the chunks in which a prompt is fed.</summary>
    private void Run(int count, LogitRows rows)
    {
        _session.Reset();
        for (int start = 0; start < count; start += _session.ChunkLength)
        {
            int chunk = Math.Min(_session.ChunkLength, count - start);
            _model.Forward(_tokens.AsSpan(start, chunk), _session, start + chunk == count ? rows : LogitRows.None, _cancellation);
        }
    }

    private T Own<T>(T disposable)
        where T : IDisposable
    {
        _owned.Add(disposable);
        return disposable;
    }
}

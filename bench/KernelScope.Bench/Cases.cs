using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Bench;

/// <summary>What bounds a case.</summary>
internal enum Bound
{
    /// <summary>Bytes per second read from memory.</summary>
    Bandwidth,

    /// <summary>Float32 operations per second.</summary>
    Peak,
}

/// <summary>One thing to time.</summary>
/// <param name="Name">As in the table.</param>
/// <param name="Bound">Which limit it is held against.</param>
/// <param name="Work">Bytes or operations of one run.</param>
/// <param name="Run">Runs it once.</param>
internal sealed record Case(string Name, Bound Bound, double Work, Action Run);

/// <summary>The ops of Gemma 2 2B and of a 16k SAE.</summary>
internal sealed class Cases : IDisposable
{
    private readonly Device _device;
    private readonly Shapes _shapes;
    private readonly List<IDisposable> _owned = [];
    private readonly List<Case> _all = [];

    public Cases(Device device, Shapes shapes)
    {
        _device = device;
        _shapes = shapes;
        foreach (DType type in (ReadOnlySpan<DType>)[DType.BF16, DType.F32])
        {
            foreach (int rows in (ReadOnlySpan<int>)[1, 4, 16, 64, 512])
                AddMatrices(type, rows);
            AddSae(type);
        }

        AddAttention(1, 8000, 0);
        AddAttention(1, 8000, 4096);
        AddAttention(512, 0, 0);
        AddAttention(2048, 0, 0);
        AddAttention(512, 7680, 4096);
    }

    public IReadOnlyList<Case> All => _all;

    public void Dispose()
    {
        foreach (IDisposable one in _owned)
            one.Dispose();
    }

    private void AddMatrices(DType type, int rows)
    {
        AddLinear("qkv", type, rows, Shapes.Hidden, Shapes.Qkv);
        AddLinear("o", type, rows, Shapes.Z, Shapes.Hidden);
        AddLinear("down", type, rows, Shapes.Mlp, Shapes.Hidden);
        Weight gateUp = Own(_shapes.Weight(_device, $"gate_up.{type}"));
        Mat x = Random(rows, Shapes.Hidden), y = Random(rows, Shapes.Mlp);
        Add($"gate_up {type} {rows}", type, rows, Shapes.Hidden, 2 * Shapes.Mlp, () => _device.GatedGelu(x, gateUp, y));
    }

    private void AddLinear(string name, DType type, int rows, int inputs, int outputs)
    {
        Weight weight = Own(_shapes.Weight(_device, $"{name}.{type}"));
        Mat x = Random(rows, inputs), y = Random(rows, outputs);
        Add($"{name} {type} {rows}", type, rows, inputs, outputs, () => _device.Linear(x, weight, y));
    }

    private void AddSae(DType type)
    {
        Mat Row(int columns, float value)
        {
            Mat row = Own(_device.CreateMat(1, columns, "row"));
            var values = new float[columns];
            Array.Fill(values, value);
            _device.Write(values, row);
            return row;
        }

        // Pre-activations have a standard deviation near 0.4: about 100 features of 16,384 lie above 1.
        var sae = new SaeParameters(
            Own(_shapes.Weight(_device, $"w_enc.{type}", transposed: true)), Row(Shapes.Features, 0), Row(Shapes.Features, 1f),
            Own(_shapes.Weight(_device, $"w_dec.{type}", transposed: true)), Row(Shapes.Hidden, 0));
        foreach (int rows in (ReadOnlySpan<int>)[1, 32, 512])
        {
            Mat x = Random(rows, Shapes.Hidden), y = Random(rows, Shapes.Hidden);
            SparseCodes codes = Own(_device.CreateCodes(Shapes.Features, "codes"));
            Add($"encode {type} {rows}", type, rows, Shapes.Hidden, Shapes.Features, () => _device.SaeEncode(x, sae, codes));
            _device.SaeEncode(x, sae, codes);
            var list = new CodeList();
            _device.Read(codes, list);
            double bytes = (double)list.Count * Shapes.Hidden * type.ByteSize();
            _all.Add(new Case($"decode {type} {rows} (L0 {list.Count / rows})", Bound.Bandwidth, bytes, () => _device.SaeDecode(codes, sae, y)));
        }
    }

    private void AddAttention(int rows, int position, int window)
    {
        const int Heads = 8, KvHeads = 4, HeadDim = 256, Capacity = 8192;
        var cache = new KvLayer(Random(KvHeads * Capacity, HeadDim), Random(KvHeads * Capacity, HeadDim), KvHeads, Capacity);
        Mat q = Random(rows, Heads * HeadDim), z = Random(rows, Heads * HeadDim);
        var shape = new AttentionShape(Heads, 1 / 16f, 50f, window);
        double keys = 0;
        for (int t = 0; t < rows; t++)
            keys += window > 0 ? Math.Min(position + t + 1, window) : position + t + 1;
        Case added = rows == 1
            ? new Case($"attend {rows} at {position} window {window}", Bound.Bandwidth, keys * KvHeads * HeadDim * 2 * sizeof(float), () => _device.Attend(q, cache, position, shape, z))
            : new Case($"attend {rows} at {position} window {window}", Bound.Peak, keys * Heads * HeadDim * 4, () => _device.Attend(q, cache, position, shape, z));
        _all.Add(added);
    }

    private void Add(string name, DType type, int rows, int inputs, int outputs, Action run)
    {
        double weights = (double)inputs * outputs;
        _all.Add(rows < 32 ? new Case(name, Bound.Bandwidth, weights * type.ByteSize(), run) : new Case(name, Bound.Peak, 2 * weights * rows, run));
    }

    private Mat Random(int rows, int columns)
    {
        Mat mat = Own(_device.CreateMat(rows, columns, "random"));
        var random = new Random(rows + columns);
        var values = new float[(long)rows * columns];
        foreach (ref float value in values.AsSpan())
            value = (2 * random.NextSingle()) - 1;
        _device.Write(values, mat);
        return mat;
    }

    private Mat Own(Mat mat)
    {
        _owned.Add(mat.Buffer);
        return mat;
    }

    private T Own<T>(T disposable)
        where T : IDisposable
    {
        _owned.Add(disposable);
        return disposable;
    }
}

using KernelScope.Conformance;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Tests.Cpu;

/// <summary>Every op once, on shapes and values made from a seed. Host devices share memory, so one workload runs on any of them.</summary>
internal sealed class Workload : IDisposable
{
    public static readonly string[] Ops =
    [
        "Embed", "Normalize", "ApplyGain", "RmsNorm", "AddNormedThenNorm (resid)", "AddNormedThenNorm (normed)", "Linear",
            "GatedGelu", "Rope", "RopeThenStore (keys)",
        "RopeThenStore (values)", "Attend", "Softcap", "AddScaled", "CrossEntropy", "TopK", "SaeEncode", "SaeDecode", "SaeEdit",
    ];

    private readonly Generator _random;
    private readonly List<IDisposable> _owned = [];
    private readonly CpuDevice _maker;
    private readonly Device _weights;
    private readonly int[] _tokens;
    private readonly FeatureEdit[] _edits;
    private readonly Weight _table;
    private readonly Weight _linear;
    private readonly Weight _gateUp;
    private readonly SaeParameters _sae;
    private readonly KvLayer _cache;
    private readonly AttentionShape _attention;
    private readonly int _position;
    private readonly SparseCodes _codes;
    private readonly SparseCodes _top;
    private readonly Mat _x;
    private readonly Mat _gain;
    private readonly Mat _qkv;
    private readonly Mat _angles;
    private readonly Mat _logits;
    private readonly Mat[] _results;
    private readonly Dictionary<Mat, float[]> _inputs = [];

    /// <summary>Makes inputs and weights.</summary>
    /// <param name="maker">Makes the buffers.</param>
    /// <param name="seed">Of shapes and values.</param>
    /// <param name="maxRows">Most rows of x.</param>
    /// <param name="exactRows">Whether there are that many.</param>
    /// <param name="weights">Makes the weights; null: <paramref name="maker"/>.</param>
    public Workload(CpuDevice maker, ulong seed, int maxRows, bool exactRows = false, Device? weights = null)
    {
        _maker = maker;
        _weights = weights ?? maker;
        _random = new Generator(seed);
        int rows = exactRows ? maxRows : 1 + _random.Below(maxRows);
        int inputs = 1 + _random.Below(400);
        int outputs = 1 + _random.Below(700);
        int features = 1 + _random.Below(1500);
        int headDim = 2 * (1 + _random.Below(40));
        int kvHeads = 1 + _random.Below(3);
        int heads = kvHeads * (1 + _random.Below(3));
        int window = _random.Below(2) == 0 ? 0 : 1 + _random.Below(100);
        _position = _random.Below(400);
        _table = Weight(50, inputs);
        _linear = Weight(outputs, inputs);
        _gateUp = Weight(2 * outputs, inputs);
        _sae = new SaeParameters(Weight(features, inputs), Input(1, features), Input(1, features), Weight(inputs, features),
            Input(1, inputs));
        _cache = new KvLayer(Input(kvHeads * 600, headDim), Input(kvHeads * 600, headDim), kvHeads, 600);
        _attention = new AttentionShape(heads, 0.1f, 50f, window);
        _tokens = [.. Enumerable.Range(0, rows).Select(_ => _random.Below(50))];
        _edits = [new(_random.Below(features), FeatureEditKind.Add, 2f), new(_random.Below(features), FeatureEditKind.Clamp, 1f)];
        _x = Input(rows, inputs);
        _gain = Input(1, inputs);
        _qkv = Input(rows, (heads + (2 * kvHeads)) * headDim);
        _angles = Input(_position + rows, headDim);
        _logits = Input(rows, features);
        _codes = Own(maker.CreateCodes(features, "codes"));
        _top = Own(maker.CreateCodes(features, "top"));
        Mat Out(int columns) => Own(maker.CreateMat(rows, columns, "result"));
        _results = [Out(inputs), Out(inputs), Out(inputs), Out(inputs), Out(inputs), Out(inputs), Out(outputs), Out(outputs),
            Out(_qkv.Columns), _cache.Keys, _cache.Values,
            Out(heads * headDim), Out(features), Out(inputs), Out(1), Out(1), Out(1), Out(inputs), Out(inputs)];
    }

    /// <summary>Runs every op; the bits of all results, in the order of <see cref="Ops"/>.</summary>
    public uint[][] Run(CpuDevice device)
    {
        foreach ((Mat input, float[] values) in _inputs)
            _maker.Write(values, input);
        RunOnly(device);
        uint[][] bits = new uint[_results.Length][];
        for (int op = 0; op < bits.Length; op++)
        {
            bits[op] = Ops[op] switch
            {
                "TopK" => Bits(_top),
                "SaeEncode" => Bits(_codes),
                _ => _maker.Bits(_results[op]),
            };
        }

        return bits;
    }

    /// <summary>Runs every op.</summary>
    public void RunOnly(CpuDevice device)
    {
        Mat[] y = _results;
        Mat q = _qkv.ColumnRange(0, y[11].Columns);
        device.Embed(_tokens, _table, 3f, y[0]);
        device.Normalize(_x, 1e-6f, y[1]);
        device.ApplyGain(_x, _gain, y[2]);
        device.RmsNorm(_x, _gain, 1e-6f, y[3]);
        device.Copy(_x, y[4]);
        device.Copy(_x, y[5]);
        device.AddNormedThenNorm(y[3], _gain, _gain, 1e-6f, y[4], y[5]);
        device.Linear(_x, _linear, y[6]);
        device.GatedGelu(_x, _gateUp, y[7]);
        device.Copy(_qkv, y[8]);
        device.Rope(y[8], _position, _angles);
        device.RopeThenStore(_qkv, _position, _angles, _cache);
        device.Attend(q, _cache, _position, _attention, y[11]);
        device.Copy(_logits, y[12]);
        device.Softcap(y[12], 30f);
        device.Copy(_x, y[13]);
        device.AddScaled(_gain, 0.3f, y[13]);
        device.CrossEntropy(_x, _table, 30f, _tokens, y[14]);
        device.TopK(_logits, 5, _top);
        device.SaeEncode(_x, _sae, _codes);
        device.SaeDecode(_codes, _sae, y[17]);
        device.Copy(_x, y[18]);
        device.SaeEdit(y[18], _sae, _edits, y[18]);
    }

    public void Dispose()
    {
        foreach (IDisposable one in _owned)
            one.Dispose();
    }

    private uint[] Bits(SparseCodes codes)
    {
        var list = new CodeList();
        _maker.Read(codes, list);
        return [.. list.RowStart.Take(list.Rows + 1).Select(start => (uint)start), .. list.Feature.Take(list.Count).Select(f => (uint)f),
            .. list.Value.Take(list.Count).Select(BitConverter.SingleToUInt32Bits)];
    }

    private Mat Input(int rows, int columns)
    {
        Mat mat = Own(_maker.CreateMat(rows, columns, "input"));
        float[] values = _random.Normals(rows * columns);
        _maker.Write(values, mat);
        _inputs[mat] = values;
        return mat;
    }

    private Weight Weight(int outputs, int inputs)
    {
        int first = _random.Below(outputs + 1);
        var form = WeightForm.At(_random.Below(WeightForm.All.Length));
        PartForm[] parts = first is 0 || first == outputs ? [new(outputs, form)]
            : [new(first, form), new(outputs - first, new WeightForm(DType.BF16))];
        return Own(new TrialWeight("weight", inputs, parts, (_, _) => _random.Normal() * 0.1, _weights, _maker)).Tested;
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

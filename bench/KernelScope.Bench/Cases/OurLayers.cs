using KernelScope.Devices;
using KernelScope.Measuring;

namespace KernelScope.Bench.Cases;

/// <summary>The products of some layers, which all read the same rows: without norms between them values would vanish from layer to layer. The last layer's are what the logits are made of.</summary>
internal sealed class OurLayers : IDisposable
{
    private readonly Device _device;
    private readonly (Weight Qkv, Weight O, Weight GateUp, Weight Down)[] _layers;
    private readonly Weight? _logits;
    private readonly Mat _x;
    private readonly Mat _z;
    private readonly Mat _qkv;
    private readonly Mat _branch;
    private readonly Mat _mlp;
    private readonly Mat _last;
    private readonly Mat _result;

    public OurLayers(Device device, RandomTensors tensors, int layers, int rows, bool logits)
    {
        _device = device;
        Weight Of(string name) => device.CreateWeight(name, new WeightPart(tensors[name]));
        _layers = [.. Enumerable.Range(0, layers).Select(l => (Of($"{l}.qkv"), Of($"{l}.o"), Of($"{l}.gate_up"), Of($"{l}.down")))];
        _logits = logits ? Of("logits") : null;
        Rows = rows;
        X = RandomValues.Create(rows * Shape2B.ModelDim, 1);
        Z = RandomValues.Create(rows * Shape2B.Z, 1);
        _x = device.Mat(X, rows);
        _z = device.Mat(Z, rows);
        _qkv = device.CreateMat(rows, Shape2B.Qkv, "qkv");
        _branch = device.CreateMat(rows, Shape2B.ModelDim, "branch");
        _mlp = device.CreateMat(rows, Shape2B.Mlp, "mlp");
        _last = device.CreateMat(rows, Shape2B.ModelDim, "last");
        _result = logits ? device.CreateMat(rows, Shape2B.Vocab, "logits") : _last;
    }

    public int Rows { get; }

    /// <summary>Every layer's input, [rows, hidden].</summary>
    public float[] X { get; }

    /// <summary>The input of every o, [rows, heads · head_dim].</summary>
    public float[] Z { get; }

    public void Run()
    {
        foreach ((Weight qkv, Weight o, Weight gateUp, Weight down) in _layers)
        {
            _device.Linear(_x, qkv, _qkv);
            _device.Linear(_z, o, _branch);
            _device.GatedGelu(_x, gateUp, _mlp);
            _device.Linear(_mlp, down, _last);
        }

        if (_logits is not null)
            _device.Linear(_last, _logits, _result);
    }

    public float[] Result() => _device.Read(_result);

    public void Dispose()
    {
        foreach ((Weight qkv, Weight o, Weight gateUp, Weight down) in _layers)
        {
            qkv.Dispose();
            o.Dispose();
            gateUp.Dispose();
            down.Dispose();
        }

        _logits?.Dispose();
        foreach (Mat mat in (ReadOnlySpan<Mat>)[_x, _z, _qkv, _branch, _mlp, _last, _result])
            mat.Buffer.Dispose();
    }
}

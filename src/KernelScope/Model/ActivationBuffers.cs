using KernelScope.Devices;

namespace KernelScope.Model;

/// <summary>Every buffer of a forward pass, named, allocated once for a number of rows.</summary>
internal sealed class ActivationBuffers : IDisposable
{
    private readonly Device _device;
    private readonly List<IDisposable> _owned = [];
    private readonly Activations _all;
    private readonly Mat _losses;
    private GrowingMat _logits;
    private float[] _host = [];

    public ActivationBuffers(Device device, Gemma2Config config, int rows)
    {
        _device = device;
        _logits = new GrowingMat(device, config.VocabSize, "logits of a batch");
        RowCount = rows;
        int q = config.HeadCount * config.HeadDim, kv = config.KvHeadCount * config.HeadDim;
        _all = new Activations(
            Create(rows, config.ModelDim, "resid"),
            Create(rows, config.ModelDim, "normed"),
            Create(rows, config.ModelDim, "branch"),
            Create(rows, q + (2 * kv), "qkv"),
            Create(rows, q, "z"),
            Create(rows, config.MlpDim, "mlp_act"),
            kv);
        _losses = Create(rows, 1, "losses");
    }

    /// <summary>Most rows of a call.</summary>
    public int RowCount { get; }

    /// <summary>Bytes that <paramref name="rows"/> rows need.</summary>
    public static long BytesFor(Gemma2Config config, int rows)
    {
        long row = (3L * config.ModelDim) + ((2L * config.HeadCount) + (2L * config.KvHeadCount)) * config.HeadDim + config.MlpDim + 1;
        return 4 * rows * row;
    }

    public Activations Rows(int n) => _all.Rows(n);

    public Mat Losses(int n) => _losses.RowRange(0, n);

    /// <summary>Room for one row of logits of each of several sessions; it grows with their number.</summary>
    public Mat Logits(int n) => _logits.WithRows(n);

    /// <summary>Room on the host.</summary>
    public Span<float> Host(int length)
    {
        if (_host.Length < length)
            _host = new float[length];
        return _host.AsSpan(0, length);
    }

    public void Dispose()
    {
        _logits.Dispose();
        foreach (IDisposable owned in _owned)
            owned.Dispose();
    }

    private Mat Create(int rows, int columns, string name)
    {
        Mat mat = _device.CreateMat(rows, columns, name);
        _owned.Add(mat.Buffer);
        return mat;
    }
}

/// <summary>The activations of one call.</summary>
/// <param name="Resid">The residual stream, [n, d_model].</param>
/// <param name="Normed">The stream after a norm: what the next sub-layer reads.</param>
/// <param name="Branch">What a sub-layer gives back, before and after its post-norm.</param>
/// <param name="Qkv">Queries, keys and values side by side, [n, (heads + 2·kv heads)·d_head].</param>
/// <param name="Z">Head outputs, [n, heads·d_head].</param>
/// <param name="MlpAct">gelu(gate)·up, [n, d_mlp].</param>
/// <param name="KeyDim">kv heads·d_head.</param>
internal readonly record struct Activations(Mat Resid, Mat Normed, Mat Branch, Mat Qkv, Mat Z, Mat MlpAct, int KeyDim)
{
    public Mat Q => Qkv.ColumnRange(0, Z.Columns);

    public Mat K => Qkv.ColumnRange(Z.Columns, KeyDim);

    public Mat V => Qkv.ColumnRange(Z.Columns + KeyDim, KeyDim);

    public Mat QAndK => Qkv.ColumnRange(0, Z.Columns + KeyDim);

    public Activations Rows(int n) => new(
        Resid.RowRange(0, n), Normed.RowRange(0, n), Branch.RowRange(0, n), Qkv.RowRange(0, n), Z.RowRange(0, n), MlpAct.RowRange(0, n),
            KeyDim);
}

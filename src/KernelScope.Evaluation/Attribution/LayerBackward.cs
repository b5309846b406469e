using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Attribution;

/// <summary>The vector-Jacobian product of one layer, whose forward pass it repeats.</summary>
internal sealed class LayerBackward(Gemma2Model model, Session session) : IDisposable
{
    private static readonly Site[] Recomputed = [Site.Q, Site.K, Site.V, Site.AttnOut, Site.ResidMid, Site.MlpIn, Site.MlpOut];
    private readonly Device _device = model.Device;
    private readonly Gemma2Config _config = model.Config;
    private readonly Dictionary<Site, float[]> _seen = [];
    private DeviceBuffer? _left;
    private DeviceBuffer? _right;

    /// <summary>Turns the gradient of the stream after layer <paramref name="l"/> into that of the stream before it, in place.</summary>
    public void Run(int l, float[] residPre, int[] tokens, float[] gradient, bool ownOnly, Action<Site, int, float[]> keep)
    {
        int n = tokens.Length;
        Recompute(l, residPre, tokens);
        LayerWeights w = model.Weights.Layers[l];
        LayerTensors t = model.Weights.Checkpoint.Layer(l);

        // The MLP: the stream's gradient reaches it through the sum.
        keep(Site.MlpOutPost, l, gradient);
        float[] branch = ThroughNorm(_seen[Site.MlpOut], w.PostMlp, gradient, []);
        keep(Site.MlpOut, l, branch);
        float[] hidden = Through("down, transposed", branch, n, t.Down);
        keep(Site.MlpAct, l, hidden);
        float[] gateUp = Forward(_seen[Site.MlpIn], w.GateUp, n), dGateUp = new float[gateUp.Length];
        for (int r = 0; r < n; r++)
            BackwardMath.GatedGelu(Row(gateUp, r, n), Row(hidden, r, n), Row(dGateUp, r, n));
        float[] mlpIn = ThroughParts(dGateUp, n, t.Gate, t.Up);
        keep(Site.MlpIn, l, mlpIn);
        KeepUnit(l, mlpIn, w.PreMlp, keep);
        ThroughNorm(_seen[Site.ResidMid], w.PreMlp, mlpIn, gradient);

        // Attention: the same, one sub-layer down.
        keep(Site.ResidMid, l, gradient);
        keep(Site.AttnOutPost, l, gradient);
        branch = ThroughNorm(_seen[Site.AttnOut], w.PostAttn, gradient, []);
        keep(Site.AttnOut, l, branch);
        float[] z = Through("o, transposed", branch, n, t.O);
        keep(Site.Z, l, z);
        float[] dQkv = ThroughAttention(l, z, n, ownOnly);
        ThroughNorm(residPre, w.PreAttn, ThroughParts(dQkv, n, t.Q, t.K, t.V), gradient);
    }

    public void Dispose()
    {
        _left?.Dispose();
        _right?.Dispose();
    }

    private void Recompute(int l, float[] residPre, int[] tokens)
    {
        session.Reset();
        using var cache = new ActivationCache(session.Hooks, Recomputed.Select(s => new HookPoint(s, l)), tokens.Length);
        Mat resid = Place(ref _left, residPre, tokens.Length);
        model.RunLayer(l, resid, tokens, session);
        foreach (Site site in Recomputed)
            _seen[site] = cache.Values(new(site, l)).ToArray();
    }

    private float[] ThroughAttention(int l, float[] dz, int n, bool ownOnly)
    {
        var shape = model.ShapeOf(l);
        var attention = new AttentionBackward(shape, _config.KvHeadCount, _config.HeadDim);
        int keys = _config.KvHeadCount * _config.HeadDim, queries = _config.HeadCount * _config.HeadDim, row = queries + (2 * keys);
        float[] qkv = new float[n * row], gradient = new float[n * row], table = new float[_config.HeadDim];
        for (int r = 0; r < n; r++)
        {
            Row(_seen[Site.Q], r, n).CopyTo(qkv.AsSpan(r * row));
            Row(_seen[Site.K], r, n).CopyTo(qkv.AsSpan((r * row) + queries));
            Row(_seen[Site.V], r, n).CopyTo(qkv.AsSpan((r * row) + queries + keys));
        }

        attention.Run(qkv, dz, ownOnly, gradient);
        for (int r = 0; r < n; r++)
        {
            _device.Read(session.CosSin.RowRange(r, 1), table);
            BackwardMath.Rope(gradient.AsSpan(r * row, queries + keys), table);
        }

        return gradient;
    }

    /// <summary>Gradient of a norm's input, added to <paramref name="sum"/>, or in an array of its own where that is empty.</summary>
    private float[] ThroughNorm(float[] x, Mat gain, float[] dy, float[] sum)
    {
        float[] g = new float[gain.Columns], dx = sum.Length == 0 ? new float[x.Length] : sum;
        _device.Read(gain, g);
        int n = x.Length / g.Length;
        for (int r = 0; r < n; r++)
            BackwardMath.RmsNorm(Row(x, r, n), g, _config.NormEpsilon, Row(dy, r, n), Row(dx, r, n));
        return dx;
    }

    private void KeepUnit(int l, float[] mlpIn, Mat gain, Action<Site, int, float[]> keep)
    {
        float[] g = new float[gain.Columns], unit = new float[mlpIn.Length];
        _device.Read(gain, g);
        for (int i = 0; i < unit.Length; i++)
            unit[i] = (float)(mlpIn[i] * (1.0 + g[i % g.Length]));
        keep(Site.MlpInUnit, l, unit);
    }

    private float[] Forward(float[] x, Weight weight, int n)
    {
        Mat y = Place(ref _right, null, n, weight.Rows);
        _device.Linear(Place(ref _left, x, n), weight, y);
        return Values(y);
    }

    /// <summary>dx = dy·W for a stored W [out, in].</summary>
    private float[] Through(string name, float[] dy, int n, TensorView tensor)
    {
        using Weight weight = _device.CreateWeight(name, new WeightPart(tensor, Transposed: true));
        return Forward(dy, weight, n);
    }

    /// <summary>The same where y is several products side by side.</summary>
    private float[] ThroughParts(float[] dy, int n, params ReadOnlySpan<TensorView> tensors)
    {
        float[] sum = [];
        int start = 0, row = dy.Length / n;
        foreach (TensorView tensor in tensors)
        {
            int width = (int)tensor.Shape[0];
            float[] part = new float[n * width];
            for (int r = 0; r < n; r++)
                dy.AsSpan((r * row) + start, width).CopyTo(part.AsSpan(r * width));
            float[] dx = Through(tensor.Name, part, n, tensor);
            for (int i = 0; i < sum.Length; i++)
                dx[i] += sum[i];
            sum = dx;
            start += width;
        }

        return sum;
    }

    private static Span<float> Row(float[] values, int r, int n) => values.AsSpan(r * (values.Length / n), values.Length / n);

    private float[] Values(Mat x)
    {
        float[] values = new float[x.Rows * x.Columns];
        _device.Read(x, values);
        return values;
    }

    private Mat Place(ref DeviceBuffer? buffer, float[]? values, int rows, int columns = 0)
    {
        columns = values is null ? columns : values.Length / rows;
        long needed = (long)rows * columns;
        if (buffer is null || buffer.Length < needed)
        {
            buffer?.Dispose();
            buffer = _device.Allocate(needed, "gradient");
        }

        var mat = new Mat(buffer, rows, columns);
        if (values is not null)
            _device.Write(values, mat);
        return mat;
    }
}

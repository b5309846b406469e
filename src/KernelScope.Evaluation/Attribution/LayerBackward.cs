using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Attribution;

/// <summary>Takes the gradients at a hook point, one row after the other for every sum; lent for the call.</summary>
internal delegate void KeepGradient(HookPoint point, ReadOnlySpan<float> gradients);

/// <summary>The vector-Jacobian product of one layer, whose forward pass it repeats once for several sums of terms.</summary>
/// <remarks>
/// Products run on the device, on the weights where they lie. Norms, GELU, RoPE and attention run in double on the host, on the device's threads. Costs a forward pass of the layer, and as much
/// again for each sum. Memory is that of one layer, whatever the number of layers.
/// </remarks>
internal sealed class LayerBackward : IDisposable
{
    private readonly Gemma2Model _model;
    private readonly Device _device;
    private readonly Gemma2Config _config;
    private readonly LayerForward _forward;
    private readonly Mat _branch;
    private readonly Mat _mlpAct;
    private readonly Mat _gateUp;
    private readonly Mat _z;
    private readonly Mat _qkv;
    private readonly float[] _x;
    private readonly float[] _dBranch;
    private readonly float[] _dInner;
    private readonly float[] _dWide;
    private readonly float[] _qkvValues;
    private readonly float[] _gain;

    /// <summary>Room for sequences of up to <paramref name="maxTokens"/> tokens and <paramref name="sums"/> sums at once.</summary>
    public LayerBackward(Gemma2Model model, int maxTokens, int sums)
    {
        (_model, _device, _config) = (model, model.Device, model.Config);
        _forward = new LayerForward(model, maxTokens);
        int queries = _config.HeadCount * _config.HeadDim, qkv = queries + (2 * _config.KvHeadCount * _config.HeadDim),
            rows = checked(sums * maxTokens);
        _branch = _device.CreateMat(rows, _config.ModelDim, "gradient of a branch");
        _mlpAct = _device.CreateMat(rows, _config.MlpDim, "gradient of mlp_act");
        _gateUp = _device.CreateMat(rows, 2 * _config.MlpDim, "gradient of gate and up");
        _z = _device.CreateMat(rows, queries, "gradient of z");
        _qkv = _device.CreateMat(rows, qkv, "gradient of qkv");
        _x = new float[checked(maxTokens * _config.ModelDim)];
        _dBranch = new float[checked(rows * _config.ModelDim)];
        _dInner = new float[checked(rows * Math.Max(_config.MlpDim, queries))];
        _dWide = new float[checked(rows * Math.Max(2 * _config.MlpDim, qkv))];
        _qkvValues = new float[checked(maxTokens * qkv)];
        _gain = new float[_config.ModelDim];
    }

    /// <summary>Bytes that it takes.</summary>
    public static long BytesFor(Gemma2Config config, int tokens, int sums)
    {
        long queries = (long)config.HeadCount * config.HeadDim, qkv = queries + (2L * config.KvHeadCount * config.HeadDim),
            wide = Math.Max(2L * config.MlpDim, qkv), rows = (long)sums * tokens;
        return LayerForward.BytesFor(config, tokens)
            + AttentionBackward.BytesFor(tokens, config.HeadCount / config.KvHeadCount, config.HeadDim)
            + (sizeof(float) * rows
                * ((2L * config.ModelDim) + (3L * config.MlpDim) + queries + qkv + Math.Max(config.MlpDim, queries) + wide))
            + (sizeof(float) * tokens * (config.ModelDim + qkv));
    }

    /// <summary>Turns the gradients of the stream after layer <paramref name="l"/> into those of the stream before it, in place.</summary>
    /// <param name="l">The layer.</param>
    /// <param name="residPre">The stream before it, [n, d_model].</param>
    /// <param name="gradients">[sums · n, d_model].</param>
    /// <param name="ownOnly">For each sum, whether a position's gradient is that of its own term only.</param>
    /// <param name="wanted">The hook points whose gradients are asked for.</param>
    /// <param name="through">Whether the gradients of the stream before the layer are wanted; else those in place are not, and attention is left out.</param>
    /// <param name="keep">Takes them.</param>
    public void Run(int l, Mat residPre, float[] gradients, ReadOnlySpan<bool> ownOnly, IReadOnlyCollection<HookPoint> wanted,
        bool through, KeepGradient keep)
    {
        int n = residPre.Rows, rows = ownOnly.Length * n;
        _forward.Run(l, residPre);
        var offer = new Offer(l, wanted, keep);
        LayerWeights w = _model.Weights.Layers[l];
        Mlp(w, gradients, n, rows, offer);
        ToZ(w, gradients, rows, offer);
        if (!through)
            return;
        Attention(l, w, n, ownOnly);
        ThroughNorm(residPre, w.PreAttn, _dBranch, gradients, rows);
    }

    public void Dispose()
    {
        _forward.Dispose();
        foreach (Mat mat in (ReadOnlySpan<Mat>)[_branch, _mlpAct, _gateUp, _z, _qkv])
            mat.Buffer.Dispose();
    }

    /// <summary>The stream's gradient reaches the MLP through the sum; what comes out at its input is added.</summary>
    private void Mlp(LayerWeights w, float[] gradients, int n, int rows, Offer offer)
    {
        int dim = _config.ModelDim, width = _config.MlpDim;
        Mat branch = _branch.RowRange(0, rows), mlpAct = _mlpAct.RowRange(0, rows), gateUp = _gateUp.RowRange(0, rows);
        IntoBranch(_forward.MlpOut, w.PostMlp, gradients, branch);
        offer.Of(Site.MlpOut, _dBranch.AsSpan(0, rows * dim));
        _device.LinearTransposed(branch, w.Down, mlpAct);
        _device.Read(mlpAct, _dInner.AsSpan(0, rows * width));
        offer.Of(Site.MlpAct, _dInner.AsSpan(0, rows * width));
        _device.ForEach(rows,
            r => BackwardMath.GatedGeluBack(Row(_forward.GateUp, r % n, 2 * width), Row(_dInner, r, width), Row(_dWide, r, 2 * width)));
        _device.Write(_dWide.AsSpan(0, rows * 2 * width), gateUp);
        _device.LinearTransposed(gateUp, w.GateUp, branch);
        _device.Read(branch, _dBranch.AsSpan(0, rows * dim));
        offer.Of(Site.MlpIn, _dBranch.AsSpan(0, rows * dim));
        if (offer.Wants(Site.MlpInUnit))
            offer.Of(Site.MlpInUnit, OfUnit(w.PreMlp, rows));
        ThroughNorm(_forward.ResidMid, w.PreMlp, _dBranch, gradients, rows);
    }

    /// <summary>The same, one sub-layer down, as far as what attention gives.</summary>
    private void ToZ(LayerWeights w, float[] gradients, int rows, Offer offer)
    {
        int dim = _config.ModelDim, queries = _z.Columns;
        Mat branch = _branch.RowRange(0, rows), z = _z.RowRange(0, rows);
        offer.Of(Site.ResidMid, gradients.AsSpan(0, rows * dim));
        offer.Of(Site.AttnOutPost, gradients.AsSpan(0, rows * dim));
        IntoBranch(_forward.AttnOut, w.PostAttn, gradients, branch);
        offer.Of(Site.AttnOut, _dBranch.AsSpan(0, rows * dim));
        _device.LinearTransposed(branch, w.O, z);
        _device.Read(z, _dInner.AsSpan(0, rows * queries));
        offer.Of(Site.Z, _dInner.AsSpan(0, rows * queries));
    }

    /// <summary>From there to the sub-layer's input, without the norm before it.</summary>
    private void Attention(int l, LayerWeights w, int n, ReadOnlySpan<bool> ownOnly)
    {
        int rows = ownOnly.Length * n, dim = _config.ModelDim,
            width = _qkv.Columns, turned = width - (_config.KvHeadCount * _config.HeadDim), part = n * width, queries = _z.Columns;
        Mat branch = _branch.RowRange(0, rows), qkv = _qkv.RowRange(0, rows);
        _device.Read(_forward.Qkv, _qkvValues.AsSpan(0, part));
        var attention = new AttentionBackward(_device, _model.ShapeOf(l), _config.KvHeadCount, _config.HeadDim);
        for (int s = 0; s < ownOnly.Length; s++)
            attention.Run(_qkvValues.AsSpan(0, part), _dInner.AsSpan(s * n * queries, n * queries),
                ownOnly[s], _dWide.AsSpan(s * part, part));
        _device.ForEach(rows, r => BackwardMath.Rope(Row(_dWide, r, width)[..turned], Row(_forward.CosSin, r % n, _config.HeadDim)));
        _device.Write(_dWide.AsSpan(0, rows * width), qkv);
        _device.LinearTransposed(qkv, w.Qkv, branch);
        _device.Read(branch, _dBranch.AsSpan(0, rows * dim));
    }

    /// <summary>Through the norm behind a sub-layer: the gradient of its output, on the host and on the device.</summary>
    private void IntoBranch(Mat output, Mat gain, float[] gradients, Mat branch)
    {
        Span<float> values = _dBranch.AsSpan(0, branch.Rows * branch.Columns);
        values.Clear();
        ThroughNorm(output, gain, gradients, _dBranch, branch.Rows);
        _device.Write(values, branch);
    }

    /// <summary>Gradient of a norm's input x, added to <paramref name="dx"/>.</summary>
    private void ThroughNorm(Mat x, Mat gain, float[] dy, float[] dx, int rows)
    {
        int n = x.Rows, dim = x.Columns;
        _device.Read(gain, _gain);
        _device.Read(x, _x.AsSpan(0, n * dim));
        _device.ForEach(rows, r => BackwardMath.RmsNorm(Row(_x, r % n, dim), _gain, _config.NormEpsilon, Row(dy, r, dim), Row(dx, r, dim)));
    }

    private float[] OfUnit(Mat gain, int rows)
    {
        float[] unit = new float[rows * gain.Columns];
        _device.Read(gain, _gain);
        for (int i = 0; i < unit.Length; i++)
            unit[i] = (float)(_dBranch[i] * (1.0 + _gain[i % _gain.Length]));
        return unit;
    }

    private static Span<float> Row(float[] values, int r, int width) => values.AsSpan(r * width, width);

    /// <summary>Passes on what is wanted of a layer.</summary>
    private readonly struct Offer(int layer, IReadOnlyCollection<HookPoint> wanted, KeepGradient keep)
    {
        public bool Wants(Site site) => wanted.Contains(new(site, layer));

        public void Of(Site site, ReadOnlySpan<float> gradients)
        {
            if (Wants(site))
                keep(new(site, layer), gradients);
        }
    }
}

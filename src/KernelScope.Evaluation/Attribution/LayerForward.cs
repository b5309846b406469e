using KernelScope.Devices;
using KernelScope.Model;

namespace KernelScope.Attribution;

/// <summary>One layer's forward pass over a whole sequence once more, keeping what its backward pass needs; else as <see cref="Gemma2Model"/> has it.</summary>
/// <remarks>
/// Gate and up are wanted before they become one, so GELU runs on the host. Of a bfloat16 cache the backward pass takes keys and values as they were before they were
/// rounded, and the rounding as no change.
/// </remarks>
internal sealed class LayerForward : IDisposable
{
    private readonly Gemma2Model _model;
    private readonly Device _device;
    private readonly List<DeviceBuffer> _owned = [];
    private readonly Mat[] _all;
    private readonly Mat _cosSin;
    private readonly KvLayer _cache;
    private readonly float[] _mlpAct;

    public LayerForward(Gemma2Model model, int maxTokens)
    {
        (_model, _device) = (model, model.Device);
        Gemma2Config c = model.Config;
        int queries = c.HeadCount * c.HeadDim, keys = c.KvHeadCount * c.HeadDim;
        _all = [.. ((int[])[c.ModelDim, c.ModelDim, c.ModelDim, c.ModelDim, c.ModelDim, queries + (2 * keys), queries, 2 * c.MlpDim,
            c.MlpDim]).Select(width => Create(maxTokens, width))];
        CosSin = RopeTable.Create(maxTokens, c.HeadDim, c.RopeTheta);
        _cosSin = Create(maxTokens, c.HeadDim);
        _device.Write(CosSin, _cosSin);
        _cache = KvCache.CreateLayer(_device, "gradient", c.KvHeadCount, maxTokens, c.HeadDim, model.CacheType);
        _owned.AddRange([_cache.Keys.Buffer, _cache.Values.Buffer]);
        _mlpAct = new float[checked(maxTokens * c.MlpDim)];
        GateUp = new float[checked(2 * maxTokens * c.MlpDim)];
    }

    /// <summary>Rotated queries and keys, and values.</summary>
    public Mat Qkv { get; private set; }

    /// <summary>What attention gives, before the norm.</summary>
    public Mat AttnOut { get; private set; }

    /// <summary>The stream between the sub-layers.</summary>
    public Mat ResidMid { get; private set; }

    /// <summary>Gate, then up, of each row, on the host.</summary>
    public float[] GateUp { get; }

    /// <summary>What the MLP gives, before the norm.</summary>
    public Mat MlpOut { get; private set; }

    /// <summary>The angles' cosines and sines, [positions, d_head], on the host.</summary>
    public float[] CosSin { get; }

    public static long BytesFor(Gemma2Config config, int tokens)
    {
        long queries = (long)config.HeadCount * config.HeadDim, keys = (long)config.KvHeadCount * config.HeadDim;
        return sizeof(float) * tokens
            * ((5L * config.ModelDim) + (2 * queries) + (4 * keys) + (6L * config.MlpDim) + (2L * config.HeadDim));
    }

    /// <summary>Runs layer <paramref name="l"/> on the stream before it, [n, d_model].</summary>
    public void Run(int l, Mat residPre)
    {
        int n = residPre.Rows, width = _model.Config.MlpDim;
        float epsilon = _model.Config.NormEpsilon;
        LayerWeights w = _model.Weights.Layers[l];
        Mat[] m = Array.ConvertAll(_all, mat => mat.RowRange(0, n));
        (Mat normed, Mat branch, Mat z, Mat gateUp, Mat mlpAct) = (m[3], m[4], m[6], m[7], m[8]);
        (AttnOut, ResidMid, MlpOut, Qkv) = (m[0], m[1], m[2], m[5]);
        _device.RmsNorm(residPre, w.PreAttn, epsilon, normed);
        _device.Linear(normed, w.Qkv, Qkv);
        _device.RopeThenStore(Qkv, 0, _cosSin, _cache);
        _device.Attend(Qkv.ColumnRange(0, z.Columns), _cache, 0, _model.ShapeOf(l), z);
        _device.Linear(z, w.O, AttnOut);
        _device.Copy(AttnOut, branch);
        _device.Copy(residPre, ResidMid);
        _device.AddNormedThenNorm(branch, w.PostAttn, w.PreMlp, epsilon, ResidMid, normed);
        _device.Linear(normed, w.GateUp, gateUp);
        _device.Read(gateUp, GateUp.AsSpan(0, 2 * n * width));
        _device.ForEach(n, t => BackwardMath.GatedGelu(GateUp.AsSpan(t * 2 * width, 2 * width), _mlpAct.AsSpan(t * width, width)));
        _device.Write(_mlpAct.AsSpan(0, n * width), mlpAct);
        _device.Linear(mlpAct, w.Down, MlpOut);
    }

    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _owned)
            buffer.Dispose();
    }

    private Mat Create(int rows, int columns)
    {
        Mat mat = _device.CreateMat(rows, columns, "a layer of a backward pass");
        _owned.Add(mat.Buffer);
        return mat;
    }
}

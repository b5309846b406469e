using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Attribution;

/// <summary>Fills the gradient of a scalar with respect to one row of logits, d L / d logits[t].</summary>
/// <param name="t">The position.</param>
/// <param name="logits">Its logits, after the soft-cap.</param>
/// <param name="gradient">To fill; zero on entry.</param>
public delegate void LogitGradient(int t, ReadOnlySpan<float> logits, Span<float> gradient);

/// <summary>Gradients of a function of the logits with respect to activations: the vector-Jacobian product of the layers above a site, hand-written.</summary>
/// <remarks>
/// The forward pass keeps the stream before each layer; the backward pass recomputes one layer at a time, so that memory does not grow with the depth beyond that.
/// Matrix products run on the device, on the weights where they lie (a device that uploads weights brings one layer's transposes at a time); norms, soft-caps, GELU and attention run in double on the host.
/// </remarks>
public sealed class StreamGradient : IDisposable
{
    private const int LogitRowsAtOnce = 16;

    private readonly Gemma2Model _model;
    private readonly Device _device;
    private readonly Session _session;
    private readonly LayerBackward _layer;
    private readonly Dictionary<int, float[]> _streams = [];
    private int[] _tokens = [];
    private float[] _finalStream = [];
    private int _firstLayer;

    /// <summary>Room for sequences of up to <paramref name="maxTokens"/> tokens.</summary>
    public StreamGradient(Gemma2Model model, int maxTokens)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxTokens);
        _model = model;
        _device = model.Device;
        _session = model.NewSession(maxTokens, maxTokens);
        _layer = new LayerBackward(model, _session);
    }

    /// <summary>Bytes that gradients of sequences of <paramref name="tokens"/> tokens take beside the model, before there is anything: the session, the stream before each layer, and the larger arrays of a layer's backward pass in float32 and double.</summary>
    public static long BytesFor(Gemma2Config config, int tokens)
    {
        ArgumentNullException.ThrowIfNull(config);
        long qkv = (config.HeadCount + (2L * config.KvHeadCount)) * config.HeadDim;
        return Session.BytesFor(config, tokens, tokens) + (tokens * ((4L * config.ModelDim * (config.LayerCount + 8)) + (32L * config.HiddenDim) + (24 * qkv))) + (4L * LogitRowsAtOnce * config.VocabSize);
    }

    /// <summary>The sites whose gradients can be asked for; those of a layer come with that layer's backward pass.</summary>
    public static IReadOnlyList<Site> Sites { get; } = [Site.ResidPre, Site.Z, Site.AttnOut, Site.AttnOutPost, Site.ResidMid, Site.MlpIn, Site.MlpInUnit, Site.MlpAct, Site.MlpOut, Site.MlpOutPost, Site.ResidPost];

    /// <summary>Runs a sequence, keeping the stream before each layer from <paramref name="firstLayer"/> on.</summary>
    public void Forward(ReadOnlySpan<int> tokens, int firstLayer)
    {
        int layers = _model.Config.LayerCount;
        ArgumentOutOfRangeException.ThrowIfNegative(firstLayer);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(firstLayer, layers);
        _tokens = tokens.ToArray();
        _firstLayer = firstLayer;
        _session.Reset();
        HookPoint[] points = [.. Enumerable.Range(firstLayer, layers - firstLayer).Select(l => new HookPoint(Site.ResidPre, l)), new(Site.ResidPost, layers - 1)];
        using var cache = new ActivationCache(_session.Hooks, points, tokens.Length);
        _model.Forward(tokens, _session, LogitRows.None);
        for (int l = firstLayer; l < layers; l++)
            _streams[l] = cache.Values(points[l - firstLayer]).ToArray();
        _finalStream = cache.Values(points[^1]).ToArray();
    }

    /// <summary>Gradients at the given hook points, [tokens, width] each, of the last <see cref="Forward"/>.</summary>
    /// <param name="points">Hook points of layers from the first layer of the forward pass on.</param>
    /// <param name="loss">Gradient of the scalar with respect to each row of logits.</param>
    /// <param name="ownPositionOnly">
    /// True: row t of the result is the gradient of position t's own term only (a sum of one term a position); false: every term counts wherever it reaches.
    /// Own terms need one pass and not one a position: nothing at an earlier position depends on position t.
    /// </param>
    /// <param name="cancellation">Stops between two layers.</param>
    public IReadOnlyDictionary<HookPoint, float[]> Backward(IReadOnlyCollection<HookPoint> points, LogitGradient loss, bool ownPositionOnly = false, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(points);
        ArgumentNullException.ThrowIfNull(loss);
        foreach (HookPoint point in points)
        {
            if (!Sites.Contains(point.Site) || point.Layer < _firstLayer || point.Layer >= _model.Config.LayerCount)
                throw new ArgumentException($"There is no gradient at {point}: sites are {string.Join(", ", Sites.Select(HookPoint.NameOf))}, layers {_firstLayer} to {_model.Config.LayerCount - 1}.");
        }

        var gradients = new Dictionary<HookPoint, float[]>();
        float[] stream = FinalStreamGradient(loss);
        int lowest = points.Count == 0 ? _model.Config.LayerCount : points.Min(p => p.Layer);
        for (int l = _model.Config.LayerCount - 1; l >= lowest; l--)
        {
            cancellation.ThrowIfCancellationRequested();
            Keep(Site.ResidPost, l, stream);
            _layer.Run(l, _streams[l], _tokens, stream, ownPositionOnly, Keep);
            Keep(Site.ResidPre, l, stream);
        }

        return gradients;

        void Keep(Site site, int layer, float[] gradient)
        {
            var point = new HookPoint(site, layer);
            if (points.Contains(point))
                gradients[point] = (float[])gradient.Clone();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _layer.Dispose();
        _session.Dispose();
    }

    /// <summary>d L / d resid_post of the last layer: through the soft-cap, the unembedding and the final norm, a few rows of logits at a time.</summary>
    private float[] FinalStreamGradient(LogitGradient loss)
    {
        Gemma2Config config = _model.Config;
        int dim = config.ModelDim, vocab = config.VocabSize, n = _tokens.Length;
        float[] gradient = new float[n * dim], gain = new float[dim];
        _device.Read(_model.Weights.FinalNorm, gain);
        using Weight back = _device.CreateWeight("unembedding, transposed", new WeightPart(_model.Weights.Checkpoint.Embedding, Transposed: true));
        Mat logits = _device.CreateMat(LogitRowsAtOnce, vocab, "logits"), normed = _device.CreateMat(n, dim, "normed");
        try
        {
            _device.Write(_finalStream, normed);
            _device.RmsNorm(normed, _model.Weights.FinalNorm, config.NormEpsilon, normed);
            float[] values = new float[vocab], seed = new float[vocab], dNormed = new float[dim];
            for (int start = 0; start < n; start += LogitRowsAtOnce)
            {
                int count = Math.Min(LogitRowsAtOnce, n - start);
                Mat rows = logits.RowRange(0, count), block = normed.RowRange(start, count);
                _device.Linear(block, _model.Unembedding, rows);
                if (config.FinalSoftcap > 0)
                    _device.Softcap(rows, config.FinalSoftcap);
                for (int r = 0; r < count; r++)
                {
                    _device.Read(rows.RowRange(r, 1), values);
                    Array.Clear(seed);
                    loss(start + r, values, seed);
                    BackwardMath.Softcap(values, config.FinalSoftcap, seed);
                    _device.Write(seed, rows.RowRange(r, 1));
                }

                _device.Linear(rows, back, block);
                for (int r = start; r < start + count; r++)
                {
                    _device.Read(normed.RowRange(r, 1), dNormed);
                    BackwardMath.RmsNorm(_finalStream.AsSpan(r * dim, dim), gain, config.NormEpsilon, dNormed, gradient.AsSpan(r * dim, dim));
                }
            }
        }
        finally
        {
            logits.Buffer.Dispose();
            normed.Buffer.Dispose();
        }

        return gradient;
    }
}

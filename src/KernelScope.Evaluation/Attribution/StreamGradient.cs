using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Attribution;

/// <summary>Fills the gradient of a scalar with respect to one row of logits, d L / d logits[t].</summary>
/// <param name="t">The position.</param>
/// <param name="logits">Its logits, after the soft-cap.</param>
/// <param name="gradient">To fill; zero on entry.</param>
public delegate void LogitGradient(int t, ReadOnlySpan<float> logits, Span<float> gradient);

/// <summary>Of which terms, one a position, a gradient is the sum.</summary>
/// <param name="OwnPositionOnly">True: row t of the result is the gradient of position t's own term only; false: every term counts wherever it reaches.</param>
/// <param name="Includes">Whether a position's term counts; null: all do.</param>
internal readonly record struct GradientSum(bool OwnPositionOnly, Func<int, bool>? Includes = null);

/// <summary>Gradients of a function of the logits with respect to activations: the vector-Jacobian product of the layers above a site, hand-written.</summary>
/// <remarks>
/// The forward pass keeps the stream before each layer; the backward pass recomputes one layer at a time, so that memory does not grow with the depth beyond that.
/// Matrix products run on the device; norms, soft-caps, GELU and attention run in double on the host, on the device's threads. Same input, same bits, at any number of threads.
/// </remarks>
public sealed class StreamGradient : IDisposable
{
    // A block of logits and its gradient: enough rows that a large vocabulary is read a few times only.
    private const long LogitBytes = 64L << 20;

    private readonly Gemma2Model _model;
    private readonly Device _device;
    private readonly int _maxTokens;
    private readonly int _sums;
    private readonly LayerBackward _layer;
    private readonly Mat _logits;
    private readonly Mat _normed;
    private readonly Mat _final;
    private readonly Dictionary<int, Mat> _streams = [];
    private Session? _session;
    private int _count;
    private int _firstLayer;

    /// <summary>Room for sequences of up to <paramref name="maxTokens"/> tokens.</summary>
    public StreamGradient(Gemma2Model model, int maxTokens) : this(model, maxTokens, 1)
    {
    }

    /// <summary>Room for <paramref name="sums"/> gradients at once.</summary>
    internal StreamGradient(Gemma2Model model, int maxTokens, int sums)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxTokens);
        (_model, _device, _maxTokens, _sums) = (model, model.Device, maxTokens, sums);
        _layer = new LayerBackward(model, maxTokens, sums);
        _logits = _device.CreateMat(LogitRows(model.Config, maxTokens), model.Config.VocabSize, "logits");
        _normed = _device.CreateMat(maxTokens, model.Config.ModelDim, "normed");
        _final = _device.CreateMat(maxTokens, model.Config.ModelDim, "final stream");
    }

    /// <summary>Hooks of the pass that <see cref="Forward"/> makes.</summary>
    internal HookSet Hooks => Session.Hooks;

    private Session Session => _session ??= _model.NewSession(_maxTokens, _maxTokens);

    /// <summary>Bytes that gradients of sequences of <paramref name="tokens"/> tokens take beside the model, before there is anything: a session, the stream before each layer, and one layer's backward pass.</summary>
    /// <param name="config">The model's.</param>
    /// <param name="tokens">Tokens of a sequence.</param>
    /// <param name="sums">Gradients at once: 2 in an evaluation.</param>
    public static long BytesFor(Gemma2Config config, int tokens, int sums = 1)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Session.BytesFor(config, tokens, tokens) + (4L * tokens * config.ModelDim * (config.LayerCount + 6))
            + LayerBackward.BytesFor(config, tokens, sums) + (4L * (LogitRows(config, tokens) + 2) * config.VocabSize);
    }

    /// <summary>The sites whose gradients can be asked for; those of a layer come with that layer's backward pass.</summary>
    public static IReadOnlyList<Site> Sites { get; } =
        [Site.ResidPre, Site.Z, Site.AttnOut, Site.AttnOutPost, Site.ResidMid, Site.MlpIn, Site.MlpInUnit, Site.MlpAct,
            Site.MlpOut, Site.MlpOutPost, Site.ResidPost];

    /// <summary>The lowest layer whose backward pass the gradient at a point needs; the number of layers where it is behind them all.</summary>
    internal static int FirstLayerFor(HookPoint point) => IsAfterLayer(point.Site) ? point.Layer + 1 : point.Layer;

    /// <summary>Runs a sequence, keeping the stream before each layer from <paramref name="firstLayer"/> on; with the number of layers, the last one only.</summary>
    public void Forward(ReadOnlySpan<int> tokens, int firstLayer)
    {
        Session session = Session;
        session.Reset();
        using (Record(session.Hooks, tokens.Length, firstLayer))
            _model.Forward(tokens, session, Model.LogitRows.None);
    }

    /// <summary>Keeps the streams of a pass that somebody else makes, from a layer not above <paramref name="firstLayer"/> up, until the result is disposed.</summary>
    internal IDisposable Record(HookSet hooks, int count, int firstLayer)
    {
        int layers = _model.Config.LayerCount;
        ArgumentOutOfRangeException.ThrowIfNegative(firstLayer);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(firstLayer, layers);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, _maxTokens);
        (_count, _firstLayer) = (count, firstLayer);
        var armed = new ArmedHooks();
        for (int l = firstLayer; l < layers; l++)
        {
            if (!_streams.TryGetValue(l, out Mat stream))
                _streams.Add(l, stream = _device.CreateMat(_maxTokens, _model.Config.ModelDim, $"stream before layer {l}"));
            armed.Add(hooks.Add(new(Site.ResidPre, l),
                (call, _, value) => call.Device.Copy(value, stream.RowRange(call.Position, value.Rows))));
        }

        armed.Add(hooks.Add(new(Site.ResidPost, layers - 1),
            (call, _, value) => call.Device.Copy(value, _final.RowRange(call.Position, value.Rows))));
        return armed;
    }

    /// <summary>Gradients at the given hook points, [tokens, width] each, of the last <see cref="Forward"/>.</summary>
    /// <param name="points">Hook points of layers from the first layer of the forward pass on.</param>
    /// <param name="loss">Gradient of the scalar with respect to each row of logits.</param>
    /// <param name="ownPositionOnly">
    /// True: row t of the result is the gradient of position t's own term only (a sum of one term a position); false: every term counts wherever it reaches.
    /// Own terms need one pass and not one a position: nothing at an earlier position depends on position t.
    /// </param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    public IReadOnlyDictionary<HookPoint, float[]> Backward(IReadOnlyCollection<HookPoint> points,
        LogitGradient loss, bool ownPositionOnly = false, CancellationToken cancellationToken = default) =>
        Backward(points, loss, [new GradientSum(ownPositionOnly)], cancellationToken)[0];

    /// <summary>The same for several sums of the same terms, which share the recomputation; positions that no sum includes are not asked for.</summary>
    internal IReadOnlyDictionary<HookPoint, float[]>[] Backward(
        IReadOnlyCollection<HookPoint> points, LogitGradient loss, GradientSum[] sums, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(points);
        ArgumentNullException.ThrowIfNull(loss);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sums.Length, _sums, nameof(sums));
        int layers = _model.Config.LayerCount;
        foreach (HookPoint point in points)
        {
            if (!Sites.Contains(point.Site) || FirstLayerFor(point) < _firstLayer || point.Layer >= layers)
                throw new ArgumentException(
                    $"There is no gradient at {point}: sites are {string.Join(", ", Sites.Select(HookPoint.NameOf))}, layers "
                        + $"{_firstLayer} to {layers - 1}.");
        }

        Dictionary<HookPoint, float[]>[] kept = [.. sums.Select(_ => new Dictionary<HookPoint, float[]>())];
        float[] gradients = Seeds(loss, sums);
        bool[] ownOnly = [.. sums.Select(s => s.OwnPositionOnly)];
        int lowest = points.Count == 0 ? layers : points.Min(FirstLayerFor);
        bool needsInput = points.Any(p => FirstLayerFor(p) == lowest && (p.Site == Site.ResidPre || IsAfterLayer(p.Site)));
        KeepStream(layers - 1, Site.ResidPost, Site.MlpOutPost);
        for (int l = layers - 1; l >= lowest; l--)
        {
            cancellationToken.ThrowIfCancellationRequested();
            _layer.Run(l, _streams[l].RowRange(0, _count), gradients, ownOnly, points, l > lowest || needsInput, Keep);
            KeepStream(l, Site.ResidPre);
            KeepStream(l - 1, Site.ResidPost, Site.MlpOutPost);
        }

        return kept;

        void KeepStream(int layer, params ReadOnlySpan<Site> sites)
        {
            foreach (Site site in sites)
            {
                if (points.Contains(new(site, layer)))
                    Keep(new(site, layer), gradients);
            }
        }

        void Keep(HookPoint point, ReadOnlySpan<float> values)
        {
            int size = values.Length / sums.Length;
            for (int s = 0; s < sums.Length; s++)
                kept[s][point] = values.Slice(s * size, size).ToArray();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _layer.Dispose();
        _session?.Dispose();
        foreach (Mat mat in (IEnumerable<Mat>)[_logits, _normed, _final, .. _streams.Values])
            mat.Buffer.Dispose();
    }

    /// <summary>Whether the gradient is that of the stream after the layer: what a layer adds to it last has the same.</summary>
    private static bool IsAfterLayer(Site site) => site is Site.ResidPost or Site.MlpOutPost;

    private static int LogitRows(Gemma2Config config, int tokens) =>
        (int)Math.Clamp(LogitBytes / (sizeof(float) * (long)config.VocabSize), 1, tokens);

    /// <summary>d L / d resid_post of the last layer for every sum, [sums · n, d_model].</summary>
    private float[] Seeds(LogitGradient loss, GradientSum[] sums)
    {
        int dim = _model.Config.ModelDim, part = _count * dim;
        float[] terms = new float[part], gradients = new float[sums.Length * part];
        bool[] wanted = [.. Enumerable.Range(0, _count).Select(t => Array.Exists(sums, s => s.Includes?.Invoke(t) ?? true))];
        for (int start = 0; start < _count;)
        {
            int end = Math.Min(start + _logits.Rows, _count);
            while (end > start && !wanted[end - 1])
                end--;
            if (wanted[start])
                ThroughHead(loss, wanted, start, end - start, terms);
            start = wanted[start] ? end : start + 1;
        }

        ThroughFinalNorm(terms);
        for (int s = 0; s < sums.Length; s++)
        {
            for (int t = 0; t < _count; t++)
            {
                if (sums[s].Includes?.Invoke(t) ?? true)
                    terms.AsSpan(t * dim, dim).CopyTo(gradients.AsSpan((s * part) + (t * dim)));
            }
        }

        return gradients;
    }

    /// <summary>d L / d final_norm of some rows: through the soft-cap and the unembedding.</summary>
    private void ThroughHead(LogitGradient loss, bool[] wanted, int start, int count, float[] destination)
    {
        Gemma2Config config = _model.Config;
        float[] values = new float[config.VocabSize], seed = new float[config.VocabSize];
        Mat rows = _logits.RowRange(0, count), normed = _normed.RowRange(0, count);
        _device.RmsNorm(_final.RowRange(start, count), _model.Weights.FinalNorm, config.NormEpsilon, normed);
        _device.Linear(normed, _model.Unembedding, rows);
        if (config.FinalSoftcap > 0)
            _device.Softcap(rows, config.FinalSoftcap);
        for (int r = 0; r < count; r++)
        {
            _device.Read(rows.RowRange(r, 1), values);
            Array.Clear(seed);
            if (wanted[start + r])
                loss(start + r, values, seed);
            BackwardMath.Softcap(values, config.FinalSoftcap, seed);
            _device.Write(seed, rows.RowRange(r, 1));
        }

        _device.LinearTransposed(rows, _model.Unembedding, normed);
        _device.Read(normed, destination.AsSpan(start * config.ModelDim, count * config.ModelDim));
    }

    private void ThroughFinalNorm(float[] gradients)
    {
        int dim = _model.Config.ModelDim;
        float[] gain = new float[dim], x = new float[gradients.Length], dy = (float[])gradients.Clone();
        _device.Read(_model.Weights.FinalNorm, gain);
        _device.Read(_final.RowRange(0, _count), x);
        Array.Clear(gradients);
        _device.ForEach(
            _count, t => BackwardMath.RmsNorm(x.AsSpan(t * dim, dim), gain, _model.Config.NormEpsilon, dy.AsSpan(t * dim, dim),
                gradients.AsSpan(t * dim, dim)));
    }

    private sealed class ArmedHooks : List<IDisposable>, IDisposable
    {
        public void Dispose()
        {
            ForEach(hook => hook.Dispose());
            Clear();
        }
    }
}

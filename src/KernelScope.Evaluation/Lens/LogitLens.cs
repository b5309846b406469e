using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>A token that a vector points to.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct LensToken
{
    internal LensToken(int id, float logit, double probability)
    {
        Id = id;
        Logit = logit;
        Probability = probability;
    }

    /// <summary>The token.</summary>
    public int Id { get; init; }

    /// <summary>Its logit, after the soft-cap.</summary>
    public float Logit { get; init; }

    /// <summary>Its share in the softmax over the vocabulary.</summary>
    public double Probability { get; init; }
}

/// <summary>
/// The logit lens (nostalgebraist 2020): which tokens the stream points to at a site, as if no further layer ran: cap(RmsNorm(x, final gain)·Eᵀ), E the unembedding. At <c>resid_post</c> of the last layer these are the model's own logits.
/// </summary>
/// <remarks><c>final_norm</c> is normed already. <c>attn_out_post</c> and <c>mlp_out_post</c> are what a sub-layer adds to the stream; alone they are normed to the length of a whole stream, so their probabilities mean little. Any number of threads may call it.</remarks>
/// <example>
/// <code>
/// LensToken[][] lens = LogitLens.Run(model, tokens, HookPoint.Parse("resid_post.12"), count: 3);
/// Console.WriteLine($"after the last token: '{tokenizer.Decode([lens[^1][0].Id])}' with {lens[^1][0].Probability:P1}");
/// </code>
/// </example>
public static class LogitLens
{
    private const int RowsAtOnce = 16;

    /// <summary>The sites that hold the stream, or what is added to it.</summary>
    public static IReadOnlyList<Site> Sites { get; } =
        [Site.Embed, Site.ResidPre, Site.AttnOutPost, Site.ResidMid, Site.MlpOutPost, Site.ResidPost, Site.FinalNorm];

    /// <summary>Runs a text up to a site and gives the top tokens at each position, the likeliest first, the lower id first among equals.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tokens">The text.</param>
    /// <param name="point">One of <see cref="Sites"/>.</param>
    /// <param name="count">Tokens for each position.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <exception cref="ArgumentException">The site does not hold the stream, or the model has no such layer.</exception>
    /// <exception cref="InvalidOperationException">The values there are not finite numbers.</exception>
    public static LensToken[][] Run(Gemma2Model model, ReadOnlySpan<int> tokens, HookPoint point,
        int count, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        if (!Sites.Contains(point.Site))
            throw new ArgumentException($"{point} is not a point of the stream; the lens reads {Names(point.Layer)}.", nameof(point));
        using Session session = model.NewSession(tokens.Length);
        using var reader = new Reader(model, point, count);
        using IDisposable hook = session.Hooks.Add(point, (_, _, value) => reader.Read(value));
        for (int start = 0; start < tokens.Length; start += session.ChunkLength)
        {
            ReadOnlySpan<int> chunk = tokens.Slice(start, Math.Min(session.ChunkLength, tokens.Length - start));
            if (point.Site == Site.FinalNorm)
                model.Forward(chunk, session, LogitRows.None, cancellationToken);
            else
                model.ForwardTo(point.Layer + 1, chunk, session, cancellationToken);
            progress?.Report((start + chunk.Length) / (double)tokens.Length);
        }

        return [.. reader.Tops];
    }

    /// <summary>The names of the sites that the lens reads, for messages.</summary>
    public static string Names(int layer) => string.Join(", ", Sites.Select(s => new HookPoint(s, HookPoint.IsPerLayer(s) ? layer : 0)));

    /// <summary>Turns rows of the stream into logits, a few at a time, and keeps the largest.</summary>
    private sealed class Reader : IDisposable
    {
        private readonly Gemma2Model _model;
        private readonly bool _norm;
        private readonly int _count;
        private readonly Mat _normed;
        private readonly Mat _logits;
        private readonly SparseCodes _top;
        private readonly CodeList _list = new();
        private readonly float[] _row;
        private readonly float[] _values;
        private readonly HookPoint _point;

        public Reader(Gemma2Model model, HookPoint point, int count)
        {
            _model = model;
            _point = point;
            _norm = point.Site != Site.FinalNorm;
            _count = count;
            _normed = model.Device.CreateMat(RowsAtOnce, model.Config.ModelDim, "lens");
            _logits = model.Device.CreateMat(RowsAtOnce, model.Config.VocabSize, "lens logits");
            _top = model.Device.CreateCodes(model.Config.VocabSize, "lens top");
            _row = new float[model.Config.VocabSize];
            _values = new float[RowsAtOnce * model.Config.ModelDim];
        }

        public List<LensToken[]> Tops { get; } = [];

        public void Read(Mat stream)
        {
            for (int start = 0; start < stream.Rows; start += RowsAtOnce)
                ReadRows(stream.RowRange(start, Math.Min(RowsAtOnce, stream.Rows - start)));
        }

        public void Dispose()
        {
            _normed.Buffer.Dispose();
            _logits.Buffer.Dispose();
            _top.Dispose();
        }

        private void ReadRows(Mat stream)
        {
            Device device = _model.Device;
            Mat normed = _normed.RowRange(0, stream.Rows), logits = _logits.RowRange(0, stream.Rows);
            if (_norm)
                device.RmsNorm(stream, _model.Weights.FinalNorm, _model.Config.NormEpsilon, normed);
            else
                device.Copy(stream, normed);
            Span<float> values = _values.AsSpan(0, normed.Rows * normed.Columns);
            device.Read(normed, values);
            NotFiniteException.Refuse(values, normed.Columns, $"the normed values at {_point}", Tops.Count);
            device.Linear(normed, _model.Unembedding, logits);
            if (_model.Config.FinalSoftcap > 0)
                device.Softcap(logits, _model.Config.FinalSoftcap);
            device.TopK(logits, _count, _top);
            device.Read(_top, _list);
            for (int r = 0; r < stream.Rows; r++)
                Tops.Add(Tokens(logits.RowRange(r, 1), _list.FeaturesOf(r), _list.ValuesOf(r)));
        }

        private LensToken[] Tokens(Mat logits, ReadOnlySpan<int> ids, ReadOnlySpan<float> values)
        {
            _model.Device.Read(logits, _row);
            double sum = 0;
            foreach (float logit in _row)
                sum += Math.Exp(logit - (double)values[0]);
            var tokens = new LensToken[ids.Length];
            for (int i = 0; i < tokens.Length; i++)
                tokens[i] = new LensToken(ids[i], values[i], Math.Exp(values[i] - (double)values[0]) / sum);
            return tokens;
        }
    }
}

using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Attribution;

/// <summary>What the active features of a sequence contribute to a metric, to first order.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeatureAttributions
{
    internal FeatureAttributions(double value, CodeList codes, double[] values)
    {
        Value = value;
        Codes = codes;
        Values = values;
    }

    /// <summary>The metric, in the clean forward pass.</summary>
    public double Value { get; init; }

    /// <summary>The active features, one row a token.</summary>
    public CodeList Codes { get; init; }

    /// <summary>y of every code, in the codes' order: the metric changes by about −y where the feature is ablated at that token.</summary>
    public double[] Values { get; init; }

    /// <summary>Σ_t y_f over the rows that are included, for every feature that is active in one of them; largest |sum| first, the lower index first among equals.</summary>
    public IReadOnlyList<(int Feature, double Attribution)> Sum(Func<int, bool> includes)
    {
        ArgumentNullException.ThrowIfNull(includes);
        var sums = new Dictionary<int, double>();
        for (int r = 0; r < Codes.Rows; r++)
        {
            if (!includes(r))
                continue;
            for (long i = Codes.RowStart[r]; i < Codes.RowStart[r + 1]; i++)
                sums[Codes.Feature[i]] = sums.GetValueOrDefault(Codes.Feature[i]) + Values[i];
        }

        return [.. sums.Select(s => (s.Key, s.Value)).OrderByDescending(s => Math.Abs(s.Value)).ThenBy(s => s.Key)];
    }
}

/// <summary>Attributes a function of the logits to the features of an SAE at its site: y_f = f(x)_f · (W_dec[f] · ∇), ∇ the gradient at the SAE's output site.</summary>
/// <remarks>First order: the SAE's error and everything that is not a feature of this SAE are held. Whatever a position influences later counts. For one caller at a time.</remarks>
/// <example>
/// <code>
/// HookPoint site = HookPoint.Parse("resid_post.20");
/// using var attribution = new SaeAttribution(model, sae, site, site, maxTokens: 128);
/// FeatureAttributions found = attribution.Run(tokens, AttributionMetric.NextTokenLoss(tokens));
/// foreach ((int feature, double share) in found.Sum(t => true).Take(10))
///     Console.WriteLine($"feature {feature}: {share:F4} nats");
/// </code>
/// </example>
public sealed class SaeAttribution : IDisposable
{
    private readonly Gemma2Model _model;
    private readonly HookPoint _gradientAt;
    private readonly StreamGradient _gradient;
    private readonly FeatureAttribution _features;
    private readonly FeatureCapture _capture;

    /// <summary>Attribution for sequences of up to <paramref name="maxTokens"/> tokens.</summary>
    /// <param name="model">The model.</param>
    /// <param name="sae">The SAE; it outlives this.</param>
    /// <param name="site">Where it reads.</param>
    /// <param name="siteOut">Where its output belongs; one of <see cref="StreamGradient.Sites"/>.</param>
    /// <param name="maxTokens">Most tokens.</param>
    /// <exception cref="ArgumentException">There is no gradient at <paramref name="siteOut"/>.</exception>
    /// <exception cref="NotSupportedException">The SAE normalises its input: its directions then have another length at every token.</exception>
    public SaeAttribution(Gemma2Model model, JumpReluSae sae, HookPoint site, HookPoint siteOut, int maxTokens)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(sae);
        if (!StreamGradient.Sites.Contains(siteOut.Site))
            throw new ArgumentException(
                $"Nothing can be attributed at {siteOut}; there are gradients at "
                    + $"{string.Join(", ", StreamGradient.Sites.Select(s => new HookPoint(s, siteOut.Layer)))}.", nameof(siteOut));
        if (sae.Config.Normalization != SaeNormalization.None && !sae.Config.IsTranscoder)
            throw new NotSupportedException(
                "Nothing can be attributed to features of an SAE that normalises its input: their directions have another length at "
                    + "every token.");
        _model = model;
        _gradientAt = siteOut;
        _gradient = new StreamGradient(model, maxTokens);
        _features = new FeatureAttribution(sae);
        _capture = new FeatureCapture(_gradient.Hooks, sae, site);
    }

    /// <summary>Runs a sequence forwards and backwards.</summary>
    /// <exception cref="ArgumentException">The metric needs a position or a token that there is not.</exception>
    /// <exception cref="InvalidOperationException">The model's values are not finite numbers.</exception>
    public FeatureAttributions Run(ReadOnlySpan<int> tokens, AttributionMetric metric, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(metric);
        if (metric.LastPosition >= tokens.Length)
            throw new ArgumentException(
                $"There is no position {metric.LastPosition}: the text has {tokens.Length} tokens, 0 to {tokens.Length - 1}.");
        if (metric.LargestId >= _model.Config.VocabSize)
            throw new ArgumentException($"Token id {metric.LargestId} is outside the vocabulary of {_model.Config.VocabSize} entries.");
        _gradient.Forward(tokens, StreamGradient.FirstLayerFor(_gradientAt));
        double value = 0;
        var sum = new GradientSum(OwnPositionOnly: false, metric.Reads);
        float[] gradients =
            _gradient.Backward([_gradientAt], (t, logits, gradient) => value += metric.Add(t, logits, gradient), [sum],
                cancellationToken)[0][_gradientAt];
        double[] values = _features.Of(_capture.Codes, gradients);
        if (!double.IsFinite(value))
            throw new NotFiniteException("the logits");
        return Array.TrueForAll(values, double.IsFinite) ? new FeatureAttributions(value, _capture.Codes, values)
            : throw new NotFiniteException($"the gradients at {_gradientAt}");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _capture.Dispose();
        _gradient.Dispose();
    }
}

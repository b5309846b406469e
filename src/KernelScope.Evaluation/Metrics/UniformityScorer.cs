using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>How evenly the active features of each position matter to the prediction: r_L0 and r_L0_summed of every SAE, by position (Lieberum et al. 2024, App. C.3).</summary>
/// <remarks>
/// Two backward passes a sequence, shared by all SAEs: one for the gradient of each position's own mean-centred logit of the correct next token, one for that of their sum over the
/// default loss mask. They share the forward pass of each layer that they repeat, and take its input from the clean pass. Scales that normalisation puts on a whole position cancel in |y| / Σ|y|, so SAEs that normalise need nothing of their own.
/// </remarks>
internal sealed class UniformityScorer : IDisposable
{
    private readonly IReadOnlyList<SaeTarget> _targets;
    private readonly SitePlan[] _sites;
    private readonly TokenSet _tokens;
    private readonly HookPoint[] _points;
    private readonly StreamGradient _gradient;
    private readonly FeatureAttribution[] _attributions;
    private readonly int _firstLayer;

    /// <summary>For those of the sites that have a gradient; there must be one.</summary>
    public UniformityScorer(Gemma2Model model, IReadOnlyList<SaeTarget> targets, SitePlan[] sites, TokenSet tokens)
    {
        (_targets, _sites, _tokens) = (targets, sites, tokens);
        _points = [.. sites.Where(s => s.HasGradient).Select(s => s.Write).Distinct()];
        _firstLayer = _points.Min(StreamGradient.FirstLayerFor);
        _gradient = new StreamGradient(model, tokens.Length, 2);
        _attributions = [.. targets.Select(t => new FeatureAttribution(t.Sae))];
    }

    /// <summary>The work for a sequence, in layers: above the lowest site each layer once more forwards and twice backwards, and the logits and their gradient.</summary>
    /// <param name="layerCount">The model's layers.</param>
    /// <param name="head">The unembedding, in layers.</param>
    public double Work(int layerCount, double head) => (3 * (layerCount - _firstLayer)) + (2 * head);

    /// <summary>Keeps what the backward passes need of a clean pass, until the result is disposed.</summary>
    public IDisposable Listen(HookSet hooks) => _gradient.Record(hooks, _tokens.Length, _firstLayer);

    /// <summary>Fills <c>r_L0</c>, <c>r_L0_summed</c> and, where it is kept, <c>grad_own</c>; the clean pass was listened to, and the codes are in place.</summary>
    /// <exception cref="NotFiniteException">A gradient, or what a feature contributes, is not a finite number.</exception>
    public void Score(int[] tokens, SequenceScores scores, CancellationToken cancellationToken)
    {
        GradientSum[] sums = [new(OwnPositionOnly: true), new(OwnPositionOnly: false, t => Counts(tokens, t))];
        IReadOnlyDictionary<HookPoint, float[]>[] gradients =
            _gradient.Backward(_points, (t, _, seed) => CentredLogit(tokens, t, seed), sums, cancellationToken);
        ScoreAll("r_L0", tokens, scores, gradients[0], keepAs: "grad_own");
        ScoreAll("r_L0_summed", tokens, scores, gradients[1], keepAs: null);
    }

    public void Dispose() => _gradient.Dispose();

    private void ScoreAll(
        string name, int[] tokens, SequenceScores scores, IReadOnlyDictionary<HookPoint, float[]> gradients, string? keepAs)
    {
        for (int g = 0; g < _sites.Length; g++)
        {
            SitePlan site = _sites[g];
            if (!site.HasGradient)
                continue;
            float[] gradient = gradients[site.Write];
            NotFiniteException.Refuse(gradient, site.OutputDim, $"the gradients at {site.SiteOut}", firstPosition: 0);
            if (keepAs is not null && scores.Kept(ScoreLayout.OfSite(g, keepAs)) is { IsEmpty: false } kept)
                gradient.CopyTo(kept);
            foreach (int s in site.Saes)
                ScoreSae(s, tokens, scores.Codes[s], gradient, scores[ScoreLayout.OfSae(s, name)]);
        }
    }

    /// <summary>NaN stands where a position does not count or has no y other than 0.</summary>
    private void ScoreSae(int s, int[] tokens, CodeList codes, float[] gradient, Span<double> uniformity)
    {
        double[] y = _attributions[s].Of(codes, gradient);
        for (int t = 0; t < tokens.Length; t++)
            uniformity[t] = Counts(tokens, t) ? Uniformity(s, t, y.AsSpan((int)codes.RowStart[t]..(int)codes.RowStart[t + 1])) : double.NaN;
    }

    private double Uniformity(int s, int t, ReadOnlySpan<double> y)
    {
        foreach (double value in y)
        {
            // An infinite y would pass for one that does not matter.
            if (!double.IsFinite(value))
                NotFiniteException.Throw($"the contributions of features of {_targets[s].Name}", t);
        }

        return FeatureAttribution.Uniformity(y);
    }

    private bool Counts(int[] tokens, int t) => t + 1 < tokens.Length && _tokens.Counts(LossMask.Default, tokens[t], tokens[t + 1]);

    /// <summary>The gradient of logit[t, token t + 1] − mean over the vocabulary of logit[t]; nothing at the last position.</summary>
    private static void CentredLogit(int[] tokens, int t, Span<float> seed)
    {
        if (t + 1 >= tokens.Length)
            return;
        seed.Fill(-1f / seed.Length);
        seed[tokens[t + 1]] += 1f;
    }
}

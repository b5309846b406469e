using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>A token and what a feature's direction adds to its logit, before the final norm's division and the soft-cap.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct PromotedToken
{
    internal PromotedToken(int id, float value)
    {
        Id = id;
        Value = value;
    }

    /// <summary>The token.</summary>
    public int Id { get; init; }

    /// <summary>The inner product of the direction and the token's row of the unembedding.</summary>
    public float Value { get; init; }
}

/// <summary>The tokens that a direction promotes most, largest first, and those that it suppresses most, smallest first.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record PromotedTokens
{
    internal PromotedTokens(IReadOnlyList<PromotedToken> top, IReadOnlyList<PromotedToken> bottom)
    {
        Top = top;
        Bottom = bottom;
    }

    /// <summary>Top</summary>
    public IReadOnlyList<PromotedToken> Top { get; init; }

    /// <summary>Bottom</summary>
    public IReadOnlyList<PromotedToken> Bottom { get; init; }
}

/// <summary>Which tokens a feature promotes, read off its decoder row: W_dec[f]·Eᵀ, E the unembedding.</summary>
/// <remarks>Only the direct path counts: what later layers make of the feature does not. Immutable: any number of threads may read it.</remarks>
/// <example>
/// <code>
/// FeatureLens lens = FeatureLens.Of(model, sae, HookPoint.Parse("resid_post.20"), feature: 8421, count: 10);
/// Console.WriteLine(string.Join(", ", lens.WithGain.Top.Select(token => tokenizer.Decode([token.Id]))));
/// </code>
/// </example>
public sealed record FeatureLens
{
    internal FeatureLens(PromotedTokens withGain, PromotedTokens withoutGain)
    {
        WithGain = withGain;
        WithoutGain = withoutGain;
    }

    /// <summary>(W_dec[f] ⊙ (1 + g))·Eᵀ, g the final norm's stored gain: what a step along the direction adds to the logits, up to the norm's division by the stream's length.</summary>
    public PromotedTokens WithGain { get; init; }

    /// <summary>W_dec[f]·Eᵀ: the plain product that most tools show.</summary>
    public PromotedTokens WithoutGain { get; init; }

    /// <summary>The sites whose vectors are directions of the stream.</summary>
    public static IReadOnlyList<Site> Sites { get; } =
        [Site.Embed, Site.ResidPre, Site.AttnOutPost, Site.ResidMid, Site.MlpOutPost, Site.ResidPost];

    /// <summary>The lens of one feature.</summary>
    /// <param name="model">The model.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="siteOut">Where its output belongs; one of <see cref="Sites"/>.</param>
    /// <param name="feature">The feature.</param>
    /// <param name="count">Tokens of each list.</param>
    /// <exception cref="ArgumentException">No such feature, or the SAE writes something that is not a direction of the stream (<c>z</c>: a linear map and a norm lie between).</exception>
    public static FeatureLens Of(Gemma2Model model, JumpReluSae sae, HookPoint siteOut, int feature, int count)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(sae);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        if ((uint)feature >= (uint)sae.FeatureCount)
            throw new ArgumentException($"Feature {feature} is outside the SAE's width: it has features 0 to {sae.FeatureCount - 1}.",
                nameof(feature));
        if (!Sites.Contains(siteOut.Site))
            throw new ArgumentException(
                $"A feature at {siteOut} is not a direction of the stream; the lens reads features at "
                    + $"{string.Join(", ", Sites.Select(s => new HookPoint(s, siteOut.Layer).ToString()))}.", nameof(siteOut));
        int dim = model.Config.ModelDim, vocab = model.Config.VocabSize;
        float[] directions = new float[2 * dim], gain = new float[dim], values = new float[2 * vocab];
        sae.Checkpoint.Decoder.CopyTo((long)feature * dim, directions.AsSpan(dim));
        model.Device.Read(model.Weights.FinalNorm, gain);
        for (int j = 0; j < dim; j++)
            directions[j] = directions[dim + j] * (1f + gain[j]);
        Project(model, directions, values);
        return new FeatureLens(Select(values.AsSpan(0, vocab), count), Select(values.AsSpan(vocab), count));
    }

    private static void Project(Gemma2Model model, float[] directions, float[] values)
    {
        Mat input = model.Device.CreateMat(2, model.Config.ModelDim, "directions"),
            output = model.Device.CreateMat(2, model.Config.VocabSize, "promoted");
        try
        {
            model.Device.Write(directions, input);
            model.Device.Linear(input, model.Unembedding, output);
            model.Device.Read(output, values);
        }
        finally
        {
            input.Buffer.Dispose();
            output.Buffer.Dispose();
        }
    }

    private static PromotedTokens Select(ReadOnlySpan<float> values, int count)
    {
        float[] keys = values.ToArray();
        IEnumerable<int> ids = Enumerable.Range(0, keys.Length);
        return new PromotedTokens(
            [.. ids.OrderByDescending(i => keys[i]).ThenBy(i => i).Take(count).Select(i => new PromotedToken(i, keys[i]))],
            [.. ids.OrderBy(i => keys[i]).ThenBy(i => i).Take(count).Select(i => new PromotedToken(i, keys[i]))]);
    }
}

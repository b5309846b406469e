using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>
/// d·W_U of a feature over the whole vocabulary, d its decoder row (of <c>z</c>, through W_O): what a step along it adds to the logits, but
/// for the final norm's gain and division and the soft-cap.
/// </summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record FeatureLogits
{
    private FeatureLogits(float[] values, int count)
    {
        Histogram = FeatureHistogram.Create(values);
        Top = [.. LargestValues.Of(values, count).Select(i => new PromotedToken(i, values[i]))];
        Bottom = [.. LargestValues.Of(values, count, sign: -1).Select(i => new PromotedToken(i, values[i]))];
    }

    /// <summary>The tokens that it promotes most.</summary>
    public IReadOnlyList<PromotedToken> Top { get; }

    /// <summary>Those that it suppresses most.</summary>
    public IReadOnlyList<PromotedToken> Bottom { get; }

    /// <summary>The logits of all tokens as a histogram.</summary>
    public FeatureHistogram Histogram { get; }

    /// <summary>Computes the logits of a feature's decoder row.</summary>
    /// <param name="model">The model.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="siteOut">Where it writes.</param>
    /// <param name="feature">The feature.</param>
    /// <param name="count">Tokens of each list.</param>
    /// <returns>Null where it writes neither into the stream nor at <c>z</c>.</returns>
    public static FeatureLogits? Create(Gemma2Model model, JumpReluSae sae, HookPoint siteOut, int feature, int count = 10) =>
        CreateMany(model, sae, siteOut, [feature], count)?[0];

    /// <summary>The same of several features, by one product.</summary>
    internal static FeatureLogits[]? CreateMany(Gemma2Model model, JumpReluSae sae, HookPoint siteOut, int[] features, int count)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(sae);
        if (siteOut.Site != Site.Z && !FeatureLens.Sites.Contains(siteOut.Site))
            return null;
        Device device = model.Device;
        int vocabulary = model.Config.VocabSize, width = sae.Config.OutputDim;
        float[] rows = new float[features.Length * width], values = new float[checked(features.Length * vocabulary)];
        for (int i = 0; i < features.Length; i++)
            sae.DecoderRow(features[i]).CopyTo(rows, i * width);
        Mat own = device.CreateMat(features.Length, width, "directions");
        Mat stream = device.CreateMat(features.Length, model.Config.ModelDim, "stream");
        Mat logits = device.CreateMat(features.Length, vocabulary, "logits");
        try
        {
            device.Write(rows, own);
            if (siteOut.Site == Site.Z)
                device.Linear(own, model.Weights.Layers[siteOut.Layer].O, stream);
            device.Linear(siteOut.Site == Site.Z ? stream : own, model.Unembedding, logits);
            device.Read(logits, values);
        }
        finally
        {
            own.Buffer.Dispose();
            stream.Buffer.Dispose();
            logits.Buffer.Dispose();
        }

        return [.. Enumerable.Range(0, features.Length)
            .Select(i => new FeatureLogits(values[(i * vocabulary)..((i + 1) * vocabulary)], count))];
    }
}

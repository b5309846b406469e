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
        int[] ids = [.. Enumerable.Range(0, values.Length)];
        Top = [.. ids.OrderByDescending(i => values[i]).ThenBy(i => i).Take(count).Select(i => new PromotedToken(i, values[i]))];
        Bottom = [.. ids.OrderBy(i => values[i]).ThenBy(i => i).Take(count).Select(i => new PromotedToken(i, values[i]))];
    }

    /// <summary>The tokens that it promotes most.</summary>
    public IReadOnlyList<PromotedToken> Top { get; }

    /// <summary>Those that it suppresses most.</summary>
    public IReadOnlyList<PromotedToken> Bottom { get; }

    /// <summary>All of them.</summary>
    public FeatureHistogram Histogram { get; }

    /// <summary>Computes them.</summary>
    /// <param name="model">The model.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="siteOut">Where it writes.</param>
    /// <param name="feature">The feature.</param>
    /// <param name="count">Tokens of each list.</param>
    /// <returns>Null where it writes neither into the stream nor at <c>z</c>.</returns>
    public static FeatureLogits? Create(Gemma2Model model, JumpReluSae sae, HookPoint siteOut, int feature, int count = 10)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(sae);
        if (siteOut.Site != Site.Z && !FeatureLens.Sites.Contains(siteOut.Site))
            return null;
        Device device = model.Device;
        float[] row = sae.DecoderRow(feature), values = new float[model.Config.VocabSize];
        Mat own = device.CreateMat(1, row.Length, "direction");
        Mat stream = device.CreateMat(1, model.Config.ModelDim, "stream");
        Mat logits = device.CreateMat(1, values.Length, "logits");
        try
        {
            device.Write(row, own);
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

        return new FeatureLogits(values, count);
    }
}

using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>The mean activation at a hook point over a set of tokens, x̄: what <see cref="Sae.SpliceMode.Mean"/> puts in the activation's place.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class MeanActivation
{
    /// <summary>Runs the layers up to a point once over a set; sums are in double.</summary>
    /// <param name="model">The model.</param>
    /// <param name="point">Where.</param>
    /// <param name="tokens">The sequences; special tokens do not count.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <returns>The mean, [width of the point].</returns>
    /// <exception cref="ArgumentException">The model has no such layer, or the point is the logits.</exception>
    public static float[] Of(Gemma2Model model, HookPoint point, TokenSet tokens, IProgress<double>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(tokens);
        if (point.Site == Site.Logits)
            throw new ArgumentException("There is no mean of the logits: their rows differ by a constant that means nothing.",
                nameof(point));
        int width = SitePlan.WidthOf(point, model.Config);
        var sums = new SiteSums(width);
        using Session session = model.NewSession(tokens.Length);
        float[] rows = new float[session.ChunkLength * width];
        using IDisposable hook = session.Hooks.Add(point, (call, _, values) =>
        {
            Span<float> host = rows.AsSpan(0, values.Rows * width);
            call.Device.Read(values, host);
            sums.Add(call.Tokens, tokens, host);
        });
        for (int b = 0; b < tokens.Count; b++)
        {
            ReadOnlySpan<int> sequence = tokens.Sequence(b);
            session.Reset();
            for (int start = 0; start < sequence.Length; start += session.ChunkLength)
                model.ForwardTo(point.Site == Site.FinalNorm ? model.Config.LayerCount : point.Layer + 1,
                    sequence.Slice(start, Math.Min(session.ChunkLength, sequence.Length - start)), session, cancellationToken);
            progress?.Report((b + 1) / (double)tokens.Count);
        }

        return Array.ConvertAll(sums.Means().Counted, v => (float)v);
    }
}

using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Training;

/// <summary>
/// What a trained SAE does to the loss of the model that its rows come from: the mean next-token loss with the reconstruction in the
/// activation's place at every position but BOS, minus that of the model alone, in nats (Lieberum et al. 2024, section 3.3). Positions
/// count as in an evaluation's default mask.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="tokens">Sequences that the SAE is not trained on.</param>
/// <param name="place">Where the SAE reads and writes; the site is known.</param>
internal sealed class ValidationLoss(Gemma2Model model, TokenSet tokens, TrainedPlace place)
{
    private readonly double[] _losses = new double[tokens.Length];
    private double? _clean;

    /// <summary>Whether a pass that replaces what is written at one point by what is read at the other is possible.</summary>
    public static bool IsPossible(HookPoint site, HookPoint siteOut) => site.Site != Site.Logits && siteOut.Site != Site.Logits
        && SitePlan.IsInOrder(site, siteOut);

    /// <summary>A validation with both losses.</summary>
    /// <param name="result">What was measured on rows.</param>
    /// <param name="sae">The SAE as it is now.</param>
    /// <param name="cancellationToken">Ends it between two sequences.</param>
    public ValidationResult AddTo(ValidationResult result, FoldedSae sae, CancellationToken cancellationToken)
    {
        using var loaded = new MemorySae(model.Device, sae, place);
        _clean ??= Measure(null, cancellationToken);
        return result with { CleanLoss = _clean, DeltaLoss = Measure(loaded.Sae, cancellationToken) - _clean };
    }

    private double Measure(JumpReluSae? sae, CancellationToken cancellationToken)
    {
        double sum = 0;
        long count = 0;
        using Session session = model.NewSession(tokens.Length);
        HookPoint site = place.Site!.Value;
        using SaeSplice? splice = sae is null ? null : new SaeSplice(session.Hooks, sae, site, place.SiteOut ?? site, SpliceMode.Sae,
            Positions.AllBut(tokens.BosId), []);
        for (int b = 0; b < tokens.Count; b++)
        {
            ReadOnlySpan<int> ids = tokens.Sequence(b);
            session.Reset();
            for (int start = 0; start + 1 < ids.Length; start += session.ChunkLength)
            {
                ReadOnlySpan<int> chunk = ids.Slice(start, Math.Min(session.ChunkLength, ids.Length - start));
                ReadOnlySpan<int> next = ids.Slice(start + 1, Math.Min(chunk.Length, ids.Length - start - 1));
                model.Forward(chunk, session, LogitRows.None, cancellationToken);
                model.NextTokenLoss(next, session, _losses);
                for (int t = 0; t < next.Length; t++)
                {
                    if (!tokens.Counts(LossMask.Default, chunk[t], next[t]))
                        continue;
                    sum += _losses[t];
                    count++;
                }
            }
        }

        return sum / count;
    }
}

using System.Globalization;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>
/// Watches the SAEs of a command at work and warns of uses that look wrong: an SAE that is not as sparse as it was released or does not reconstruct, edits of features that never fire, edits of BOS,
/// strengths out of proportion. It reads what passes anyway, for a tenth of the model's own work at most, and changes nothing.
/// </summary>
internal sealed class UsageWarnings : IDisposable
{
    private const int MostTokens = 512;
    private const double ShareOfWork = 0.1;

    /// <summary>A step this many times as long as the activation that it is added to leaves nothing of it.</summary>
    private const double TooLong = 3;

    private readonly Dictionary<SaeFiles, SiteFitMeter> _meters = [];
    private readonly Workbench _bench;
    private readonly int[] _tokens;

    private UsageWarnings(Workbench bench, int[] tokens) => (_bench, _tokens) = (bench, tokens);

    /// <summary>Begins to watch; before the edits are armed, so that an SAE is measured on what it does not change itself.</summary>
    public static UsageWarnings Arm(Session session, Workbench bench, int[] tokens)
    {
        var watch = new UsageWarnings(bench, tokens);
        foreach (SaeFiles sae in bench.Saes)
        {
            // What an edit further down has changed is not a fair sample.
            bool changed = bench.Edited.Any(e => !e.Edits.AreNone && (Sites.Order(e.Sae.SiteOut) < Sites.Order(sae.Site)
                || (e.Sae.SiteOut == sae.Site && e.Sae != sae)));
            int most = changed || !sae.HasSiteOut ? 0 : Affordable(bench.Files.Config, sae.Config, tokens.Length);
            IEnumerable<int> features = bench.Edited.Where(e => e.Sae == sae).SelectMany(e => e.Edits.Features).Select(f => f.Feature);
            if (most > 0)
                watch._meters.Add(sae, new SiteFitMeter(session.Hooks, sae.Target, sae.Site, SaePlacement.Uncounted(bench.Files),
                    bench.Files.BosId, most, features));
        }

        return watch;
    }

    /// <summary>Says what looked wrong, once the prompt has run.</summary>
    /// <param name="generates">Whether there are more positions than the prompt's.</param>
    public void Report(bool generates)
    {
        Streams streams = _bench.Verb.Streams;
        foreach ((SaeFiles sae, SiteFitMeter meter) in _meters)
        {
            if (meter.Fit() is SiteFit fit && SaePlacement.Set(_bench.Model, _tokens) is TokenSet set
                && SaePlacement.Find(_bench.Model, sae.Target, fit, set, _bench.Cancellation) is string sentence)
                streams.Warn(sentence);
        }

        foreach (string warning in _bench.Edited.SelectMany(e => Warnings(e, _meters.GetValueOrDefault(e.Sae), generates)))
            streams.Warn(warning);
    }

    public void Dispose()
    {
        foreach (SiteFitMeter meter in _meters.Values)
            meter.Dispose();
    }

    /// <summary>How many tokens can be encoded for a tenth of what the model itself computes.</summary>
    private static int Affordable(Gemma2Config model, SaeConfig sae, int tokens)
    {
        double layer = (2.0 * (model.HeadCount + model.KvHeadCount) * model.HeadDim * model.ModelDim) + (
            3.0 * model.MlpDim * model.ModelDim);
        return (int)Math.Min(Math.Min(MostTokens, tokens),
            ShareOfWork * layer * model.LayerCount * tokens / ((double)sae.InputDim * sae.FeatureCount));
    }

    private IEnumerable<string> Warnings(EditedSae entry, SiteFitMeter? meter, bool generates)
    {
        Edits edits = entry.Edits;
        SaeFiles sae = entry.Sae;
        if (edits.AreNone)
            yield break;
        int bosId = _bench.Files.BosId;
        Positions where = edits.Where.Of(bosId, _tokens.Length);
        int[] edited = [.. Enumerable.Range(0, _tokens.Length).Where(p => where.Includes(p, _tokens[p]))];
        if (edited.Length == 0 && !generates)
            yield return $"--edit-at {edits.Where} includes no position of this text: nothing is edited at {sae.SiteOut}.";
        if (edits.MindBos && edited.Any(p => _tokens[p] == bosId))
            yield return $"--edit-at {edits.Where} includes <bos>, at which {sae.Name} means nothing (SAEs are not trained on it) and " +
                "on whose activation every later token leans; all_but_bos leaves it alone.";
        foreach (FeatureEdit edit in edits.Features)
        {
            if (Complaint(edit, sae, meter) is string complaint)
                yield return complaint;
        }
    }

    private static string? Complaint(FeatureEdit edit, SaeFiles sae, SiteFitMeter? meter)
    {
        double direction = Length(sae.Checkpoint.Decoder, edit.Feature, row: true);
        if (direction == 0)
            return $"feature {edit.Feature} of {sae.Name} is dead: its direction is zero, so that editing it changes nothing.";
        if (NeverFires(edit.Feature, sae, meter))
            return $"feature {edit.Feature} of {sae.Name} is dead: no activation at {sae.Site} can lift it over its threshold, so " +
                "nothing says what its direction " +
                $"does{(edit is { Kind: FeatureEditKind.Clamp, Value: 0 } ? ", and to ablate it changes nothing" : "")}.";
        if (meter is null || meter.Counted == 0)
            return null;
        if (edit.Kind == FeatureEditKind.Clamp)
        {
            string so = edit.Value == 0 ? ", so that ablating it changes nothing in it"
                : ": if it fires nowhere else either, it is dead and its direction means nothing";
            return meter.FiringsOf(edit.Feature) > 0 ? null
                : string.Create(CultureInfo.InvariantCulture, $"feature {edit.Feature} of {sae.Name} fires nowhere in this text " +
                    $"({meter.Counted} token{(meter.Counted == 1 ? "" : "s")} but <bos>){so} ('kernelscope top' shows where it fires).");
        }

        double ratio = Math.Abs(edit.Value) * direction / meter.MedianLength();
        return ratio > TooLong
            ? string.Create(CultureInfo.InvariantCulture, $"--steer {edit.Feature}={edit.Value} adds a step {ratio:G3} times as long " +
            $"as the activations at {sae.SiteOut} (median length {meter.MedianLength():0.#}): little of them is left.")
            : null;
    }

    /// <summary>|w_enc|·|x| + b_enc bounds every pre-activation; twice the longest activation of the text, or a length that no activation has, stands for all x.</summary>
    private static bool NeverFires(int feature, SaeFiles sae, SiteFitMeter? meter)
    {
        SaeCheckpoint files = sae.Checkpoint;
        double longest = meter is { Counted: > 0 } ? 2 * meter.LongestInput : 1e6;
        if (sae.Config.ApplyDecoderBiasToInput)
            longest += Length(files.DecoderBias, 0, row: true);
        if (sae.Config.Normalization != SaeNormalization.None)
            return false;
        double threshold = files.Threshold is { } thresholds ? Math.Max(0, One(thresholds, feature)) : 0;
        return (Length(files.Encoder, feature, row: files.EncoderIsOutputMajor) * longest) + One(files.EncoderBias, feature) <= threshold;
    }

    private static float One(in TensorView vector, long index)
    {
        Span<float> value = stackalloc float[1];
        vector.CopyTo(index, value);
        return value[0];
    }

    /// <summary>The length of a row or a column of a matrix, or of a vector.</summary>
    private static double Length(in TensorView matrix, long index, bool row)
    {
        long columns = matrix.Shape[^1], count = row ? columns : matrix.Shape[0];
        float[] values = new float[count];
        if (row)
            matrix.CopyTo(index * columns, values);
        for (long i = 0; !row && i < count; i++)
            values[i] = One(matrix, (i * columns) + index);
        return Math.Sqrt(values.Sum(v => (double)v * v));
    }
}

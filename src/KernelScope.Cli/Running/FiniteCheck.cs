using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>Refuses values that are not finite numbers: they would pass for an answer.</summary>
internal static class FiniteCheck
{
    /// <summary>Refuses losses or logits that are none.</summary>
    /// <param name="losses">The loss of each token after the first.</param>
    /// <param name="logits">The largest logits of the last position.</param>
    /// <exception cref="NotFiniteException">There is one.</exception>
    public static void Require(IReadOnlyList<double> losses, IReadOnlyList<TokenLogit> logits)
    {
        for (int t = 0; t < losses.Count; t++)
        {
            if (!double.IsFinite(losses[t]))
                NotFiniteException.Throw("the logits", t);
        }

        if (logits.Any(l => !float.IsFinite(l.Logit) || double.IsNaN(l.Probability)))
            throw new NotFiniteException("the logits at the last position");
    }

    /// <summary>Refuses captured values that are none, those that come first in the forward pass first.</summary>
    /// <exception cref="NotFiniteException">There is one that is not the −∞ of a masked score.</exception>
    public static void Require(ActivationCache captured, Gemma2Config config)
    {
        foreach (HookPoint point in captured.Points.OrderBy(Sites.Order))
        {
            for (int t = 0; t < captured.Rows(point); t++)
            {
                ReadOnlySpan<float> row = captured.Row(point, t);
                if (point.Site == Site.AttnScores)
                    RequireScores(row, point, captured.FirstPosition(point) + t, config);
                else
                    NotFiniteException.Refuse(row, row.Length, $"the activations at {point}", captured.FirstPosition(point) + t);
            }
        }
    }

    /// <summary>What is wrong with rows of the final norm; the soft-cap makes finite logits of infinities. Null: nothing.</summary>
    public static NotFiniteException? Find(Device device, Mat finalNorm, int position)
    {
        float[] values = new float[finalNorm.Rows * finalNorm.Columns];
        device.Read(finalNorm, values);
        try
        {
            NotFiniteException.Refuse(values, finalNorm.Columns, $"the activations at {new HookPoint(Site.FinalNorm)}", position);
            return null;
        }
        catch (NotFiniteException e)
        {
            return e;
        }
    }

    /// <summary>A row is [heads, keys]; keys after the position, and those that a sliding window has left behind, are masked.</summary>
    private static void RequireScores(ReadOnlySpan<float> row, HookPoint point, int position, Gemma2Config config)
    {
        int keys = row.Length / config.HeadCount, window = config.IsSliding(point.Layer) ? config.SlidingWindow : int.MaxValue;
        for (int i = 0; i < row.Length; i++)
        {
            int distance = position - (i % keys);
            bool masked = distance < 0 || distance >= window;
            if (!float.IsFinite(row[i]) && !(masked && float.IsNegativeInfinity(row[i])))
                NotFiniteException.Throw($"the activations at {point}", position);
        }
    }
}

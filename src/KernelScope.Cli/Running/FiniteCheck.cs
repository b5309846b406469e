using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Cli;

/// <summary>Refuses activations that are no finite numbers: no feature fires on them, which would pass for an answer.</summary>
internal static class FiniteCheck
{
    /// <summary>Looks at a point until the result is disposed.</summary>
    /// <exception cref="WorkException">Thrown in the forward pass, at the first position that is none.</exception>
    public static IDisposable At(HookSet hooks, HookPoint point) => hooks.Add(point, Look);

    /// <summary>Refuses losses or logits that are none.</summary>
    /// <param name="losses">The loss of each token after the first.</param>
    /// <param name="logits">The largest logits of the last position.</param>
    /// <exception cref="WorkException">There is one.</exception>
    public static void Require(IReadOnlyList<double> losses, IReadOnlyList<TokenLogit> logits)
    {
        for (int t = 0; t < losses.Count; t++)
        {
            if (!double.IsFinite(losses[t]))
                throw Complaint($"the logits at position {t}");
        }

        if (logits.Any(l => !float.IsFinite(l.Logit) || double.IsNaN(l.Probability)))
            throw Complaint("the logits at the last position");
    }

    private static void Look(HookCall call, HookPoint point, Mat value)
    {
        float[] row = new float[value.Columns];
        for (int t = 0; t < value.Rows; t++)
        {
            call.Device.Read(value.RowRange(t, 1), row);
            if (!Array.TrueForAll(row, float.IsFinite))
                throw Complaint($"the activations at {point}, position {call.Position + t}");
        }
    }

    private static WorkException Complaint(string what) => new($"{what} are no finite numbers: the weights or an edit produced values that are none.");
}

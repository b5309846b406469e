using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Model;

/// <summary>Finds where a model's values stop being finite numbers, once it is known that they do.</summary>
internal static class FirstNotFinite
{
    /// <summary>Runs the tokens once more and listens everywhere.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tokens">The sequence up to where it was seen.</param>
    /// <param name="seen">What was seen.</param>
    /// <returns>The first hook point whose values are not finite; <paramref name="seen"/> where there is none, because an edit made them.</returns>
    public static NotFiniteException Find(Gemma2Model model, ReadOnlySpan<int> tokens, NotFiniteException seen)
    {
        using Session session = model.NewSession(tokens.Length);
        float[] host = [];
        foreach (HookPoint point in HookPoint.All(model.Config.LayerCount))
            session.Hooks.Add(point, Look);
        try
        {
            session.Prefill(tokens);
            return seen;
        }
        catch (NotFiniteException first)
        {
            return first;
        }

        void Look(HookCall call, HookPoint point, Mat value)
        {
            int size = value.Rows * value.Columns;
            if (host.Length < size)
                host = new float[size];
            call.Device.Read(value, host.AsSpan(0, size));
            // Logits are of the last rows only.
            int firstRow = call.Position + call.Tokens.Length - value.Rows;
            NotFiniteException.Refuse(host.AsSpan(0, size), value.Columns, $"the activations at {point}", firstRow);
        }
    }
    /// <summary>Refuses a last row whose final norm, or whose logits before the soft-cap, are not finite: the soft-cap makes finite logits of infinities.</summary>
    /// <exception cref="NotFiniteException">They are not.</exception>
    public static void RequireFinite(Session session)
    {
        Gemma2Model model = session.Model;
        Mat last = session.FinalNorm.RowRange(session.FinalNorm.Rows - 1, 1);
        float[] row = new float[Math.Max(last.Columns, model.Config.VocabSize)];
        Require(last, $"the activations at {new HookPoint(Site.FinalNorm)}");
        Mat raw = model.Device.CreateMat(1, model.Config.VocabSize, "logits before the soft-cap");
        try
        {
            model.Device.Linear(last, model.Unembedding, raw);
            Require(raw, "the logits");
        }
        finally
        {
            raw.Buffer.Dispose();
        }

        void Require(Mat value, string what)
        {
            Span<float> values = row.AsSpan(0, value.Columns);
            model.Device.Read(value, values);
            NotFiniteException.Refuse(values, value.Columns, what, session.Position - 1);
        }
    }
}

using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Runtime;

/// <summary>A text whose features are read.</summary>
internal sealed class FeatureSequence(Gemma2Model model, GemmaTokenizer? tokenizer, FeatureTap[] taps, EditStack edits, int[] prompt)
    : PromptSequence<IReadOnlyList<TokenFeatures>>(model, "features", prompt, taps.Max(t => t.LayersNeeded))
{
    public override void Begin(Session session)
    {
        base.Begin(session);
        edits.Arm(session, Prompt.Length);
        foreach (FeatureTap tap in taps)
            tap.Arm(session.Hooks);
    }

    protected override void Disarm()
    {
        foreach (FeatureTap tap in taps)
            tap.Dispose();
        edits.Dispose();
    }

    protected override IReadOnlyList<TokenFeatures> Collect()
    {
        var tokens = new TokenFeatures[Prompt.Length];
        for (int t = 0; t < tokens.Length; t++)
        {
            SaeFeatures[] features = [.. taps.Select(tap => tap.Rows[t])];
            tokens[t] = new TokenFeatures { Id = Prompt[t], Text = tokenizer?.Decode([Prompt[t]]), Features = features };
        }

        return tokens;
    }
}

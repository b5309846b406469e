using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Runtime;

/// <summary>A text that becomes a vector.</summary>
internal sealed class EmbeddingSequence(Gemma2Model model, HookPoint site, EmbeddingOptions options, int[] prompt)
    : PromptSequence<float[]>(model, "embed", prompt, ModelSites.LayersNeededFor(site))
{
    private readonly RowPool _pool = new(options, model.Config);
    private IDisposable? _hook;

    public override void Begin(Session session)
    {
        base.Begin(session);
        _hook = session.Hooks.Add(site, _pool.Take);
    }

    protected override void Disarm() => _hook?.Dispose();

    protected override float[] Collect() => _pool.Result();
}

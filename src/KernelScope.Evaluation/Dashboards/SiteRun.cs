using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>Runs a model only as far as a site lies.</summary>
internal static class SiteRun
{
    public static void Forward(
        Gemma2Model model, Session session, HookPoint site, ReadOnlySpan<int> tokens, CancellationToken cancellationToken)
    {
        if (HookPoint.IsPerLayer(site.Site) || site.Site == Site.Embed)
            model.ForwardTo(site.Layer + 1, tokens, session, cancellationToken);
        else
            model.Forward(tokens, session, site.Site == Site.Logits ? LogitRows.All : LogitRows.None, cancellationToken);
    }
}

using KernelScope.Evaluation;
using KernelScope.Runtime;

namespace KernelScope.Web.Sources;

/// <summary>Reads what attention did on a prompt, through the engine's queue.</summary>
internal static class PromptAttribution
{
    /// <summary>Whether a source's features have their activations from tokens that can be told apart.</summary>
    public static bool IsFor(ServedSource source) => SourceAttribution.IsFor(source.Sae.Site);

    /// <summary>What each token of a prompt gives features at another; the source reads at z.</summary>
    public static async Task<SourceAttribution> ReadAsync(
        KernelScopeEngine engine, ServedSource source, int[] tokens, CancellationToken cancellationToken)
    {
        var request = new ActivationsRequest { Tokens = tokens, Points = SourceAttribution.PointsOf(source.Sae.Site) };
        IReadOnlyList<float[]> rows = await engine.ActivationsAsync(request, cancellationToken).ConfigureAwait(false);
        return new SourceAttribution(engine.Model, source.Sae.Sae, source.Sae.Site, rows);
    }
}

using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>What the rows of one source share: names, and how ids become text.</summary>
/// <param name="ModelId">The model.</param>
/// <param name="Source">The source.</param>
/// <param name="SourceSet">Its set.</param>
/// <param name="HookName">TransformerLens' name of where it reads.</param>
/// <param name="Site">Where it reads.</param>
/// <param name="SiteOut">Where it writes; null: not known.</param>
/// <param name="Piece">The vocabulary's piece of a token.</param>
/// <param name="Token">A token of an example, as text or as a piece.</param>
internal sealed record RowNames(
    string ModelId, string Source, string SourceSet, string HookName, string Site, string? SiteOut, Func<int, string> Piece,
    Func<int, string> Token)
{
    public static RowNames From(ServedModel model, ServedSource source) => new(
        model.Id, source.Id, source.SourceSet, source.HookName, source.Sae.Site.ToString(), source.Sae.SiteOut?.ToString(),
        id => model.Tokenizer.Contains(id) ? model.Tokenizer.Piece(id) : $"<{id}>", model.TokenText);
}

namespace KernelScope.Hub.Catalog;

/// <summary>Which SAEs of <see cref="ReleaseCatalog"/> are wanted; what is null is not asked for.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record ReleaseFilter
{
    /// <summary>Words, separated by spaces, each of which must occur in the name, the canonical id or the Neuronpedia id; case does not matter.</summary>
    public string? Text { get; init; }

    /// <summary>A release: <c>gemma-scope-2b-pt-res</c>, with or without the owner or "-canonical".</summary>
    public string? Release { get; init; }

    /// <summary>A model: <c>2b</c> or <c>9b</c> (all of that size), <c>9b-pt</c>, <c>9b-it</c>, <c>gemma-2-9b</c>, <c>google/gemma-2-9b-it</c>.</summary>
    public string? Model { get; init; }

    /// <summary>Only SAEs that read this kind of activation.</summary>
    public ReleaseKind? Kind { get; init; }

    /// <summary>Only SAEs of this layer.</summary>
    public int? Layer { get; init; }

    /// <summary>A width as in the path, <c>16k</c>, or as a number of features.</summary>
    public string? Width { get; init; }

    /// <summary>Only SAEs whose name states this L0.</summary>
    public int? L0 { get; init; }

    /// <summary>Only canonical SAEs; see <see cref="ReleaseCatalog"/>.</summary>
    public bool Canonical { get; init; }

    /// <summary>Whether it is one of those that are wanted.</summary>
    public bool Matches(ReleasedSae sae)
    {
        ArgumentNullException.ThrowIfNull(sae);
        return (!Canonical || sae.IsCanonical)
            && (Kind is null || sae.Kind == Kind)
            && (Layer is null || sae.Layer == Layer)
            && (L0 is null || sae.L0 == L0)
            && (Width is null || sae.WidthName.Equals(Width, StringComparison.OrdinalIgnoreCase)
                || sae.FeatureCount.ToString(System.Globalization.CultureInfo.InvariantCulture) == Width)
            && (Release is null || sae.Release == Bare(Release).Replace("-canonical", "", StringComparison.Ordinal))
            && (Model is null || MatchesModel(sae, Bare(Model)))
            && (Text is null || Text.Split(' ', StringSplitOptions.RemoveEmptyEntries)
                .All(word => Contains(sae.Name, word) || Contains(sae.CanonicalId, word) || Contains(sae.NeuronpediaId, word)));
    }

    private static bool MatchesModel(ReleasedSae sae, string model) =>
        model == sae.Model || model == sae.ModelSize || model == string.Join('-', sae.Release.Split('-')[2..4]);

    private static string Bare(string name) =>
        name.StartsWith(ReleasedSae.Owner + "/", StringComparison.Ordinal) ? name[(ReleasedSae.Owner.Length + 1)..] : name;

    private static bool Contains(string? text, string word) => text?.Contains(word, StringComparison.OrdinalIgnoreCase) == true;
}

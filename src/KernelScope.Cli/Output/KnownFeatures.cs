using KernelScope.Devices;

namespace KernelScope.Cli;

/// <summary>A feature of which somebody has found out what it means, where it is strongest in a text.</summary>
internal readonly record struct KnownFeature(int Index, string Meaning, int Position, float Activation);

/// <summary>Watches a text go by for the features whose meaning is known: few are among a token's strongest, and they are the ones worth reading about.</summary>
/// <param name="meanings">What is known.</param>
/// <param name="minimum">A feature that stays below it is not looked at (<c>--min-activation</c>).</param>
internal sealed class KnownFeatures(IReadOnlyDictionary<int, string> meanings, double minimum)
{
    private readonly Dictionary<int, KnownFeature> _strongest = [];

    /// <summary>The known features that are active somewhere, the strongest first.</summary>
    public IReadOnlyList<KnownFeature> Seen => field ??= [.. _strongest.Values.OrderByDescending(f => f.Activation).ThenBy(f => f.Index)];

    /// <summary>The features, each with what is known of it.</summary>
    public FeatureActivation[] Named(FeatureActivation[] features) =>
        meanings.Count == 0 ? features : Array.ConvertAll(features, f => f with { Meaning = meanings.GetValueOrDefault(f.Index) });

    /// <summary>Looks at the codes of one token.</summary>
    public void See(CodeList codes, int row, int position)
    {
        if (meanings.Count == 0)
            return;
        ReadOnlySpan<int> features = codes.FeaturesOf(row);
        ReadOnlySpan<float> values = codes.ValuesOf(row);
        for (int i = 0; i < features.Length; i++)
        {
            float activation = values[i];
            if (activation > 0 && activation >= minimum && meanings.TryGetValue(features[i], out string? meaning)
                && (!_strongest.TryGetValue(features[i], out KnownFeature known) || activation > known.Activation))
                _strongest[features[i]] = new KnownFeature(features[i], meaning, position, activation);
        }
    }

    /// <summary>The place of a feature in <see cref="Seen"/>; null if it is not there.</summary>
    public int? Rank(int feature)
    {
        for (int i = 0; i < Seen.Count; i++)
        {
            if (Seen[i].Index == feature)
                return i;
        }

        return null;
    }
}

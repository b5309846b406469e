using KernelScope.Generation;
using KernelScope.Runtime;

namespace KernelScope.Web.Sources;

/// <summary>What features do on a prompt: for each source, each feature that fires somewhere has its value at every token.</summary>
internal sealed class FeatureValues
{
    private readonly Dictionary<int, float[]> _byFeature = [];
    private readonly int _tokens;

    private FeatureValues(ServedSource source, int tokens)
    {
        Source = source;
        _tokens = tokens;
        ByToken = new IReadOnlyList<FeatureActivation>[tokens];
    }

    public ServedSource Source { get; }

    /// <summary>The active features of each token, strongest first, the lower index first among equals.</summary>
    public IReadOnlyList<FeatureActivation>[] ByToken { get; }

    /// <summary>The features that fire somewhere, ascending.</summary>
    public IEnumerable<int> Active => _byFeature.Keys.Order();

    /// <summary>A feature's value at every token.</summary>
    public float[] Of(int feature) => _byFeature.TryGetValue(feature, out float[]? values) ? [.. values] : new float[_tokens];

    /// <summary>Runs a prompt through the model once, for any number of sources.</summary>
    public static async Task<IReadOnlyList<FeatureValues>> ReadAsync(
        ServedModel model, int[] tokens, IReadOnlyList<ServedSource> sources, CancellationToken cancellationToken)
    {
        var request = new FeaturesRequest
        {
            Tokens = tokens,
            Features = [.. sources.Select(s => new FeatureReport { Sae = s.Sae.Name, Top = int.MaxValue })],
        };
        IReadOnlyList<TokenFeatures> read = await model.Engine.FeaturesAsync(request, cancellationToken).ConfigureAwait(false);
        return [.. sources.Select((source, s) => Collect(source, s, read))];
    }

    private static FeatureValues Collect(ServedSource source, int slot, IReadOnlyList<TokenFeatures> read)
    {
        var values = new FeatureValues(source, read.Count);
        for (int t = 0; t < read.Count; t++)
        {
            values.ByToken[t] = read[t].Features[slot].Top;
            foreach (FeatureActivation active in values.ByToken[t])
            {
                if (!values._byFeature.TryGetValue(active.Feature, out float[]? row))
                    values._byFeature.Add(active.Feature, row = new float[read.Count]);
                row[t] = active.Activation;
            }
        }

        return values;
    }
}

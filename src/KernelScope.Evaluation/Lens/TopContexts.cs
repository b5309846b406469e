using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>A place where a feature fires.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct FeaturePlace
{
    internal FeaturePlace(int sequence, int position, float activation)
    {
        Sequence = sequence;
        Position = position;
        Activation = activation;
    }

    /// <summary>Index of the sequence in the token set.</summary>
    public int Sequence { get; init; }

    /// <summary>Position in the sequence.</summary>
    public int Position { get; init; }

    /// <summary>The feature's activation there.</summary>
    public float Activation { get; init; }
}

/// <summary>Where and how strongly one feature fires on a set of tokens.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <example>
/// <code>
/// TokenSet set = TokenSet.Create(TokenFiles.ReadText("text.txt", tokenizer, length: 128, model.Config), model.Config);
/// TopContexts contexts = TopContexts.Find(model, sae, HookPoint.Parse("resid_post.20"), feature: 8421, set, count: 10);
/// foreach (FeaturePlace place in contexts.Places)
///     Console.WriteLine($"{place.Activation:F1} at token {place.Position} of sequence {place.Sequence}");
/// </code>
/// </example>
public sealed record TopContexts
{
    internal TopContexts(long counted, long active, double mean, IReadOnlyList<FeaturePlace> places, ActivationQuantiles activations)
    {
        Counted = counted;
        Active = active;
        Mean = mean;
        Places = places;
        Activations = activations;
    }

    /// <summary>Positions that count: those whose token is not special.</summary>
    public long Counted { get; init; }

    /// <summary>Those of them at which it fires.</summary>
    public long Active { get; init; }

    /// <summary>Its mean activation where it fires; NaN if it does nowhere.</summary>
    public double Mean { get; init; }

    /// <summary>The strongest places, strongest first, the earlier one first among equals.</summary>
    public IReadOnlyList<FeaturePlace> Places { get; init; }

    /// <summary>The activations of the sequences in which the places lie, at every position; 0 at those that do not count.</summary>
    internal IReadOnlyDictionary<int, float[]> OfSequences { get; init; } = new Dictionary<int, float[]>();

    /// <summary>How its activations are distributed where it fires.</summary>
    public ActivationQuantiles Activations { get; init; }

    /// <summary>Runs the layers up to the SAE once over a set of tokens. Memory does not grow with the set.</summary>
    /// <param name="model">The model.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="site">Where it reads.</param>
    /// <param name="feature">The feature.</param>
    /// <param name="tokens">The sequences.</param>
    /// <param name="count">Places kept.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <exception cref="ArgumentException">The SAE has no such feature.</exception>
    public static TopContexts Find(Gemma2Model model, JumpReluSae sae, HookPoint site, int feature, TokenSet tokens, int count,
        IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        return Find(model, sae, site, [feature], tokens, count, progress, cancellationToken)[0];
    }

    /// <summary>The same for several features in one pass; each keeps 4 MiB and its places.</summary>
    /// <param name="model">The model.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="site">Where it reads.</param>
    /// <param name="features">The features.</param>
    /// <param name="tokens">The sequences.</param>
    /// <param name="count">Places kept of each.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <returns>What was found of each, in the order of <paramref name="features"/>.</returns>
    /// <exception cref="ArgumentException">The SAE has no such feature.</exception>
    public static IReadOnlyList<TopContexts> Find(Gemma2Model model, JumpReluSae sae, HookPoint site, IReadOnlyList<int> features,
        TokenSet tokens, int count, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(sae);
        ArgumentNullException.ThrowIfNull(features);
        ArgumentNullException.ThrowIfNull(tokens);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        foreach (int feature in features)
        {
            if ((uint)feature >= (uint)sae.FeatureCount)
                throw new ArgumentException($"Feature {feature} is outside the SAE's width: it has features 0 to {sae.FeatureCount - 1}.",
                    nameof(features));
        }

        using Session session = model.NewSession(tokens.Length);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        Search[] searches = [.. features.Select(f => new Search(f, count))];
        for (int b = 0; b < tokens.Count; b++)
        {
            ReadOnlySpan<int> sequence = tokens.Sequence(b);
            session.Reset();
            for (int start = 0; start < sequence.Length; start += session.ChunkLength)
            {
                ReadOnlySpan<int> chunk = sequence.Slice(start, Math.Min(session.ChunkLength, sequence.Length - start));
                SiteRun.Forward(model, session, site, chunk, cancellationToken);
                for (int r = 0; r < chunk.Length; r++)
                {
                    if (tokens.IsSpecial(chunk[r]))
                        continue;
                    foreach (Search search in searches)
                        search.See(capture.Codes.ValueOf(start + r, search.Feature), b, start + r);
                }
            }

            foreach (Search search in searches)
                search.EndSequence(b, tokens, capture.Codes);
            progress?.Report((b + 1) / (double)tokens.Count);
        }

        return [.. searches.Select(s => s.Result())];
    }

    private sealed class Search(int feature, int most)
    {
        // The weakest of the kept places comes out first; among equals the latest.
        private readonly PriorityQueue<FeaturePlace, (float Activation, long MinusOrder)> _places = new();
        private readonly ActivationQuantiles _quantiles = new();
        private readonly Dictionary<int, float[]> _ofSequences = [];
        private readonly Dictionary<int, int> _placesOf = [];
        private long _counted;
        private long _active;
        private double _sum;

        public int Feature => feature;

        public void See(float activation, int sequence, int position)
        {
            _counted++;
            if (!(activation > 0))
                return;
            _active++;
            _sum += activation;
            _quantiles.Add(activation);
            _places.Enqueue(new FeaturePlace(sequence, position, activation), (activation, -_counted));
            _placesOf[sequence] = _placesOf.GetValueOrDefault(sequence) + 1;
            if (_places.Count > most)
                Forget(_places.Dequeue().Sequence);
        }

        /// <summary>Keeps the activations of a sequence that has places among the strongest.</summary>
        public void EndSequence(int sequence, TokenSet tokens, CodeList codes)
        {
            if (!_placesOf.ContainsKey(sequence))
                return;
            ReadOnlySpan<int> ids = tokens.Sequence(sequence);
            float[] activations = new float[ids.Length];
            for (int t = 0; t < ids.Length; t++)
                activations[t] = tokens.IsSpecial(ids[t]) ? 0 : codes.ValueOf(t, feature);
            _ofSequences[sequence] = activations;
        }

        private void Forget(int sequence)
        {
            if (--_placesOf[sequence] > 0)
                return;
            _placesOf.Remove(sequence);
            _ofSequences.Remove(sequence);
        }

        public TopContexts Result()
        {
            FeaturePlace[] places = [.. _places.UnorderedItems.OrderByDescending(p => p.Priority).Select(p => p.Element)];
            double mean = _active == 0 ? double.NaN : _sum / _active;
            return new TopContexts(_counted, _active, mean, places, _quantiles) { OfSequences = _ofSequences };
        }
    }
}

/// <summary>Quantiles of any number of positive values in a fixed 4 MiB: a histogram whose bins are float32 values with the last 12 bits of the fraction left out.</summary>
/// <remarks>A quantile is the middle of its bin, within 2⁻¹² = 0.024 % of the true one; it does not depend on the order of the values. Any number of threads may read it.</remarks>
public sealed class ActivationQuantiles
{
    private const int DroppedBits = 12;
    private readonly long[] _bins = new long[1 << (31 - DroppedBits)];

    /// <summary>Number of values.</summary>
    public long Count { get; private set; }

    /// <summary>The value below or at which a share of all values lies: the ⌈share·n⌉-th smallest; NaN where there are none.</summary>
    public double this[double share]
    {
        get
        {
            ArgumentOutOfRangeException.ThrowIfNegative(share);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(share, 1);
            long rank = Math.Max(1, (long)Math.Ceiling(share * Count)), seen = 0;
            for (int bin = 0; bin < _bins.Length && Count > 0; bin++)
            {
                seen += _bins[bin];
                if (seen >= rank)
                    return BitConverter.Int32BitsToSingle((bin << DroppedBits) | (1 << (DroppedBits - 1)));
            }

            return double.NaN;
        }
    }

    internal void Add(float value)
    {
        _bins[BitConverter.SingleToInt32Bits(value) >> DroppedBits]++;
        Count++;
    }
}

namespace KernelScope.Evaluation;

/// <summary>
/// Where some features of an SAE fire, and with which others: what <see cref="FeatureStatistics"/> is computed from. Rows may come in any
/// pieces: those of several workers, merged, give what one gives.
/// </summary>
/// <remarks>Memory: 12 bytes a firing of a chosen feature, 8 bytes a feature of the SAE for each chosen one. For one caller at a time.</remarks>
public sealed class FeatureFirings
{
    private readonly int[] _features;
    private readonly int[] _slots;
    private readonly List<FeaturePlace>[] _places;
    private readonly long[][] _together;

    /// <summary>Room for the chosen features of an SAE; rows are added to it.</summary>
    /// <param name="featureCount">Features of the SAE.</param>
    /// <param name="features">The chosen ones.</param>
    /// <exception cref="ArgumentException">There is no such feature, or one is there twice.</exception>
    public FeatureFirings(int featureCount, IReadOnlyList<int> features)
    {
        ArgumentNullException.ThrowIfNull(features);
        _features = [.. features];
        _slots = new int[featureCount];
        Array.Fill(_slots, -1);
        for (int slot = 0; slot < _features.Length; slot++)
        {
            int feature = _features[slot];
            if ((uint)feature >= (uint)featureCount)
                throw new ArgumentException(
                    $"Feature {feature} is outside the SAE's width: it has features 0 to {featureCount - 1}.", nameof(features));
            if (_slots[feature] >= 0)
                throw new ArgumentException($"Feature {feature} is there twice.", nameof(features));
            _slots[feature] = slot;
        }

        _places = [.. _features.Select(_ => new List<FeaturePlace>())];
        _together = [.. _features.Select(_ => new long[featureCount])];
        Firing = new long[featureCount];
    }

    /// <summary>The chosen features.</summary>
    public IReadOnlyList<int> Features => _features;

    /// <summary>Number of rows that count.</summary>
    public long Counted { get; private set; }

    /// <summary>On how many of them each feature of the SAE fires.</summary>
    internal long[] Firing { get; }

    /// <summary>Adds a row that counts.</summary>
    /// <param name="sequence">Its sequence.</param>
    /// <param name="position">Its place there.</param>
    /// <param name="features">The active features, ascending.</param>
    /// <param name="values">Their activations.</param>
    public void Add(int sequence, int position, ReadOnlySpan<int> features, ReadOnlySpan<float> values)
    {
        Counted++;
        for (int i = 0; i < features.Length; i++)
        {
            if (!(values[i] > 0))
                continue;
            Firing[features[i]]++;
            if (_slots[features[i]] is int slot and >= 0)
                Add(slot, new FeaturePlace(sequence, position, values[i]), features, values);
        }
    }

    /// <summary>Adds the rows of another part of the same corpus.</summary>
    /// <param name="other">Of the same features of the same SAE.</param>
    /// <exception cref="ArgumentException">It is of others.</exception>
    public void Merge(FeatureFirings other)
    {
        ArgumentNullException.ThrowIfNull(other);
        if (other._slots.Length != _slots.Length || !other._features.SequenceEqual(_features))
            throw new ArgumentException("These are firings of other features, or of another SAE.", nameof(other));
        Counted += other.Counted;
        for (int f = 0; f < Firing.Length; f++)
            Firing[f] += other.Firing[f];
        for (int slot = 0; slot < _features.Length; slot++)
        {
            _places[slot].AddRange(other._places[slot]);
            for (int f = 0; f < _slots.Length; f++)
                _together[slot][f] += other._together[slot][f];
        }
    }

    /// <summary>The places of a chosen feature, by sequence and position.</summary>
    internal FeaturePlace[] PlacesOf(int slot) => [.. _places[slot].OrderBy(p => p.Sequence).ThenBy(p => p.Position)];

    /// <summary>On how many rows each feature fires together with a chosen one.</summary>
    internal long[] TogetherWith(int slot) => _together[slot];

    private void Add(int slot, FeaturePlace place, ReadOnlySpan<int> features, ReadOnlySpan<float> values)
    {
        _places[slot].Add(place);
        for (int i = 0; i < features.Length; i++)
        {
            if (values[i] > 0 && features[i] != _features[slot])
                _together[slot][features[i]]++;
        }
    }
}

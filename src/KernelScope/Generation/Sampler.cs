using KernelScope.Devices;

namespace KernelScope.Generation;

/// <summary>How the next token is chosen.</summary>
public sealed record SamplingOptions
{
    /// <summary>Divides the logits; 0: greedy, the largest logit, the lower id among equals.</summary>
    public double Temperature { get; init; }

    /// <summary>Only the k largest logits stay; 0: all.</summary>
    public int TopK { get; init; }

    /// <summary>Of what top-k left, only the fewest most likely tokens whose probability reaches p stay; 1: all.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Seed; the same seed and logits give the same tokens.</summary>
    public ulong Seed { get; init; }

    internal void Validate()
    {
        if (!(Temperature >= 0) || double.IsInfinity(Temperature))
            throw new ArgumentException($"The temperature is {Temperature}; it must be 0 (greedy) or a positive number.");
        if (TopK < 0)
            throw new ArgumentException($"top-k is {TopK}; it must be 0 (all) or a positive number.");
        if (!(TopP > 0 && TopP <= 1))
            throw new ArgumentException($"top-p is {TopP}; it must be above 0 and at most 1.");
    }
}

/// <summary>Chooses tokens from logits: temperature, then top-k, then top-p, in the order in which transformers applies them.</summary>
public sealed class Sampler : IDisposable
{
    private readonly Device _device;
    private readonly SamplingOptions _options;
    private readonly SparseCodes _top;
    private readonly CodeList _list = new();
    private readonly float[] _logits;
    private readonly double[] _probabilities;
    private readonly int[] _candidates;
    private ulong _state;

    /// <summary>A sampler for rows of <paramref name="vocabSize"/> logits.</summary>
    /// <exception cref="ArgumentException">An option out of its range.</exception>
    public Sampler(Device device, int vocabSize, SamplingOptions options)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        _device = device;
        _options = options;
        _state = options.Seed;
        _top = device.CreateCodes(vocabSize, "top");
        bool all = options.Temperature > 0 && options.TopK == 0;
        int room = all ? vocabSize : Math.Min(vocabSize, Math.Max(1, options.TopK));
        _logits = new float[all ? vocabSize : 0];
        _probabilities = new double[room];
        _candidates = new int[room];
    }

    /// <summary>The next token for one row of logits, [1, vocabulary].</summary>
    /// <exception cref="InvalidOperationException">The largest logit is no number.</exception>
    public int Next(Mat logits)
    {
        if (_options.Temperature == 0)
            return Largest(logits);
        int count = _options.TopK > 0 ? TopCandidates(logits) : AllCandidates(logits);
        double draw = NextDouble();
        return _options.TopP < 1 ? DrawFromNucleus(count, draw) : Draw(_candidates.AsSpan(0, count), draw, Sum(count));
    }

    /// <inheritdoc/>
    public void Dispose() => _top.Dispose();

    private int Largest(Mat logits)
    {
        _device.TopK(logits, 1, _top);
        _device.Read(_top, _list);
        CheckNumber(_list.Value[0]);
        return _list.Feature[0];
    }

    private int TopCandidates(Mat logits)
    {
        _device.TopK(logits, _options.TopK, _top);
        _device.Read(_top, _list);
        ReadOnlySpan<float> values = _list.ValuesOf(0);
        CheckNumber(values[0]);
        for (int i = 0; i < values.Length; i++)
        {
            _candidates[i] = _list.Feature[i];
            _probabilities[i] = Math.Exp((values[i] - values[0]) / _options.Temperature);
        }

        return values.Length;
    }

    private int AllCandidates(Mat logits)
    {
        _device.Read(logits, _logits);
        float max = float.NegativeInfinity;
        foreach (float logit in _logits)
            max = logit > max || float.IsNaN(logit) ? logit : max;
        CheckNumber(max);
        for (int i = 0; i < _logits.Length; i++)
        {
            _candidates[i] = i;
            _probabilities[i] = Math.Exp((_logits[i] - max) / _options.Temperature);
        }

        return _logits.Length;
    }

    /// <summary>Top-p: candidates in falling probability until their sum reaches p.</summary>
    private int DrawFromNucleus(int count, double draw)
    {
        // All tokens below (1 − p)/n of the mass together have less than 1 − p: the nucleus lies among the others, and only they are sorted.
        double sum = Sum(count), floor = sum * (1 - _options.TopP) / count;
        int kept = 0;
        for (int i = 0; i < count; i++)
        {
            if (_probabilities[i] >= floor)
            {
                _probabilities[kept] = _probabilities[i];
                _candidates[kept++] = _candidates[i];
            }
        }

        Span<double> weights = _probabilities.AsSpan(0, kept);
        Span<int> ids = _candidates.AsSpan(0, kept);
        for (int i = 0; i < kept; i++)
            weights[i] = -weights[i];
        weights.Sort(ids);
        double reached = 0;
        int nucleus = 0;
        for (; nucleus < kept && reached < _options.TopP * sum; nucleus++)
        {
            weights[nucleus] = -weights[nucleus];
            reached += weights[nucleus];
        }

        return Draw(ids[..nucleus], draw, reached);
    }

    private int Draw(ReadOnlySpan<int> ids, double draw, double sum)
    {
        double left = draw * sum;
        for (int i = 0; i < ids.Length - 1; i++)
        {
            left -= _probabilities[i];
            if (left < 0)
                return ids[i];
        }

        return ids[^1];
    }

    private double Sum(int count)
    {
        double sum = 0;
        for (int i = 0; i < count; i++)
            sum += _probabilities[i];
        return sum;
    }

    private static void CheckNumber(float logit)
    {
        if (!float.IsFinite(logit))
            throw new InvalidOperationException($"The largest logit is {logit}: the weights or an edit produced values that are no numbers.");
    }

    /// <summary>SplitMix64 (Steele, Lea and Flood 2014), 53 bits to [0, 1): the same on every platform.</summary>
    private double NextDouble()
    {
        ulong z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
    }
}

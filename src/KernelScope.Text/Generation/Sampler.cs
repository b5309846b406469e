using System.Security.Cryptography;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Numerics;

namespace KernelScope.Generation;

/// <summary>Chooses tokens from logits, by <see cref="SamplingOptions"/>. It remembers what penalties count: one sampler for one sequence, for one caller at a time.</summary>
public sealed class Sampler : IDisposable
{
    private readonly Device _device;
    private readonly SamplingOptions _options;
    private readonly SparseCodes _top;
    private readonly CodeList _list = new();
    private readonly float[] _logits;
    private readonly double[] _probabilities;
    private readonly int[] _candidates;
    private readonly Mat _changed;
    private readonly int[] _generated;
    private readonly bool[] _seen;
    private ulong _state;

    /// <summary>A sampler for rows of <paramref name="vocabSize"/> logits.</summary>
    /// <exception cref="ArgumentException">An option out of its range, or one that cannot act.</exception>
    public Sampler(Device device, int vocabSize, SamplingOptions options)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate(vocabSize);
        _device = device;
        _options = options;
        Seed = options.Seed ?? (options.Temperature > 0 ? BitConverter.ToUInt32(RandomNumberGenerator.GetBytes(sizeof(uint))) : 0);
        _state = Seed;
        _top = device.CreateCodes(vocabSize, "top");
        bool all = options.Temperature > 0 && options.TopK == 0, changes = options.ChangesLogits;
        int room = all ? vocabSize : Math.Min(vocabSize, Math.Max(1, options.TopK));
        _logits = new float[all || changes ? vocabSize : 0];
        _probabilities = new double[room];
        _candidates = new int[room];
        _changed = changes ? device.CreateMat(1, vocabSize, "changed logits") : default;
        _generated = new int[options.FrequencyPenalty != 0 ? vocabSize : 0];
        _seen = new bool[options.RepetitionPenalty != 1 ? vocabSize : 0];
    }

    /// <summary>The seed in use: the one asked for, or the fresh one that was drawn where none was. 0 at temperature 0, which needs none.</summary>
    public ulong Seed { get; }

    /// <summary>Counts tokens that were in the text before: the prompt, for <see cref="SamplingOptions.RepetitionPenalty"/>. Chosen tokens are counted by <see cref="Next"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">An id outside the vocabulary.</exception>
    public void See(ReadOnlySpan<int> tokens)
    {
        foreach (int token in tokens)
        {
            if ((uint)token >= (uint)_top.FeatureCount)
                throw new ArgumentOutOfRangeException(nameof(tokens), $"Token id {token} is outside the vocabulary of " +
                    $"{_top.FeatureCount} entries.");
            if (_seen.Length > 0)
                _seen[token] = true;
        }
    }

    /// <summary>The largest of the last row's logits, as the model gave them.</summary>
    internal float LargestLogit { get; private set; }

    /// <summary>The next token for one row of logits, [1, vocabulary].</summary>
    /// <exception cref="InvalidOperationException">The largest logit is not a number.</exception>
    public int Next(Mat logits)
    {
        float largest;
        int token;
        if (_options.ChangesLogits)
        {
            Mat changed = Changed(logits, out largest);
            token = Choose(changed, out _);
        }
        else
        {
            token = Choose(logits, out largest);
        }

        LargestLogit = largest;
        if (_generated.Length > 0)
            _generated[token]++;
        if (_seen.Length > 0)
            _seen[token] = true;
        return token;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _top.Dispose();
        _changed.Buffer?.Dispose();
    }

    private int Choose(Mat logits, out float largest)
    {
        if (_options.Temperature == 0)
            return Largest(logits, out largest);
        int count = _options.TopK > 0 ? TopCandidates(logits, out largest) : AllCandidates(logits, out largest);
        double draw = NextDouble();
        return _options.TopP < 1 ? DrawFromNucleus(count, draw) : DrawAbove(count, draw);
    }

    /// <summary>The logits with bias and penalties, in a row of their own: those of the model stay as they are.</summary>
    private Mat Changed(Mat logits, out float largest)
    {
        _device.Read(logits, _logits);
        largest = Largest(_logits);
        foreach ((int id, double bias) in _options.LogitBias ?? new Dictionary<int, double>())
            _logits[id] = double.IsNegativeInfinity(bias) ? float.NegativeInfinity : Finite(_logits[id] + Finite((float)bias));
        float repetition = Finite((float)_options.RepetitionPenalty), frequency = Finite((float)_options.FrequencyPenalty);
        for (int id = 0; id < _seen.Length; id++)
        {
            if (_seen[id] && _logits[id] != 0 && !float.IsNegativeInfinity(_logits[id]))
                _logits[id] = Finite(_logits[id] < 0 ? _logits[id] * repetition : _logits[id] / repetition);
        }

        for (int id = 0; id < _generated.Length; id++)
        {
            if (_generated[id] > 0)
                _logits[id] = Finite(_logits[id] - (_generated[id] * frequency));
        }

        _device.Write(_logits, _changed);
        return _changed;
    }

    private int Largest(Mat logits, out float largest)
    {
        _device.TopK(logits, 1, _top);
        _device.Read(_top, _list);
        largest = Number(_list.Value[0]);
        return _list.Feature[0];
    }

    private int TopCandidates(Mat logits, out float largest)
    {
        _device.TopK(logits, _options.TopK, _top);
        _device.Read(_top, _list);
        ReadOnlySpan<float> values = _list.ValuesOf(0);
        largest = Number(values[0]);
        for (int i = 0; i < values.Length; i++)
        {
            _candidates[i] = _list.Feature[i];
            _probabilities[i] = Math.Exp((values[i] - values[0]) / _options.Temperature);
        }

        return values.Length;
    }

    private int AllCandidates(Mat logits, out float max)
    {
        _device.Read(logits, _logits);
        max = Largest(_logits);
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
        int kept = KeepFrom(floor, count);
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

        // Sorted: those below min-p are at the end.
        while (weights[nucleus - 1] < _options.MinP)
            reached -= weights[--nucleus];
        return Draw(ids[..nucleus], draw, reached);
    }

    /// <summary>Min-p: candidates whose probability is at least a share of the likeliest one's, which is 1 here.</summary>
    private int DrawAbove(int count, double draw)
    {
        int kept = _options.MinP > 0 ? KeepFrom(_options.MinP, count) : count;
        return Draw(_candidates.AsSpan(0, kept), draw, Sum(kept));
    }

    /// <summary>Moves the candidates with at least this probability to the front, in their order; gives their number.</summary>
    private int KeepFrom(double least, int count)
    {
        int kept = 0;
        for (int i = 0; i < count; i++)
        {
            if (_probabilities[i] >= least)
            {
                _probabilities[kept] = _probabilities[i];
                _candidates[kept++] = _candidates[i];
            }
        }

        return kept;
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

    /// <summary>NaN counts as the largest, as in <see cref="Device.TopK"/>.</summary>
    private static float Largest(ReadOnlySpan<float> logits)
    {
        float max = float.NegativeInfinity;
        foreach (float logit in logits)
        {
            if (float.IsNaN(logit))
                return Number(logit);
            max = Math.Max(max, logit);
        }

        return Number(max);
    }

    // Penalties and biases may be larger than floats are; only a bias of −∞ forbids a token, which therefore is never generated.
    private static float Finite(float value) => Math.Clamp(value, float.MinValue, float.MaxValue);

    private static float Number(float logit) => float.IsFinite(logit) ? logit : throw new NotFiniteException("the logits");

    /// <summary>SplitMix64 (Steele, Lea and Flood 2014), 53 bits to [0, 1): the same on every platform.</summary>
    private double NextDouble() => SplitMix64.ToUnit(SplitMix64.Next(ref _state));
}

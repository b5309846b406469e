using System.Collections.Concurrent;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>
/// From which tokens a feature of an attention SAE has its input (Neuronpedia: DFA). The output of head h at token t is
/// Σ_s pattern_h[t, s]·v_h[s], so what the feature reads there is a sum over the tokens s of Σ_h pattern_h[t, s]·(v_h[s]·W_enc,h[:, f]).
/// Biases belong to no token.
/// </summary>
/// <remarks>Any number of threads may ask.</remarks>
internal sealed class SourceAttribution
{
    private readonly JumpReluSae _sae;
    private readonly AttentionShape _shape;
    private readonly float[] _queries, _keys, _values;
    private readonly int _tokens, _keyHeads, _headDim;
    private readonly ConcurrentDictionary<int, double[]> _patterns = [];

    /// <param name="model">The model.</param>
    /// <param name="sae">The SAE.</param>
    /// <param name="site">Where it reads.</param>
    /// <param name="rows">What a sequence has at <see cref="PointsOf"/>.</param>
    public SourceAttribution(Gemma2Model model, JumpReluSae sae, HookPoint site, IReadOnlyList<float[]> rows)
    {
        _sae = sae;
        _shape = model.ShapeOf(site.Layer);
        (_keyHeads, _headDim) = (model.Config.KvHeadCount, model.Config.HeadDim);
        (_queries, _keys, _values) = (rows[0], rows[1], rows[2]);
        _tokens = _keys.Length / (_keyHeads * _headDim);
    }

    /// <summary>Whether it is known for an SAE that reads there: of the head outputs, z.</summary>
    public static bool IsFor(HookPoint site) => site.Site == Site.Z;

    /// <summary>What it is computed from.</summary>
    public static HookPoint[] PointsOf(HookPoint site) =>
        [new HookPoint(Site.Q, site.Layer), new HookPoint(Site.K, site.Layer), new HookPoint(Site.V, site.Layer)];

    /// <summary>What each token gives a feature at a target token.</summary>
    /// <param name="feature">The feature.</param>
    /// <param name="target">The token whose activation is looked into, counted from the sequence's start.</param>
    /// <param name="first">The first token of the answer.</param>
    /// <param name="end">The token after its last; null: all.</param>
    public DirectAttribution Of(int feature, int target, int first, int? end = null)
    {
        float[] column = _sae.EncoderColumn(feature);
        double[] pattern = _patterns.GetOrAdd(target, PatternOf);
        float[] values = new float[(end ?? _tokens) - first];
        for (int s = first; s <= target; s++)
        {
            double sum = 0;
            for (int h = 0; h < _shape.HeadCount; h++)
            {
                ReadOnlySpan<float> part = column.AsSpan(h * _headDim, _headDim);
                sum += pattern[(h * _tokens) + s] * Dot(KeyRow(_values, s, h), part);
            }

            values[s - first] = (float)sum;
        }

        return new DirectAttribution(values, target - first, values.Max());
    }

    /// <summary>The attention of a token to those before it and itself, head by head.</summary>
    private double[] PatternOf(int target)
    {
        double[] pattern = new double[_shape.HeadCount * _tokens];
        int first = _shape.Window > 0 ? Math.Max(0, target - _shape.Window + 1) : 0;
        for (int h = 0; h < _shape.HeadCount; h++)
        {
            Span<double> row = pattern.AsSpan(h * _tokens, _tokens)[first..(target + 1)];
            ReadOnlySpan<float> query = _queries.AsSpan(((target * _shape.HeadCount) + h) * _headDim, _headDim);
            double largest = double.NegativeInfinity, sum = 0;
            for (int i = 0; i < row.Length; i++)
            {
                double score = _shape.Scale * Dot(query, KeyRow(_keys, first + i, h));
                row[i] = _shape.Softcap > 0 ? _shape.Softcap * Math.Tanh(score / _shape.Softcap) : score;
                largest = Math.Max(largest, row[i]);
            }

            foreach (ref double score in row)
                sum += score = Math.Exp(score - largest);
            foreach (ref double weight in row)
                weight /= sum;
        }

        return pattern;
    }

    /// <summary>The part of a token's keys or values that a head reads: several heads share one.</summary>
    private ReadOnlySpan<float> KeyRow(float[] rows, int token, int head) =>
        rows.AsSpan(((token * _keyHeads) + (head / (_shape.HeadCount / _keyHeads))) * _headDim, _headDim);

    private static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
            sum += (double)a[i] * b[i];
        return sum;
    }
}

/// <summary>What each token of an answer gives a feature at one of them.</summary>
internal sealed record DirectAttribution(IReadOnlyList<float> Values, int Target, float Max);

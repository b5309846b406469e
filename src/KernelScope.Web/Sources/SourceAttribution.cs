using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Runtime;

namespace KernelScope.Web.Sources;

/// <summary>
/// From which tokens a feature of an attention SAE has its input (Neuronpedia: DFA). The output of head h at token t is
/// Σ_s pattern_h[t, s]·v_h[s], so what the feature reads there is a sum over the tokens s of Σ_h pattern_h[t, s]·(v_h[s]·W_enc,h[:, f]).
/// Biases belong to no token.
/// </summary>
/// <remarks>For one caller at a time.</remarks>
internal sealed class SourceAttribution
{
    private readonly ServedSource _source;
    private readonly AttentionShape _shape;
    private readonly float[] _queries, _keys, _values;
    private readonly int _tokens, _keyHeads, _headDim;
    private readonly Dictionary<int, double[]> _patterns = [];

    private SourceAttribution(ServedModel model, ServedSource source, int tokens, IReadOnlyList<float[]> rows)
    {
        _source = source;
        _tokens = tokens;
        _shape = model.Engine.Model.ShapeOf(source.Sae.Site.Layer);
        (_keyHeads, _headDim) = (model.Config.KvHeadCount, model.Config.HeadDim);
        (_queries, _keys, _values) = (rows[0], rows[1], rows[2]);
    }

    /// <summary>Reads what attention did on a prompt; null for an SAE that reads elsewhere.</summary>
    public static async Task<SourceAttribution?> ReadAsync(
        ServedModel model, ServedSource source, int[] tokens, CancellationToken cancellationToken)
    {
        if (!IsFor(source))
            return null;
        int layer = source.Sae.Site.Layer;
        var request = new ActivationsRequest
        {
            Tokens = tokens,
            Points = [new HookPoint(Site.Q, layer), new HookPoint(Site.K, layer), new HookPoint(Site.V, layer)],
        };
        IReadOnlyList<float[]> rows = await model.Engine.ActivationsAsync(request, cancellationToken).ConfigureAwait(false);
        return new SourceAttribution(model, source, tokens.Length, rows);
    }

    /// <summary>Whether it is known for an SAE: of the head outputs, z.</summary>
    public static bool IsFor(ServedSource source) => source.Sae.Site.Site == Site.Z;

    /// <summary>What each token gives a feature at a target token.</summary>
    /// <param name="feature">The feature.</param>
    /// <param name="target">The token whose activation is looked into, counted from the prompt's start.</param>
    /// <param name="skipped">Tokens at the beginning that the answer leaves out.</param>
    public DirectAttribution Of(int feature, int target, int skipped)
    {
        float[] column = _source.Sae.Sae.EncoderColumn(feature);
        double[] pattern = PatternOf(target);
        float[] values = new float[_tokens - skipped];
        for (int s = skipped; s <= target; s++)
        {
            double sum = 0;
            for (int h = 0; h < _shape.HeadCount; h++)
            {
                ReadOnlySpan<float> part = column.AsSpan(h * _headDim, _headDim);
                sum += pattern[(h * _tokens) + s] * Dot(KeyRow(_values, s, h), part);
            }

            values[s - skipped] = (float)sum;
        }

        return new DirectAttribution(values, target - skipped, values.Max());
    }

    /// <summary>The attention of a token to those before it and itself, head by head.</summary>
    private double[] PatternOf(int target)
    {
        if (_patterns.TryGetValue(target, out double[]? known))
            return known;
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

        _patterns.Add(target, pattern);
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

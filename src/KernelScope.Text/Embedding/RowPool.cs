using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Model;

/// <summary>The rows of a text so far, on their way to one vector.</summary>
internal sealed class RowPool(EmbeddingOptions options, Gemma2Config config)
{
    private float[] _rows = [];
    private double[] _sum = [];
    private int _counted;

    public void Take(HookCall call, HookPoint point, Mat value)
    {
        if (_sum.Length == 0)
            _sum = new double[value.Columns];
        if (_rows.Length < value.Rows * value.Columns)
            _rows = new float[value.Rows * value.Columns];
        Span<float> rows = _rows.AsSpan(0, value.Rows * value.Columns);
        call.Device.Read(value, rows);
        NotFiniteException.Refuse(rows, value.Columns, $"the activations at {point}", call.Position);
        for (int r = 0; r < value.Rows; r++)
        {
            if (!options.IncludeSpecialTokens && IsSpecial(call.Tokens[r]))
                continue;
            if (options.Pooling == Pooling.LastToken)
                Array.Clear(_sum);
            for (int j = 0; j < _sum.Length; j++)
                _sum[j] += _rows[(r * _sum.Length) + j];
            _counted++;
        }
    }

    public float[] Result()
    {
        if (_counted == 0)
            throw new ArgumentException("No token of the text counts: it has none, or special ones only (BOS, EOS, padding).");
        double divisor = options.Pooling == Pooling.Mean ? _counted : 1;
        if (options.Normalize)
            divisor *= Math.Sqrt(_sum.Sum(v => v / divisor * (v / divisor)));
        return Array.ConvertAll(_sum, v => divisor == 0 ? 0f : (float)(v / divisor));
    }

    private bool IsSpecial(int token) => token == config.BosId || token == config.PadId || config.TextEndIds.Contains(token);
}

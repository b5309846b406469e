using KernelScope.Devices;

namespace KernelScope.Model;

/// <summary>Cosines and sines of the rotary embedding: one table for all sessions of a model, computed as far as positions are reached.</summary>
/// <remarks>Row p holds cos(p·ω_i), then sin(p·ω_i), i &lt; d_head/2, ω_i = θ^(−2i/d_head). For any number of threads.</remarks>
internal sealed class RopeTable : IDisposable
{
    // Positions that are computed at once; a fraction of a millisecond.
    private const int StepRows = 64;

    private readonly Lock _gate = new();
    private readonly Device _device;
    private readonly Mat _table;
    private readonly float[] _frequencies;
    private readonly float[] _step;
    private int _rows;

    public RopeTable(Device device, int positions, int headDim, double theta)
    {
        _device = device;
        _table = device.CreateMat(positions, headDim, "rope");
        _frequencies = Frequencies(headDim, theta);
        _step = new float[StepRows * headDim];
    }

    /// <summary>The table, [positions, d_head], of which the rows below <paramref name="positions"/> hold their values.</summary>
    public Mat For(int positions)
    {
        if (Volatile.Read(ref _rows) < positions)
            Extend(positions);
        return _table;
    }

    /// <summary>The whole table on the host. [positions, d_head].</summary>
    public static float[] Create(int positions, int headDim, double theta)
    {
        float[] table = new float[checked(positions * headDim)];
        Fill(table, 0, Frequencies(headDim, theta));
        return table;
    }

    public void Dispose() => _table.Buffer.Dispose();

    private void Extend(int positions)
    {
        lock (_gate)
        {
            while (_rows < positions)
            {
                int count = Math.Min(StepRows, _table.Rows - _rows);
                Span<float> step = _step.AsSpan(0, count * _table.Columns);
                Fill(step, _rows, _frequencies);
                _device.Write(step, _table.RowRange(_rows, count));
                Volatile.Write(ref _rows, _rows + count);
            }
        }
    }

    private static float[] Frequencies(int headDim, double theta)
    {
        float[] frequencies = new float[headDim / 2];
        for (int i = 0; i < frequencies.Length; i++)
            frequencies[i] = 1f / (float)Math.Pow(theta, (float)(2 * i) / headDim);
        return frequencies;
    }

    /// <summary>Rows from <paramref name="position"/> on.</summary>
    /// <remarks>
    /// ω and the angle are rounded to float32 as transformers rounds them (at position 8,000 that moves the angle by up to 2.4·10⁻⁴, so it belongs to the model);
    /// the cosine and sine of that angle are computed in double and rounded once.
    /// </remarks>
    private static void Fill(Span<float> rows, int position, float[] frequencies)
    {
        int half = frequencies.Length;
        for (; !rows.IsEmpty; rows = rows[(2 * half)..], position++)
        {
            for (int i = 0; i < half; i++)
            {
                (double sin, double cos) = Math.SinCos((float)position * frequencies[i]);
                rows[i] = (float)cos;
                rows[half + i] = (float)sin;
            }
        }
    }
}

using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>Encodes stored rows block by block, and measures the reconstruction. Only the codes, which are sparse, are kept as a whole.</summary>
internal sealed class RowEncoder : IDisposable
{
    private const int MostRows = 512;
    private const long MostValues = 1 << 24;
    private readonly JumpReluSae _sae;
    private readonly TensorView _x;
    private readonly long _rows;
    private readonly bool[]? _counted;
    private readonly long _countedRows;
    private readonly Mat _input;
    private readonly Mat _output;
    private readonly SparseCodes _codes;
    private readonly float[] _host;
    private readonly float[] _reconstruction;

    public RowEncoder(JumpReluSae sae, TensorView x, long rows, bool[]? counted)
    {
        _sae = sae;
        _x = x;
        _rows = rows;
        _counted = counted;
        _countedRows = counted?.LongCount(c => c) ?? rows;
        int block = BlockRows(sae.Config);
        _input = sae.Device.CreateMat(block, sae.Config.InputDim, "activations");
        _output = sae.Device.CreateMat(block, sae.Config.OutputDim, "reconstruction");
        _codes = sae.CreateCodes();
        _host = new float[block * sae.Config.InputDim];
        _reconstruction = new float[block * sae.Config.OutputDim];
    }

    /// <summary>Bytes of the buffers.</summary>
    public static long BlockBytes(SaeConfig config) => 2L * sizeof(float) * BlockRows(config) * ((long)config.InputDim + config.OutputDim);

    /// <summary>Encodes all rows.</summary>
    /// <param name="writer">Receives row_ptr, feature, value and reconstruction; null: nothing is kept.</param>
    /// <param name="progress">Told how far it is.</param>
    /// <param name="cancellation">Stops between two blocks.</param>
    public EncodeResult Run(NpzWriter? writer, IProgress<double> progress, CancellationToken cancellation)
    {
        // A transcoder's output is another site: there is no input to compare it with.
        bool comparable = !_sae.Config.IsTranscoder && _sae.Config.InputDim == _sae.Config.OutputDim;
        double[] mean = comparable ? Mean(cancellation) : [];
        double error = 0, variance = 0;
        var kept = new List<(int[] Features, float[] Values)>();
        long[] rowStart = writer is null ? [] : new long[checked(_rows + 1)];
        long active = 0, activeCounted = 0;
        var list = new CodeList();
        writer?.Begin(new TensorInfo("reconstruction", DType.F32, [_rows, _sae.Config.OutputDim]));
        foreach ((long first, int count) in Blocks())
        {
            cancellation.ThrowIfCancellationRequested();
            Encode(first, count, list);
            if (comparable)
                Measure(first, count, mean, ref error, ref variance);
            if (writer is not null)
            {
                writer.Append<float>(_reconstruction.AsSpan(0, count * _sae.Config.OutputDim));
                kept.Add((list.Feature[..list.Count], list.Value[..list.Count]));
                for (int r = 0; r < count; r++)
                    rowStart[first + r + 1] = active + list.RowStart[r + 1];
            }

            active += list.Count;
            for (int r = 0; r < count; r++)
                activeCounted += Counts(first + r) ? list.FeaturesOf(r).Length : 0;
            progress.Report((first + count) / (double)_rows);
        }

        writer?.End();
        if (writer is not null)
            Write(writer, rowStart, active, kept);
        return new EncodeResult(_rows, _countedRows == 0 ? null : activeCounted / (double)_countedRows, comparable && variance > 0
            ? error / variance : null)
        { RowsCounted = _countedRows };
    }

    public void Dispose()
    {
        _input.Buffer.Dispose();
        _output.Buffer.Dispose();
        _codes.Dispose();
    }

    private static int BlockRows(SaeConfig config) =>
        (int)Math.Clamp(MostValues / Math.Max(config.InputDim, config.OutputDim), 1, MostRows);

    private bool Counts(long row) => _counted is null || _counted[row];

    private IEnumerable<(long First, int Count)> Blocks()
    {
        for (long first = 0; first < _rows; first += _input.Rows)
            yield return (first, (int)Math.Min(_input.Rows, _rows - first));
    }

    private Span<float> Load(long first, int count)
    {
        Span<float> values = _host.AsSpan(0, count * _input.Columns);
        _x.CopyTo(first * _input.Columns, values);
        return values;
    }

    private void Encode(long first, int count, CodeList list)
    {
        Device device = _sae.Device;
        Mat x = _input.RowRange(0, count), y = _output.RowRange(0, count);
        Span<float> values = Load(first, count);
        for (int i = 0; i < values.Length; i++)
        {
            if (!float.IsFinite(values[i]))
                throw new WorkException($"{_x.Describe()}: row {first + (i / x.Columns)}, value {i % x.Columns} is {values[i]}, no " +
                    "finite number.");
        }

        device.Write(values, x);
        _sae.Encode(x, _codes);
        device.Read(_codes, list);
        list.RequireFinite($"{_x.Describe()}, encoded", first);
        _sae.Decode(_codes, x, y);
        Span<float> reconstruction = _reconstruction.AsSpan(0, count * y.Columns);
        device.Read(y, reconstruction);
        for (int i = 0; i < reconstruction.Length; i++)
        {
            if (!float.IsFinite(reconstruction[i]))
                throw new WorkException($"{_x.Describe()}: the reconstruction of row {first + (i / y.Columns)} is {reconstruction[i]}, " +
                    "not a finite number.");
        }
    }

    /// <summary>Mean of each column, first: the variance is then a sum of small squares, not a difference of large ones.</summary>
    private double[] Mean(CancellationToken cancellation)
    {
        double[] mean = new double[_input.Columns];
        foreach ((long first, int count) in Blocks())
        {
            cancellation.ThrowIfCancellationRequested();
            Span<float> values = Load(first, count);
            for (int i = 0; i < values.Length; i++)
            {
                if (Counts(first + (i / mean.Length)))
                    mean[i % mean.Length] += values[i];
            }
        }

        for (int i = 0; i < mean.Length; i++)
            mean[i] /= _countedRows;
        return mean;
    }

    private void Measure(long first, int count, double[] mean, ref double error, ref double variance)
    {
        for (int i = 0; i < count * mean.Length; i++)
        {
            if (!Counts(first + (i / mean.Length)))
                continue;
            double e = (double)_host[i] - _reconstruction[i], v = _host[i] - mean[i % mean.Length];
            error += e * e;
            variance += v * v;
        }
    }

    private static void Write(NpzWriter writer, long[] rowStart, long active, List<(int[] Features, float[] Values)> kept)
    {
        writer.Add<long>("row_ptr", rowStart, rowStart.Length);
        writer.Begin(new TensorInfo("feature", DType.I32, [active]));
        foreach ((int[] features, _) in kept)
            writer.Append<int>(features);
        writer.End();
        writer.Begin(new TensorInfo("value", DType.F32, [active]));
        foreach ((_, float[] values) in kept)
            writer.Append<float>(values);
        writer.End();
    }
}

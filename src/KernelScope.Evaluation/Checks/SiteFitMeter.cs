using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Evaluation;

/// <summary>Measures, while a session runs, how an SAE does at a site: whether it is as sparse as it was released, and reconstructs.</summary>
/// <remarks>
/// It reads and never writes, and stops reading once it has seen enough. Armed before a splice at the same site it sees what the splice does not change.
/// For one caller at a time, as the session is.
/// </remarks>
public sealed class SiteFitMeter : IDisposable
{
    private readonly SaeTarget _target;
    private readonly HookPoint _site;
    private readonly IReadOnlyCollection<int> _uncounted;
    private readonly int _bosId;
    private readonly int _most;
    private readonly SparseCodes _codes;
    private readonly List<IDisposable> _hooks = [];
    private readonly List<Row> _rows = [];
    private readonly Dictionary<int, int> _fired;
    private DeviceBuffer? _room;
    private float[]? _reconstruction;
    private float[]? _output;
    private int _seen;
    private bool _beginsWithBos;

    /// <summary>Listens at a session's hooks until disposed.</summary>
    /// <param name="hooks">The session's hooks.</param>
    /// <param name="target">The SAE. Its reconstruction is held against the values at its output site (a transcoder's), else at <paramref name="site"/>.</param>
    /// <param name="site">Where it reads.</param>
    /// <param name="uncounted">Tokens that do not count: BOS, EOS, padding.</param>
    /// <param name="bosId">BOS.</param>
    /// <param name="most">Most tokens that are looked at.</param>
    /// <param name="features">Features whose firing is counted.</param>
    public SiteFitMeter(HookSet hooks, SaeTarget target, HookPoint site, IReadOnlyCollection<int> uncounted, int bosId,
        int most, IEnumerable<int>? features = null)
    {
        ArgumentNullException.ThrowIfNull(hooks);
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(uncounted);
        (_target, _site, _uncounted, _bosId, _most) = (target, site, uncounted, bosId, most);
        _fired = (features ?? []).Distinct().ToDictionary(f => f, _ => 0);
        _codes = target.Sae.CreateCodes();
        _hooks.Add(hooks.Add(site, Encode));
        // The same point, or one that comes before or after it in the same call.
        _hooks.Add(hooks.Add(target.IsTranscoder ? target.SiteOut : site, Compare));
    }

    /// <summary>Number of tokens that counted.</summary>
    public int Counted => _rows.Count;

    /// <summary>The longest counted activation where the SAE reads, ‖x‖.</summary>
    public double LongestInput { get; private set; }

    /// <summary>Counted tokens at which a feature fired that was asked about.</summary>
    public int FiringsOf(int feature) => _fired[feature];

    /// <summary>What was measured; null: no token counted.</summary>
    public SiteFit? Fit()
    {
        if (_rows.Count == 0)
            return null;
        double[] mean = new double[_rows[0].Value.Length];
        foreach (Row row in _rows)
        {
            for (int j = 0; j < mean.Length; j++)
                mean[j] += row.Value[j] / (double)_rows.Count;
        }

        // A mean that a value is part of lies nearer to it than the mean of all text: by (n − 1)/n on the average.
        double nearer = _rows.Count > 1 ? (_rows.Count - 1.0) / _rows.Count : double.NaN;
        double[] ratios = [.. _rows.Select(r => r.Error / r.DistanceFrom(mean) * nearer).Order()];
        return new(_site, _beginsWithBos, _rows.Average(r => (double)r.Active), ratios[ratios.Length / 2], _rows.Count);
    }

    /// <summary>Median over counted tokens of the length of the activation where the SAE writes; NaN if none counted.</summary>
    public double MedianLength()
    {
        double[] lengths = [.. _rows.Select(r => r.DistanceFrom(new double[r.Value.Length])).Order()];
        return lengths.Length == 0 ? double.NaN : Math.Sqrt(lengths[lengths.Length / 2]);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDisposable hook in _hooks)
            hook.Dispose();
        _hooks.Clear();
        _codes.Dispose();
        _room?.Dispose();
    }

    private void Encode(HookCall call, HookPoint point, Mat values)
    {
        int rows = Math.Min(values.Rows, _most - _seen);
        if (rows <= 0)
            return;
        if (call.Position == 0)
            _beginsWithBos = call.Tokens[0] == _bosId;
        Mat x = values.RowRange(0, rows);
        float[] input = Read(call.Device, x);
        for (int t = 0; t < rows; t++)
        {
            if (!_uncounted.Contains(call.Tokens[t]))
                LongestInput = Math.Max(LongestInput, Math.Sqrt(SquaredLength(input.AsSpan(t * x.Columns, x.Columns))));
        }

        _target.Sae.Encode(x, _codes);
        _room?.Dispose();
        Mat reconstruction = call.Device.CreateMat(rows, _target.Sae.Config.OutputDim, "reconstruction");
        _room = reconstruction.Buffer;
        _target.Sae.Decode(_codes, x, reconstruction);
        _reconstruction = Read(call.Device, reconstruction);
        Count(call);
    }

    private void Compare(HookCall call, HookPoint point, Mat values)
    {
        int rows = Math.Min(values.Rows, _most - _seen);
        if (rows <= 0)
            return;
        _output = Read(call.Device, values.RowRange(0, rows));
        Count(call);
    }

    /// <summary>Takes both sides of a call in, once both are there.</summary>
    private void Count(HookCall call)
    {
        if (_output is null || _reconstruction is null)
            return;
        int width = _target.Sae.Config.OutputDim, rows = _output.Length / width;
        var list = new CodeList();
        call.Device.Read(_codes, list);
        for (int t = 0; t < rows; t++)
        {
            if (_uncounted.Contains(call.Tokens[t]))
                continue;
            float[] value = _output[(t * width)..((t + 1) * width)];
            double error = 0;
            for (int j = 0; j < width; j++)
            {
                double e = (double)value[j] - _reconstruction[(t * width) + j];
                error += e * e;
            }

            _rows.Add(new Row(value, error, list.FeaturesOf(t).Length));
            foreach (int feature in _fired.Keys)
                _fired[feature] += list.ValueOf(t, feature) > 0 ? 1 : 0;
        }

        _seen += rows;
        (_output, _reconstruction) = (null, null);
    }

    private static float[] Read(Device device, Mat values)
    {
        float[] rows = new float[values.Rows * values.Columns];
        device.Read(values, rows);
        return rows;
    }

    private static double SquaredLength(ReadOnlySpan<float> values)
    {
        double sum = 0;
        foreach (float value in values)
            sum += (double)value * value;
        return sum;
    }

    /// <summary>One counted token: the value that should be reconstructed, ‖y − ŷ‖², and the number of active features.</summary>
    private sealed record Row(float[] Value, double Error, int Active)
    {
        public double DistanceFrom(double[] mean)
        {
            double sum = 0;
            for (int j = 0; j < mean.Length; j++)
            {
                double d = Value[j] - mean[j];
                sum += d * d;
            }

            return sum;
        }
    }
}

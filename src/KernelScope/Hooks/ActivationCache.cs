using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Hooks;

/// <summary>Copies the values at hook points to the host, position by position: what a run looked like inside.</summary>
public sealed class ActivationCache : IDisposable
{
    private readonly Dictionary<HookPoint, Captured> _captured = [];
    private readonly List<IDisposable> _hooks = [];
    private readonly int _tokens;

    /// <summary>Listens at the given points until disposed; what was captured stays.</summary>
    /// <param name="hooks">A session's hooks.</param>
    /// <param name="points">What to capture.</param>
    /// <param name="tokens">Number of positions that will be fed.</param>
    public ActivationCache(HookSet hooks, IEnumerable<HookPoint> points, int tokens)
    {
        ArgumentNullException.ThrowIfNull(hooks);
        ArgumentNullException.ThrowIfNull(points);
        _tokens = tokens;
        foreach (HookPoint point in points)
        {
            if (_captured.TryAdd(point, new Captured()))
                _hooks.Add(hooks.Add(point, Capture));
        }
    }

    /// <summary>The points, in the order in which they were asked for.</summary>
    public IReadOnlyCollection<HookPoint> Points => _captured.Keys;

    /// <summary>The values at a point, [tokens, width].</summary>
    public ReadOnlySpan<float> Values(HookPoint point) => _captured[point].Values;

    /// <summary>Values in a row at a point.</summary>
    public int Width(HookPoint point) => _captured[point].Width;

    /// <summary>Adds an f32 array for each point to an npz file: [tokens, width], and [tokens, heads, d_head] for q, k and v.</summary>
    public void AddTo(NpzWriter writer, int headDim)
    {
        ArgumentNullException.ThrowIfNull(writer);
        foreach ((HookPoint point, Captured captured) in _captured)
        {
            long[] shape = point.Site is Site.Q or Site.K or Site.V ? [_tokens, captured.Width / headDim, headDim] : [_tokens, captured.Width];
            writer.Add(point.ToString(), captured.Values, shape);
        }
    }

    /// <summary>Stops listening.</summary>
    public void Dispose()
    {
        foreach (IDisposable hook in _hooks)
            hook.Dispose();
        _hooks.Clear();
    }

    private void Capture(HookCall call, HookPoint point, Mat value)
    {
        Captured captured = _captured[point];
        if (captured.Width == 0)
        {
            captured.Width = value.Columns;
            captured.Values = new float[checked(_tokens * value.Columns)];
        }

        call.Device.Read(value, captured.Values.AsSpan(call.Position * value.Columns, value.Rows * value.Columns));
    }

    private sealed class Captured
    {
        public int Width { get; set; }

        public float[] Values { get; set; } = [];
    }
}

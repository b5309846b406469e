using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Runtime;

/// <summary>A text whose activations are read.</summary>
internal sealed class ActivationSequence(Gemma2Model model, IReadOnlyList<HookPoint> points, bool lastTokenOnly, int[] prompt)
    : PromptSequence<IReadOnlyList<float[]>>(model, "activations", prompt, points.Max(ModelSites.LayersNeededFor))
{
    // A point that is named twice is read once: hooks at one point are a chain, which is taken apart in quadratic time.
    private readonly HookPoint[] _distinct = [.. points.Distinct()];
    private readonly List<IDisposable> _hooks = [];
    private readonly Dictionary<HookPoint, float[]> _rows = [];
    private readonly Dictionary<HookPoint, int> _taken = [];

    public override void Begin(Session session)
    {
        base.Begin(session);
        foreach (HookPoint point in _distinct)
            _hooks.Add(session.Hooks.Add(point, (call, _, value) => Take(call.Device, point, value)));
    }

    protected override IReadOnlyList<float[]> Collect() => [.. points.Select(p => _rows[p])];

    protected override void Disarm()
    {
        foreach (IDisposable hook in _hooks)
            hook.Dispose();
    }

    private void Take(Device device, HookPoint point, Mat value)
    {
        if (!_rows.TryGetValue(point, out float[]? rows))
            _rows.Add(point, rows = new float[(lastTokenOnly ? 1 : Prompt.Length) * value.Columns]);
        int before = _taken.GetValueOrDefault(point), taken = before + value.Rows;
        _taken[point] = taken;
        if (!lastTokenOnly)
            device.Read(value, rows.AsSpan(before * value.Columns, value.Rows * value.Columns));
        else if (taken == Prompt.Length)
            device.Read(value.RowRange(value.Rows - 1, 1), rows);
    }
}

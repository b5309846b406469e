using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Runtime;

/// <summary>A text whose activations are read.</summary>
internal sealed class ActivationSequence(Gemma2Model model, IReadOnlyList<HookPoint> points, bool lastTokenOnly, int[] prompt)
    : PromptSequence<IReadOnlyList<float[]>>(model, "activations", prompt, points.Max(ModelSites.LayersNeededFor))
{
    private readonly List<IDisposable> _hooks = [];
    private readonly float[][] _rows = new float[points.Count][];
    private readonly int[] _taken = new int[points.Count];

    public override void Begin(Session session)
    {
        base.Begin(session);
        for (int p = 0; p < points.Count; p++)
        {
            int slot = p;
            _hooks.Add(session.Hooks.Add(points[p], (call, _, value) => Take(call.Device, slot, value)));
        }
    }

    protected override IReadOnlyList<float[]> Collect() => _rows;

    protected override void Disarm()
    {
        foreach (IDisposable hook in _hooks)
            hook.Dispose();
    }

    private void Take(Device device, int slot, Mat value)
    {
        _rows[slot] ??= new float[(lastTokenOnly ? 1 : Prompt.Length) * value.Columns];
        _taken[slot] += value.Rows;
        if (!lastTokenOnly)
            device.Read(value, _rows[slot].AsSpan((_taken[slot] - value.Rows) * value.Columns, value.Rows * value.Columns));
        else if (_taken[slot] == Prompt.Length)
            device.Read(value.RowRange(value.Rows - 1, 1), _rows[slot]);
    }
}

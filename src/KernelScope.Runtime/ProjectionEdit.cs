using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Runtime;

/// <summary>
/// Changes what activations have along a direction, in every call of a session. Sums are in double, in the order of the values; rows go
/// through the host, because few requests want it.
/// </summary>
internal sealed class ProjectionEdit : IDisposable
{
    private readonly double[] _unit;
    private readonly double _strength;
    private readonly bool _caps;
    private readonly Positions _where;
    private readonly float[] _row;
    private readonly IDisposable _hook;

    public ProjectionEdit(HookSet hooks, VectorEdit edit, Positions where)
    {
        ReadOnlySpan<float> direction = edit.Direction.Span;
        double square = 0;
        foreach (float value in direction)
            square += (double)value * value;
        _unit = new double[direction.Length];
        for (int j = 0; j < _unit.Length; j++)
            _unit[j] = direction[j] / Math.Sqrt(square);
        _strength = edit.Strength;
        _caps = edit.Method == VectorMethod.CapProjection;
        _where = where;
        _row = new float[direction.Length];
        _hook = hooks.Add(edit.Point, Act);
    }

    public void Dispose() => _hook.Dispose();

    private void Act(HookCall call, HookPoint point, Mat value)
    {
        for (int r = 0; r < value.Rows; r++)
        {
            if (!_where.Includes(call.Position + r, call.Tokens[r]))
                continue;
            Mat row = value.RowRange(r, 1);
            call.Device.Read(row, _row);
            double along = 0;
            for (int j = 0; j < _row.Length; j++)
                along += _unit[j] * _row[j];
            double change = _caps ? -Math.Max(0, along - _strength) : (_strength - 1) * along;
            if (change == 0)
                continue;
            for (int j = 0; j < _row.Length; j++)
                _row[j] = (float)(_row[j] + (change * _unit[j]));
            call.Device.Write(_row, row);
        }
    }
}

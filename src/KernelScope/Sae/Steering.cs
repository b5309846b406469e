using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Sae;

/// <summary>Adds a vector at a hook point, on the device, in every forward call of a session, prefill and cached steps alike: y ← y + s·v at each included position.</summary>
/// <remarks>The vector is any direction of the point's width: a difference of two means, a probe, or an SAE's decoder row (<see cref="SaeSplice"/> also clamps features, by what they activate). Several at one point act in the order in which they were armed. For one caller at a time, as its session is.</remarks>
/// <example>
/// <code>
/// using var steering = new Steering(session.Hooks, device, HookPoint.Parse("resid_post.20"), sae.DecoderRow(8421), strength: 60,
///     Positions.AllBut(model.Config.BosId));
/// session.Prefill(tokens);
/// </code>
/// </example>
public sealed class Steering : IDisposable
{
    private readonly Positions _where;
    private readonly Mat _direction;
    private readonly IDisposable _hook;

    /// <summary>Arms it on a session's hooks until it is disposed.</summary>
    /// <param name="hooks">The session's hooks.</param>
    /// <param name="device">The session's device.</param>
    /// <param name="point">Where.</param>
    /// <param name="direction">v, one value for each of the point's.</param>
    /// <param name="strength">s.</param>
    /// <param name="where">At which positions.</param>
    /// <exception cref="ArgumentException">The vector is empty or holds something that is not a finite number.</exception>
    public Steering(HookSet hooks, Device device, HookPoint point, ReadOnlySpan<float> direction, float strength, Positions where)
    {
        ArgumentNullException.ThrowIfNull(hooks);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(where);
        if (direction.IsEmpty)
            throw new ArgumentException("The direction has no values.", nameof(direction));
        for (int j = 0; j < direction.Length; j++)
        {
            if (!float.IsFinite(direction[j]))
                throw new ArgumentException($"The direction's value {j} is {direction[j]}, not a finite number.", nameof(direction));
        }

        Strength = strength;
        _where = where;
        _direction = device.CreateMat(1, direction.Length, "steering");
        device.Write(direction, _direction);
        _hook = hooks.Add(point, Act);
    }

    /// <summary>s; it may change between two calls. 0 changes no bit.</summary>
    public float Strength { get; set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        _hook.Dispose();
        _direction.Buffer.Dispose();
    }

    private void Act(HookCall call, HookPoint point, Mat value)
    {
        if (value.Columns != _direction.Columns)
            throw new InvalidOperationException($"The direction has {_direction.Columns} values; {point} has {value.Columns}.");
        if (Strength == 0)
            return;
        for ((int start, int count) = _where.NextRun(call, 0); count > 0; (start, count) = _where.NextRun(call, start + count))
            call.Device.AddScaled(_direction, Strength, value.RowRange(start, count));
    }
}

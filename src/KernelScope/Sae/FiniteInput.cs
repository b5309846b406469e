using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Sae;

/// <summary>Refuses activations that are not finite numbers, of which no feature could be trusted.</summary>
/// <remarks>
/// One such value makes every sum over its row infinite or NaN. No feature fires on NaN or −∞, and one that fires on +∞ is infinite: a row
/// whose features are finite, and which has some, is finite itself. So only the other rows, of which there are few, are read back from the
/// device.
/// </remarks>
internal sealed class FiniteInput(HookPoint site)
{
    // Made once: a step allocates nothing.
    private readonly string _input = $"the activations at {site}", _codes = $"the features at {site}";
    private float[] _rows = [];

    /// <summary>Looks at what a call encoded.</summary>
    /// <param name="call">The call.</param>
    /// <param name="value">The rows that were encoded.</param>
    /// <param name="codes">Their codes.</param>
    /// <exception cref="NotFiniteException">A row is not finite; it says at which position.</exception>
    /// <exception cref="InvalidDataException">The row is, and a feature is not.</exception>
    public void Require(HookCall call, Mat value, CodeList codes)
    {
        for (int first = 0, end; first < codes.Rows; first = end)
        {
            end = first;
            while (end < codes.Rows && IsDoubtful(codes.ValuesOf(end)))
                end++;
            if (end > first)
                Require(call, value.RowRange(first, end - first), call.Position + first);
            end = Math.Max(end, first + 1);
        }

        codes.RequireFinite(_codes, call.Position);
    }

    private static bool IsDoubtful(ReadOnlySpan<float> values) =>
        values.IsEmpty || values.ContainsAnyExceptInRange(float.MinValue, float.MaxValue);

    private void Require(HookCall call, Mat value, int position)
    {
        int size = value.Rows * value.Columns;
        if (_rows.Length < size)
            _rows = new float[size];
        call.Device.Read(value, _rows.AsSpan(0, size));
        NotFiniteException.Refuse(_rows.AsSpan(0, size), value.Columns, _input, position);
    }
}

using KernelScope.Devices;

namespace KernelScope.Hooks;

/// <summary>Called in the forward pass with the values at a hook point; it may read them, launch more ops on them, and edit them in place.</summary>
/// <param name="device">The device that holds the values.</param>
/// <param name="point">Where.</param>
/// <param name="position">Position of the first row in its sequence.</param>
/// <param name="value">One row for each token of this call, on the device; valid during the call only.</param>
public delegate void Hook(Device device, HookPoint point, int position, Mat value);

/// <summary>The hooks of a session. A hook point that nobody listens at costs one array read.</summary>
/// <remarks>
/// Hooks at one point run in the order in which they were added, so that a capture sees the edits before it and not those after it.
/// A point of a layer that the model does not have is refused when it is added, not ignored when it does not fire.
/// </remarks>
public sealed class HookSet
{
    private static readonly int SiteCount = (int)Site.Logits + 1;
    private readonly Hook?[] _armed;
    private readonly int _layerCount;

    /// <summary>Room for the hook points of a model with <paramref name="layerCount"/> layers.</summary>
    public HookSet(int layerCount)
    {
        _layerCount = layerCount;
        _armed = new Hook?[layerCount * SiteCount];
    }

    /// <summary>Adds a hook until the result is disposed.</summary>
    public IDisposable Add(HookPoint point, Hook hook)
    {
        ArgumentNullException.ThrowIfNull(hook);
        if (point.Layer < 0 || point.Layer >= _layerCount)
            throw new ArgumentOutOfRangeException(nameof(point), $"Hook point {point}: the model has layers 0 to {_layerCount - 1}.");
        int slot = Slot(point.Site, point.Layer);
        _armed[slot] += hook;
        return new Armed(this, slot, hook);
    }

    /// <summary>Whether anybody listens at a site of a layer.</summary>
    public bool Listens(Site site, int layer = 0) => _armed[Slot(site, layer)] is not null;

    /// <summary>Calls the hooks at a site of a layer, if any.</summary>
    public void Fire(Device device, Site site, int layer, int position, Mat value) =>
        _armed[Slot(site, layer)]?.Invoke(device, new(site, layer), position, value);

    private static int Slot(Site site, int layer) => (layer * SiteCount) + (int)site;

    private sealed class Armed(HookSet set, int slot, Hook hook) : IDisposable
    {
        private Hook? _hook = hook;

        public void Dispose()
        {
            set._armed[slot] -= _hook;
            _hook = null;
        }
    }
}

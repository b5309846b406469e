using KernelScope.Devices;

namespace KernelScope.Hooks;

/// <summary>The forward call in which hooks fire.</summary>
/// <remarks>For one caller at a time.</remarks>
public sealed class HookCall
{
    private int[] _tokens = [];
    private int _count;

    /// <summary>The device that holds the values.</summary>
    public Device Device { get; private set; } = null!;

    /// <summary>Position of the first row in its sequence.</summary>
    public int Position { get; private set; }

    /// <summary>The tokens of this call, one for each row.</summary>
    public ReadOnlySpan<int> Tokens => _tokens.AsSpan(0, _count);

    /// <summary>Heads of the model, by which rows over keys are divided.</summary>
    internal int HeadCount { get; set; } = 1;

    internal void Begin(Device device, ReadOnlySpan<int> tokens, int position)
    {
        if (_tokens.Length < tokens.Length)
            _tokens = new int[tokens.Length];
        tokens.CopyTo(_tokens);
        _count = tokens.Length;
        Device = device;
        Position = position;
    }
}

/// <summary>Called in the forward pass with the values at a hook point; it may read them, launch more ops on them, and edit them in place.</summary>
/// <param name="call">Device, tokens and position.</param>
/// <param name="point">Where.</param>
/// <param name="value">One row for each token of the call, on the device; valid during the call only.</param>
public delegate void Hook(HookCall call, HookPoint point, Mat value);

/// <summary>The hooks of a session. A hook point that nobody listens at costs one array read.</summary>
/// <remarks>
/// Hooks at one point run in the order in which they were added, so that a capture sees the edits before it and not those after it.
/// What can never fire is refused when it is added, not ignored when it does not fire. For one caller at a time, as its session is.
/// </remarks>
/// <example>
/// <code>
/// // Takes away what layer 5's MLP would add to the stream.
/// using (session.Hooks.Add(HookPoint.Parse("mlp_out_post.5"),
///     (call, point, value) => call.Device.Write(new float[value.Rows * value.Columns], value)))
/// {
///     session.Prefill(tokens);
/// }
/// </code>
/// </example>
public sealed class HookSet
{
    private static readonly int SiteCount = HookPoint.SiteCount;
    private readonly HookCall _call = new();
    private Hook?[] _armed = []; // empty until somebody listens
    private readonly int _layerCount;

    /// <summary>Room for the hook points of a model with <paramref name="layerCount"/> layers.</summary>
    public HookSet(int layerCount)
    {
        _layerCount = layerCount;
    }

    /// <summary>Raised when the session goes back: positions from the given one on no longer belong to the sequence.</summary>
    internal event Action<int>? Rewound;

    /// <summary>Adds a hook until the result is disposed.</summary>
    /// <param name="point">Where.</param>
    /// <param name="hook">What is called.</param>
    /// <exception cref="ArgumentOutOfRangeException">The hook could never fire: the model has no such layer, there is no such site, or the site belongs to no layer and one was named.</exception>
    public IDisposable Add(HookPoint point, Hook hook)
    {
        ArgumentNullException.ThrowIfNull(hook);
        if ((uint)point.Site >= (uint)SiteCount)
            throw new ArgumentOutOfRangeException(nameof(point), $"There is no site {(int)point.Site}: a hook there would never fire.");
        if (!HookPoint.IsPerLayer(point.Site) && point.Layer != 0)
            throw new ArgumentOutOfRangeException(nameof(point), $"'{HookPoint.NameOf(point.Site)}' belongs to no layer, so a hook at " +
                $"layer {point.Layer} of it would never fire.");
        if (point.Layer < 0 || point.Layer >= _layerCount)
            throw new ArgumentOutOfRangeException(nameof(point), $"There is no hook point {point}: the model has layers 0 to " +
                $"{_layerCount - 1}.");
        int slot = Slot(point.Site, point.Layer);
        if (_armed.Length == 0)
            _armed = new Hook?[_layerCount * SiteCount];
        _armed[slot] += hook;
        return new Armed(this, slot, hook);
    }

    /// <summary>Whether anybody listens at a site of a layer.</summary>
    public bool Listens(Site site, int layer = 0) => _armed.Length > 0 && _armed[Slot(site, layer)] is not null;

    /// <summary>Says what the following <see cref="Fire"/>s belong to.</summary>
    internal void Begin(Device device, ReadOnlySpan<int> tokens, int position) => _call.Begin(device, tokens, position);

    /// <summary>Calls the hooks at a site of a layer, if any.</summary>
    internal void Fire(Site site, int layer, Mat value)
    {
        if (_armed.Length > 0)
            _armed[Slot(site, layer)]?.Invoke(_call, new(site, layer), value);
    }

    /// <summary>As <see cref="Fire"/>, for rows that hold <paramref name="heads"/> times one value a key.</summary>
    internal void FireOverKeys(Site site, int layer, Mat value, int heads)
    {
        _call.HeadCount = heads;
        Fire(site, layer, value);
    }

    /// <summary>Tells captures that the sequence now ends before <paramref name="position"/>.</summary>
    internal void Rewind(int position) => Rewound?.Invoke(position);

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

using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Hooks;

/// <summary>Copies the values at hook points to the host, position by position: what a run looked like inside.</summary>
/// <remarks>
/// It holds the whole sequence however it was chunked, every generated token that has been fed included. <see cref="Model.Session.Reset"/> and <see cref="Model.Session.Rewind"/> drop the rows that they take back.
/// For one caller at a time, as the session is.
/// </remarks>
/// <example>
/// <code>
/// using var cache = new ActivationCache(session.Hooks, [HookPoint.Parse("resid_post.20"), HookPoint.Parse("z.3")]);
/// session.Prefill(tokens);
/// ReadOnlySpan&lt;float> stream = cache.Values(HookPoint.Parse("resid_post.20"));   // [tokens, d_model]
/// </code>
/// </example>
public sealed class ActivationCache : IDisposable
{
    private readonly Dictionary<HookPoint, CapturedRows> _captured = [];
    private readonly List<IDisposable> _hooks = [];
    private readonly HookSet _set;

    /// <summary>Listens at the given points until disposed; what was captured stays.</summary>
    /// <param name="hooks">A session's hooks.</param>
    /// <param name="points">What to capture.</param>
    /// <param name="tokens">How many positions are expected, so that room is made once; more are taken too.</param>
    public ActivationCache(HookSet hooks, IEnumerable<HookPoint> points, int tokens = 0)
    {
        ArgumentNullException.ThrowIfNull(hooks);
        ArgumentNullException.ThrowIfNull(points);
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        _set = hooks;
        foreach (HookPoint point in points)
        {
            if (_captured.TryAdd(point, new CapturedRows(point, tokens)))
                _hooks.Add(hooks.Add(point, Capture));
        }

        hooks.Rewound += Rewind;
    }

    /// <summary>The points, in the order in which they were asked for.</summary>
    public IReadOnlyCollection<HookPoint> Points => _captured.Keys;

    /// <summary>
    /// The values at a point, [tokens, width]; for <see cref="Site.AttnScores"/> and <see cref="Site.AttnPattern"/> [heads, tokens, tokens], put together at every call, with −∞ or 0 where the mask is.
    /// </summary>
    /// <exception cref="ArgumentException">The point was not asked for.</exception>
    public ReadOnlySpan<float> Values(HookPoint point) => HookPoint.IsOverKeys(point.Site) ? Of(point).Square() : Of(point).Values;

    /// <summary>The values of one position's row, [width].</summary>
    /// <param name="point">Where.</param>
    /// <param name="row">The row; row 0 is position <see cref="FirstPosition"/>. At <see cref="Site.AttnScores"/> and <see cref="Site.AttnPattern"/> it holds, head by head, one value for each key that there was in its call.</param>
    /// <exception cref="ArgumentException">The point was not asked for.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such row.</exception>
    public ReadOnlySpan<float> Row(HookPoint point, int row) => Of(point).Row(row);

    /// <summary>Number of rows at a point: the tokens fed since the capture began.</summary>
    /// <exception cref="ArgumentException">The point was not asked for.</exception>
    public int Rows(HookPoint point) => Of(point).Count;

    /// <summary>The position of row 0 at a point: 0 unless the capture began in the middle of a sequence.</summary>
    /// <exception cref="ArgumentException">The point was not asked for.</exception>
    public int FirstPosition(HookPoint point) => Of(point).FirstPosition;

    /// <summary>Values in a row at a point; 0 before there is one. At <see cref="Site.AttnScores"/> and <see cref="Site.AttnPattern"/>, of the last row.</summary>
    /// <exception cref="ArgumentException">The point was not asked for.</exception>
    public int Width(HookPoint point) => Of(point).Width;

    /// <summary>Forgets the rows so far; the next call's are the first.</summary>
    public void Clear()
    {
        foreach (CapturedRows captured in _captured.Values)
            captured.Keep(0);
    }

    /// <summary>Adds an f32 array for each point to an npz file: [tokens, width]; [tokens, heads, d_head] for q, k and v, before RoPE too; [heads, tokens, tokens] for scores and patterns.</summary>
    public void AddTo(NpzWriter writer, int headDim)
    {
        ArgumentNullException.ThrowIfNull(writer);
        foreach ((HookPoint point, CapturedRows captured) in _captured)
        {
            long[] shape = point.Site switch
            {
                Site.Q or Site.K or Site.V or Site.QPreRope or Site.KPreRope => [captured.Count, captured.Width / headDim, headDim],
                Site.AttnScores or Site.AttnPattern => [captured.Heads, captured.Count, captured.Count],
                _ => [captured.Count, captured.Width],
            };
            writer.Add(point.ToString(), Values(point), shape);
        }
    }

    /// <summary>Stops listening; what was captured stays.</summary>
    public void Dispose()
    {
        _set.Rewound -= Rewind;
        foreach (IDisposable hook in _hooks)
            hook.Dispose();
        _hooks.Clear();
    }

    private CapturedRows Of(HookPoint point) =>
        _captured.TryGetValue(point, out CapturedRows? captured) ? captured
            : throw new ArgumentException($"{point} is not captured; there are {string.Join(", ", _captured.Keys)}.", nameof(point));

    private void Capture(HookCall call, HookPoint point, Mat value) => _captured[point].Take(call, value);

    private void Rewind(int position)
    {
        foreach (CapturedRows captured in _captured.Values)
            captured.Keep(Math.Max(0, position - captured.FirstPosition));
    }
}

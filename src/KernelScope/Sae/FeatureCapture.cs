using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Sae;

/// <summary>Encodes what passes a site and keeps the codes of the whole sequence on the host: which features fire on which token.</summary>
/// <remarks>
/// Rows come with every forward call: a prompt in chunks, then every generated token once it has been fed. <see cref="Model.Session.Reset"/> and <see cref="Model.Session.Rewind"/> drop the rows that they take back.
/// For one caller at a time, as the session is.
/// </remarks>
/// <example>
/// <code>
/// using var capture = new FeatureCapture(session.Hooks, sae, HookPoint.Parse("resid_post.20"));
/// session.Prefill(tokens);
/// for (int t = 0; t &lt; capture.Codes.Rows; t++)
///     Console.WriteLine($"token {t}: features {string.Join(", ", capture.Codes.FeaturesOf(t).ToArray())}");
/// </code>
/// </example>
public sealed class FeatureCapture : IDisposable
{
    private readonly HookSet _hooks;
    private readonly JumpReluSae _sae;
    private readonly SparseCodes _codes;
    private readonly CodeList _call = new();
    private readonly IDisposable _hook;
    private readonly FiniteInput _finite;

    /// <summary>Listens at a site until disposed.</summary>
    public FeatureCapture(HookSet hooks, JumpReluSae sae, HookPoint site)
    {
        ArgumentNullException.ThrowIfNull(hooks);
        ArgumentNullException.ThrowIfNull(sae);
        _hooks = hooks;
        _sae = sae;
        _codes = sae.CreateCodes();
        _finite = new FiniteInput(site);
        _hook = hooks.Add(site, Encode);
        hooks.Rewound += Rewind;
    }

    /// <summary>The codes, one row a token of the sequence; row 0 is position <see cref="FirstPosition"/>. What was captured stays after <see cref="Dispose"/>.</summary>
    public CodeList Codes { get; } = new();

    /// <summary>The position of row 0: 0 unless the capture began in the middle of a sequence.</summary>
    public int FirstPosition { get; private set; }

    /// <summary>Forgets the rows so far; the next call's are the first.</summary>
    public void Clear() => Codes.Clear();

    /// <inheritdoc/>
    public void Dispose()
    {
        _hooks.Rewound -= Rewind;
        _hook.Dispose();
        _codes.Dispose();
    }

    private void Encode(HookCall call, HookPoint point, Mat value)
    {
        _sae.Encode(value, _codes);
        call.Device.Read(_codes, _call);
        _finite.Require(call, value, _call);
        Rewind(call.Position);
        // After Clear, or where positions were skipped, the rows begin anew.
        if (Codes.Rows == 0 || call.Position != FirstPosition + Codes.Rows)
        {
            Codes.Clear();
            FirstPosition = call.Position;
        }

        Codes.Append(_call);
    }

    private void Rewind(int position)
    {
        int kept = Math.Max(0, position - FirstPosition);
        if (kept < Codes.Rows)
            Codes.Truncate(kept);
    }
}

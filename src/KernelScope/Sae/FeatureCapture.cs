using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Sae;

/// <summary>Encodes what passes a site and keeps the codes of the last call on the host: which features fire on which token.</summary>
public sealed class FeatureCapture : IDisposable
{
    private readonly JumpReluSae _sae;
    private readonly SparseCodes _codes;
    private readonly IDisposable _hook;

    /// <summary>Listens at a site until disposed.</summary>
    public FeatureCapture(HookSet hooks, JumpReluSae sae, HookPoint site)
    {
        ArgumentNullException.ThrowIfNull(hooks);
        ArgumentNullException.ThrowIfNull(sae);
        _sae = sae;
        _codes = sae.CreateCodes();
        _hook = hooks.Add(site, Encode);
    }

    /// <summary>The codes of the last forward call, one row a token.</summary>
    public CodeList Codes { get; } = new();

    /// <inheritdoc/>
    public void Dispose()
    {
        _hook.Dispose();
        _codes.Dispose();
    }

    private void Encode(HookCall call, HookPoint point, Mat value)
    {
        _sae.Encode(value, _codes);
        call.Device.Read(_codes, Codes);
        Codes.RequireFinite($"the features at {point}", call.Position);
    }
}

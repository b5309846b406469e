using KernelScope.Devices;
using KernelScope.Hooks;

namespace KernelScope.Sae;

/// <summary>What replaces the activation at an SAE's site.</summary>
public enum SpliceMode
{
    /// <summary>Nothing does; only edits act.</summary>
    None,

    /// <summary>The reconstruction x̂.</summary>
    Sae,

    /// <summary>x̂ + (x − x̂): the same value up to rounding, through the SAE.</summary>
    SaePlusError,

    /// <summary>Zero.</summary>
    Zero,

    /// <summary>A given vector, usually the mean activation.</summary>
    Mean,
}

/// <summary>Replaces, steers, clamps and ablates at an SAE's site, on the device, in every forward call of a session: prefill and cached steps alike.</summary>
/// <remarks>
/// At each included position: y ← splice(y), then y += c_e·W_dec[f_e] for each edit, with c_e the strength of a steer or (target − f(x)) of a clamp;
/// f(x) comes from the value before the splice. For a transcoder x is read at its input site and y lies at its output site.
/// For one caller at a time, as its session is.
/// </remarks>
/// <example>
/// <code>
/// // Feature 8421 is held at 60 at every token but &lt;bos>; what the SAE does not explain stays as it is.
/// HookPoint site = HookPoint.Parse("resid_post.20");
/// using var splice = new SaeSplice(session.Hooks, sae, site, site, SpliceMode.None, Positions.AllBut(model.Config.BosId),
///     [FeatureEdit.Clamp(8421, 60)]);
/// session.Prefill(tokens);
/// </code>
/// </example>
public sealed class SaeSplice : IDisposable
{
    private readonly JumpReluSae _sae;
    private readonly SpliceMode _mode;
    private readonly Positions _where;
    private readonly FeatureEdit[] _edits;
    private readonly Mat _constant;
    private readonly SparseCodes _codes;
    private readonly List<IDisposable> _hooks = [];
    private readonly bool _twoSites;
    private GrowingMat _input;
    private GrowingMat _reconstruction;

    /// <summary>Arms the splice on a session's hooks until it is disposed.</summary>
    /// <param name="hooks">The session's hooks.</param>
    /// <param name="sae">The SAE; it outlives the splice.</param>
    /// <param name="site">Where it reads.</param>
    /// <param name="siteOut">Where its output belongs: <paramref name="site"/>, or a transcoder's output site.</param>
    /// <param name="mode">What replaces the activation.</param>
    /// <param name="where">At which positions.</param>
    /// <param name="edits">Changes of features.</param>
    /// <param name="mean">The vector of <see cref="SpliceMode.Mean"/>.</param>
    public SaeSplice(HookSet hooks, JumpReluSae sae, HookPoint site, HookPoint siteOut, SpliceMode mode, Positions where,
        IReadOnlyList<FeatureEdit> edits, ReadOnlySpan<float> mean = default)
    {
        ArgumentNullException.ThrowIfNull(hooks);
        ArgumentNullException.ThrowIfNull(sae);
        ArgumentNullException.ThrowIfNull(edits);
        foreach (FeatureEdit edit in edits)
        {
            if ((uint)edit.Feature >= (uint)sae.FeatureCount)
                throw new ArgumentException($"Feature {edit.Feature} is outside the SAE's width: it has features 0 to " +
                    $"{sae.FeatureCount - 1}.");
            if (!float.IsFinite(edit.Value))
                throw new ArgumentException($"The value {edit.Value} for feature {edit.Feature} is not a number.");
        }

        if (mode == SpliceMode.Mean && mean.Length != sae.Parameters.OutputDim)
            throw new ArgumentException($"The mean has {mean.Length} values; the site has {sae.Parameters.OutputDim}.");
        _sae = sae;
        _mode = mode;
        _where = where;
        _edits = [.. edits];
        _codes = sae.CreateCodes();
        _input = new GrowingMat(sae.Device, sae.Parameters.InputDim, "splice input");
        _reconstruction = new GrowingMat(sae.Device, sae.Parameters.OutputDim, "reconstruction");
        _constant = sae.Device.CreateMat(1, sae.Parameters.OutputDim, "splice constant");
        if (mode == SpliceMode.Mean)
            sae.Device.Write(mean, _constant);
        _twoSites = site != siteOut;
        if (_twoSites)
            _hooks.Add(hooks.Add(site, (_, _, x) => Remember(x)));
        _hooks.Add(hooks.Add(siteOut, Act));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDisposable hook in _hooks)
            hook.Dispose();
        _hooks.Clear();
        _codes.Dispose();
        _constant.Buffer.Dispose();
        _input.Dispose();
        _reconstruction.Dispose();
    }

    private void Remember(Mat x) => _sae.Device.Copy(x, _input.WithRows(x.Rows));

    private void Act(HookCall call, HookPoint point, Mat value)
    {
        if (!_twoSites && _mode != SpliceMode.None)
            Remember(value);
        Mat input = !_twoSites && _mode == SpliceMode.None ? value : _input.WithRows(value.Rows);
        for ((int start, int count) = _where.NextRun(call, 0); count > 0; (start, count) = _where.NextRun(call, start + count))
            Act(call.Device, input.RowRange(start, count), value.RowRange(start, count));
    }

    private void Act(Device device, Mat x, Mat y)
    {
        switch (_mode)
        {
            case SpliceMode.Sae:
                Reconstruct(x, y);
                break;
            case SpliceMode.SaePlusError:
                _sae.Encode(x, _codes);
                _sae.DecodePlusError(_codes, x, _reconstruction.WithRows(x.Rows), y);
                break;
            case SpliceMode.Zero or SpliceMode.Mean:
                for (int r = 0; r < y.Rows; r++)
                    device.Copy(_constant, y.RowRange(r, 1));
                break;
        }

        _sae.Edit(x, _edits, y);
    }

    private void Reconstruct(Mat x, Mat destination)
    {
        _sae.Encode(x, _codes);
        _sae.Decode(_codes, x, destination);
    }
}

using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Runtime;

/// <summary>Encodes what passes an SAE's site and keeps the features that a report asks for, row by row. Of one sequence.</summary>
internal sealed class FeatureTap(EngineSae sae, FeatureReport report) : IDisposable
{
    private readonly List<SaeFeatures> _rows = [];
    private readonly CodeList _list = new();
    private readonly FiniteInput _finite = new(sae.Site);
    private SparseCodes? _codes;
    private IDisposable? _hook;

    /// <summary>Number of layers that must run for it.</summary>
    public int LayersNeeded => ModelSites.LayersNeededFor(sae.Site);

    /// <summary>The features of each row that passed.</summary>
    public IReadOnlyList<SaeFeatures> Rows => _rows;

    public void Arm(HookSet hooks)
    {
        _codes = sae.Sae.CreateCodes();
        _hook = hooks.Add(sae.Site, Encode);
    }

    /// <summary>The features of the last row that passed; the others are forgotten.</summary>
    public SaeFeatures OfLastRow()
    {
        SaeFeatures last = _rows[^1];
        _rows.Clear();
        return last;
    }

    public void Dispose()
    {
        _hook?.Dispose();
        _codes?.Dispose();
    }

    private void Encode(HookCall call, HookPoint point, Mat value)
    {
        sae.Sae.Encode(value, _codes!);
        call.Device.Read(_codes!, _list);
        _finite.Require(call, value, _list);
        for (int r = 0; r < value.Rows; r++)
            _rows.Add(new SaeFeatures { Sae = report.Sae, Top = Strongest(_list.FeaturesOf(r), _list.ValuesOf(r)) });
    }

    private FeatureActivation[] Strongest(ReadOnlySpan<int> features, ReadOnlySpan<float> values)
    {
        var active = new List<FeatureActivation>(Math.Min(features.Length, 64));
        for (int i = 0; i < features.Length; i++)
        {
            if (values[i] >= report.MinActivation)
                active.Add(new FeatureActivation { Feature = features[i], Activation = values[i] });
        }

        active.Sort((a, b) => a.Activation != b.Activation ? b.Activation.CompareTo(a.Activation) : a.Feature.CompareTo(b.Feature));
        return [.. active.Take(report.Top)];
    }
}

using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>The SAEs of a command, each with what happens at its site. One that is named twice at one site is loaded once.</summary>
internal sealed class SaeStack : IDisposable
{
    private readonly List<Entry> _entries = [];
    private readonly List<LoadedSae> _saes = [];
    private readonly List<IDisposable> _armed = [];
    private readonly ModelFiles _model;

    private SaeStack(ModelFiles model) => _model = model;

    /// <summary>SAE and edits, in the order of the command line.</summary>
    public IReadOnlyList<Entry> Entries => _entries;

    /// <summary>Each SAE once.</summary>
    public IReadOnlyList<LoadedSae> Saes => _saes;

    /// <summary>The files that are read, for SAEs and for means.</summary>
    public IEnumerable<string> InputPaths =>
        [.. Saes.SelectMany(s => s.Files.InputPaths), .. Entries.Select(e => e.Edits.MeanFrom).OfType<string>()];

    /// <summary>Bytes of the parameters.</summary>
    public long Bytes => Saes.Sum(s => s.Files.Bytes);

    /// <summary>Bytes that packed encoders take besides.</summary>
    public long PackedBytes => Saes.Sum(s => s.Files.PackedBytes);

    /// <summary>Opens the files and settles where they belong; brings nothing to a device.</summary>
    /// <param name="uses">What was asked for.</param>
    /// <param name="model">The model.</param>
    /// <exception cref="WorkException">One does not fit the model, or an edit not its SAE.</exception>
    public static SaeStack Open(IEnumerable<SaeUse> uses, ModelFiles model)
    {
        var stack = new SaeStack(model);
        try
        {
            foreach (SaeUse use in uses)
            {
                LoadedSae sae = stack.Find(use) ?? stack.Add(use);
                stack._entries.Add(new Entry(sae, use.Edits));
                use.Edits.Check(sae.Files);
                if (use.Edits.MeanFrom is string path)
                    stack._entries[^1].Mean = MeanSource.Open(path, sae.Files.SiteOut, model);
            }

            return stack;
        }
        catch
        {
            stack.Dispose();
            throw;
        }
    }

    /// <summary>Refuses edits at positions that there will not be.</summary>
    /// <param name="count">Number of positions that there can be.</param>
    public void CheckPositions(int count)
    {
        foreach (Entry entry in _entries)
            entry.Edits.Where.Check(count);
    }

    /// <summary>Brings the parameters to the device, until the result is disposed: before the device is. What <see cref="Arm"/> has armed goes with them.</summary>
    /// <param name="device">Where.</param>
    /// <param name="pack">Whether encoders are packed in memory, where the device computes from panels: for work that encodes row after row.</param>
    public IDisposable Load(Device device, bool pack = false)
    {
        var loaded = new OnDevice(this);
        try
        {
            foreach (LoadedSae sae in Saes)
                sae.Load(device, pack);
            return loaded;
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <summary>Arms the edits on a session, in their order.</summary>
    /// <param name="session">The session.</param>
    /// <param name="promptLength">Tokens of the prompt.</param>
    /// <param name="streams">Where progress goes.</param>
    /// <param name="cancellation">Cancels the run that a mean needs.</param>
    /// <param name="strength">The strength of steers; null: their own.</param>
    public void Arm(Session session, int promptLength, Streams streams, CancellationToken cancellation, float? strength = null)
    {
        foreach (Entry entry in _entries.Where(e => !e.Edits.AreNone))
        {
            SaeFiles files = entry.Sae.Files;
            float[] mean = entry.Mean?.Of(session.Model, streams, cancellation) ?? [];
            FeatureEdit[] edits = [.. entry.Edits.Features.Select(e => e.Kind == FeatureEditKind.Add && strength is float given
                ? e with { Value = given } : e)];
            _armed.Add(new SaeSplice(session.Hooks, entry.Sae.Sae, files.Site, files.SiteOut, entry.Edits.Mode,
                entry.Edits.Where.Of(_model.BosId, promptLength), edits, mean));
        }
    }

    /// <summary>Takes the edits off again.</summary>
    public void Disarm()
    {
        _armed.ForEach(splice => splice.Dispose());
        _armed.Clear();
    }

    public void Dispose()
    {
        foreach (LoadedSae sae in Saes)
            sae.Files.Dispose();
    }

    private LoadedSae Add(SaeUse use)
    {
        var sae = new LoadedSae(SaeOptions.Open(use.Name, use.Site, use.SiteOut, _model), use);
        _saes.Add(sae);
        return sae;
    }

    private LoadedSae? Find(SaeUse use) => _saes.Find(s => s.Use.Name == use.Name && s.Use.Site == use.Site
        && s.Use.SiteOut == use.SiteOut);

    /// <summary>What happens at the site of one SAE.</summary>
    internal sealed class Entry(LoadedSae sae, Edits edits)
    {
        public LoadedSae Sae { get; } = sae;

        public Edits Edits { get; } = edits;

        /// <summary>Where the mean comes from, if one is needed.</summary>
        public MeanSource? Mean { get; set; }
    }

    /// <summary>An SAE's files and, once they are on a device, the SAE.</summary>
    internal sealed class LoadedSae(SaeFiles files, SaeUse use)
    {
        private JumpReluSae? _sae;

        public SaeFiles Files { get; } = files;

        public SaeUse Use { get; } = use;

        public JumpReluSae Sae => _sae ?? throw new InvalidOperationException("the SAE is not on the device.");

        /// <summary>The SAE and where it belongs; it is on the device.</summary>
        public SaeTarget Target => new(Files.Name, Sae, Files.Site, Files.SiteOut);

        public void Load(Device device, bool pack) => _sae = Files.Load(device, pack);

        public void Unload()
        {
            _sae?.Dispose();
            _sae = null;
        }
    }

    /// <summary>What is on the device.</summary>
    private sealed class OnDevice(SaeStack stack) : IDisposable
    {
        public void Dispose()
        {
            stack.Disarm();
            foreach (LoadedSae sae in stack.Saes)
                sae.Unload();
        }
    }
}

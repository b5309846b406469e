using System.CommandLine;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>
/// What a verb works with. Every verb opens it in this order: the model's files, the files of SAEs and their places in the model
/// (<see cref="AddSae"/>, <see cref="AddSaes"/>), then the device (<see cref="OpenDevice"/>), the weights and the SAEs' parameters
/// (<see cref="LoadWeights"/>; <see cref="Load"/> does both), then sessions and edits (<see cref="Arm"/>).
/// </summary>
/// <remarks>
/// Nothing is brought to a device before all files are checked and are known to fit into memory: what is wrong is said before the long
/// part. Disposing gives everything back in the opposite order. Warnings go to standard error as they are found (<see
/// cref="Streams.Warn"/>), progress too. For one thread at a time.
/// </remarks>
internal sealed class Workbench : IDisposable
{
    private readonly ParseResult _parsed;
    private readonly Stack<IDisposable> _opened = [];
    private readonly List<SaeFiles> _saes = [];
    private readonly List<EditedSae> _edited = [];
    private readonly List<SaeSplice> _armed = [];
    private ModelFiles? _files;
    private Device? _device;
    private Gemma2Model? _model;

    private Workbench(ParseResult parsed, Verb verb)
    {
        (_parsed, Verb) = (parsed, verb);
        (DeviceName, Precision) = (verb.Common.DeviceOf(parsed), verb.Common.PrecisionOf(parsed));
        (Threads, Cancellation) = (verb.Common.ThreadsOf(parsed), verb.Cancellation);
    }

    /// <summary>The verb, with its streams.</summary>
    public Verb Verb { get; }

    /// <summary>Ends what takes long; at first by Ctrl+C alone.</summary>
    public CancellationToken Cancellation { get; set; }

    /// <summary>The device's name; at first that of --device.</summary>
    public string DeviceName { get; set; }

    /// <summary>Precision of the model's products; at first that of --precision.</summary>
    public Precision Precision { get; set; }

    /// <summary>Precision of SAE encoders.</summary>
    public Precision SaePrecision { get; set; } = Precision.Exact;

    /// <summary>Threads of the cpu; 0: one for each core. At first those of --threads.</summary>
    public int Threads { get; set; }

    /// <summary>Which packed weights are used.</summary>
    public PanelUse Panels { get; set; } = PanelUse.Exact;

    /// <summary>Whether SAE encoders are packed in memory, where the device computes from panels: for work that encodes row after row.</summary>
    public bool PacksSaes { get; set; }

    /// <summary>Whether the device is watched op by op.</summary>
    public bool IsProfiled { get; set; }

    /// <summary>The model's files.</summary>
    public ModelFiles Files => _files ?? throw new InvalidOperationException("no model was opened.");

    /// <summary>The SAEs, each once.</summary>
    public IReadOnlyList<SaeFiles> Saes => _saes;

    /// <summary>SAEs and edits, in the order of the command line.</summary>
    public IReadOnlyList<EditedSae> Edited => _edited;

    /// <summary>The device, or the one that watches it.</summary>
    public Device Device => _device ?? throw new InvalidOperationException("the device is not open.");

    /// <summary>The model on the device.</summary>
    public Gemma2Model Model => _model ?? throw new InvalidOperationException("the model is not on the device.");

    /// <summary>What the weights need.</summary>
    public (string, long) Weights => ("weights", Files.WeightBytesOn(DeviceName, Panels));

    /// <summary>Bytes of the SAEs' parameters.</summary>
    public long SaeBytes => _saes.Sum(s => s.Bytes);

    /// <summary>All files that are read, those of means with them.</summary>
    public IEnumerable<string> InputPaths =>
    [
        .. _files?.InputPaths ?? [], .. _saes.SelectMany(s => s.InputPaths), .. _edited.Select(e => e.Edits.MeanFrom).OfType<string>(),
    ];

    /// <summary>Opens a model's files.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="verb">The verb.</param>
    /// <param name="model">Which model; null: that of --model.</param>
    /// <exception cref="InvalidDataException">A file is missing or malformed.</exception>
    public static Workbench Open(ParseResult parsed, Verb verb, string? model = null) => WithoutModel(parsed, verb)
        .Add(ModelFiles.Open(model ?? verb.Common.ModelOf(parsed), verb.Common.NoMapOf(parsed)));

    /// <summary>Begins without a model: for SAEs alone, or a model that comes later.</summary>
    public static Workbench WithoutModel(ParseResult parsed, Verb verb) => new(parsed, verb);

    /// <summary>Takes a model's files, and disposes them at the end.</summary>
    public Workbench Add(ModelFiles files)
    {
        _files = Own(files);
        return this;
    }

    /// <summary>Takes an SAE whose place is known or not needed, and disposes it at the end.</summary>
    public SaeFiles Add(SaeFiles sae)
    {
        _saes.Add(Own(sae));
        return sae;
    }

    /// <summary>Opens an SAE by name, or the demo's own, and settles where it belongs in the model.</summary>
    /// <exception cref="UsageException">None was named, and the model has none by default.</exception>
    /// <exception cref="WorkException">There is none, or it does not fit the model.</exception>
    public SaeFiles AddSae(string? name, HookPoint? site = null, HookPoint? siteOut = null)
    {
        if (name is null && !Files.IsDemo)
            throw new UsageException($"an SAE is missing: --sae PATH (only the demo model has one by default).");
        SaeFiles sae = Own(SaeFiles.Open(name ?? Demo.DefaultSae, Files.IntoMemory));
        sae.Place(Files, site, siteOut);
        return Add(sae);
    }

    /// <summary>Opens SAEs with their edits. One that is named twice at one site is opened once.</summary>
    /// <exception cref="WorkException">One does not fit the model, or an edit not its SAE.</exception>
    public void AddSaes(IEnumerable<SaeUse> uses)
    {
        var known = new Dictionary<(string?, HookPoint?, HookPoint?), SaeFiles>();
        foreach (SaeUse use in uses)
        {
            if (!known.TryGetValue((use.Name, use.Site, use.SiteOut), out SaeFiles? sae))
                known.Add((use.Name, use.Site, use.SiteOut), sae = AddSae(use.Name, use.Site, use.SiteOut));
            use.Edits.Check(sae);
            MeanSource? mean = use.Edits.MeanFrom is string path ? MeanSource.Open(path, sae.SiteOut, Files) : null;
            _edited.Add(new EditedSae(sae, use.Edits, mean));
        }
    }

    /// <summary>Refuses edits at positions that there will not be.</summary>
    /// <param name="count">Number of positions that there can be.</param>
    public void CheckPositions(int count) => _edited.ForEach(e => e.Edits.Where.Check(count));

    /// <summary>Opens the device, if what will run on it fits into its memory.</summary>
    /// <param name="needs">What needs how many bytes.</param>
    /// <exception cref="WorkException">There is too little memory, or the device does not compute in the precision asked for.</exception>
    /// <exception cref="Cuda.Driver.CudaException">There is no such device, or too little memory on it.</exception>
    public void OpenDevice(params ReadOnlySpan<(string What, long Bytes)> needs)
    {
        Device device = Own(Verb.Common.OpenDevice(_parsed, Verb.Streams, DeviceName, Precision, SaePrecision, Threads, needs));
        _device = IsProfiled ? new ProfilingDevice(device) : device;
    }

    /// <summary>Brings the weights, if there is a model, and the SAEs' parameters to the device.</summary>
    public void LoadWeights()
    {
        if (_files is not null)
            LoadModel(_files);
        _saes.ForEach(sae => Own(sae.Load(Device, PacksSaes)));
    }

    /// <summary>Bytes of a session on the device.</summary>
    /// <param name="tokens">Of its context.</param>
    /// <param name="chunk">Of one call; 0: the device's own number.</param>
    public long ContextBytes(int tokens, int chunk = 0) =>
        Session.BytesFor(Files.Config, tokens, chunk == 0 ? CommonOptions.ChunkOn(DeviceName) : chunk, Verb.Common.KvOf(_parsed));

    /// <summary>Opens the device and brings all to it.</summary>
    /// <param name="needs">What needs how many bytes.</param>
    public void Load(params ReadOnlySpan<(string What, long Bytes)> needs)
    {
        OpenDevice(needs);
        LoadWeights();
    }

    /// <summary>Arms the edits on a session, in their order.</summary>
    /// <param name="session">The session.</param>
    /// <param name="promptLength">Tokens of the prompt.</param>
    /// <param name="strength">The strength of steers; null: their own.</param>
    public void Arm(Session session, int promptLength, float? strength = null)
    {
        foreach ((SaeFiles sae, Edits edits, MeanSource? source) in _edited.Where(e => !e.Edits.AreNone))
        {
            float[] mean = source?.Of(session.Model, Verb.Streams, Cancellation) ?? [];
            FeatureEdit[] features = [.. edits.Features.Select(e => e.Kind == FeatureEditKind.Add && strength is float given
                ? e with { Value = given } : e)];
            _armed.Add(new SaeSplice(session.Hooks, sae.Sae, sae.Site, sae.SiteOut, edits.Mode,
                edits.Where.Of(Files.BosId, promptLength), features, mean));
        }
    }

    /// <summary>Takes the edits off again.</summary>
    public void Disarm()
    {
        _armed.ForEach(splice => splice.Dispose());
        _armed.Clear();
    }

    /// <summary>Disposes something after what is opened from now on, and before what was opened until now.</summary>
    public T Own<T>(T opened)
        where T : IDisposable
    {
        if (!_opened.Contains(opened))
            _opened.Push(opened);
        return opened;
    }

    public void Dispose()
    {
        Disarm();
        while (_opened.TryPop(out IDisposable? last))
            last.Dispose();
    }

    private void LoadModel(ModelFiles files)
    {
        Streams streams = Verb.Streams;
        if (Panels != PanelUse.None)
            PackedWeights.Use(files.Checkpoint, files.Name, Device, Panels, streams, Cancellation);
        string name = Printable.Escape(files.Name);
        if (files.Checkpoint.Unread is string unread)
            streams.Warn($"{name}: {unread}");
        using var progress = new Progress(streams, $"Loading {name}");
        _model = Own(Gemma2Model.Load(Device, files.Checkpoint, default, progress, Cancellation));
        _model.CacheType = Verb.Common.KvOf(_parsed);
        // The files are the model's now.
        files.HandOver();
    }
}

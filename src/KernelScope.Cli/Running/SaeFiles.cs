using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Hub.Catalog;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary>An SAE's files, opened and checked, and where it belongs in a model.</summary>
internal sealed class SaeFiles : IDisposable
{
    private readonly SaeCheckpoint _checkpoint;
    private HookPoint? _siteOut;
    private JumpReluSae? _sae;
    private bool _handedOver;

    private SaeFiles(string name, SaeCheckpoint checkpoint)
    {
        Name = name;
        _checkpoint = checkpoint;
    }

    /// <summary>The name or path that was given.</summary>
    public string Name { get; }

    public SaeConfig Config => _checkpoint.Config;

    public long Bytes => _checkpoint.TotalBytes;

    /// <summary>The files that it is read from, and those beside them that a reader of SAEs looks for.</summary>
    public IEnumerable<string> InputPaths => IsDemoName(Name) ? [] : _checkpoint.InputPaths;

    /// <summary>Bytes that its encoder takes once more if it is packed.</summary>
    public long PackedBytes => _checkpoint.Encoder.ByteLength;

    /// <summary>The hook point that the SAE reads.</summary>
    public HookPoint Site { get; private set; }

    /// <summary>Where edits act.</summary>
    /// <exception cref="WorkException">It is a transcoder, and nothing says where it writes.</exception>
    public HookPoint SiteOut => _siteOut ?? throw new WorkException($"{Name}: nothing says where this transcoder writes; give " +
        $"--site-out, e.g. --site-out mlp_out_post.{Site.Layer}.");

    /// <summary>Whether it is known where it writes.</summary>
    public bool HasSiteOut => _siteOut is not null;

    /// <summary>The SAE on the device.</summary>
    public JumpReluSae Sae => _sae ?? throw new InvalidOperationException("the SAE is not on the device.");

    /// <summary>The SAE on the device, and where it belongs.</summary>
    public SaeTarget Target => new(Name, Sae, Site, SiteOut);

    /// <summary>The directions of features, from the file.</summary>
    public SaeCheckpoint Checkpoint => _checkpoint;

    /// <summary>What is known of its features: labels that were given, else what the demo says of its own.</summary>
    public IReadOnlyDictionary<int, string> Meanings
    {
        get => field ??= IsDemoName(Name) ? Demo.Meanings(Name) : new Dictionary<int, string>();
        private set;
    }

    /// <summary>Features that fire on more than a fifth of all tokens, where that is known: of the demo's SAEs.</summary>
    public IReadOnlySet<int> Dense => field ??= Demo.DenseFeatures(IsDemoName(Name) ? Name : "");

    /// <summary>Takes labels, before what was known.</summary>
    public void Take(FeatureLabels labels, string modelId)
    {
        var all = new Dictionary<int, string>(labels.Meanings(modelId, SourceName.Of(this)));
        foreach ((int index, string text) in Meanings)
            all.TryAdd(index, text);
        Meanings = all;
    }

    /// <summary>Opens an SAE by path, by the name of one of the demo's, or by a name of the catalogue that is in the hub's cache.</summary>
    /// <param name="name">Which.</param>
    /// <param name="intoMemory">Whether it is read into memory, not mapped.</param>
    /// <exception cref="InvalidDataException">A file is missing or malformed, or the SAE is not supported.</exception>
    public static SaeFiles Open(string name, bool intoMemory = false)
    {
        if (name.Length == 0)
            throw new UsageException("--sae is empty; it needs a path or a name.");
        if (IsDemoName(name))
            return new SaeFiles(name, Demo.OpenSae(name));
        return new SaeFiles(name, SaeCheckpoint.Open(File.Exists(name) || Directory.Exists(name) ? name : FindCached(name),
            intoMemory));
    }

    /// <summary>The path in the hub's cache of an SAE that is given by a name of the catalogue.</summary>
    /// <exception cref="WorkException">There is no such name, or the file is not in the cache; the message says where it was looked for and what fetches it.</exception>
    public static string FindCached(string name)
    {
        if (!ReleaseCatalog.TryParse(name, out ReleasedSae? sae))
            throw new WorkException($"{name}: there is no such SAE, neither a file nor a folder nor one of the demo's " +
                $"({string.Join(", ", Demo.SaeNames)}){Near(name)}.");
        if (HubCache.FindFile(sae.Repository, sae.File, Environment.GetEnvironmentVariable) is string path)
            return path;
        string places = string.Join(", ", HubCache.Roots(Environment.GetEnvironmentVariable));
        string doubt = sae.IsListed ? "" : " (it is not in the catalogue, which may be incomplete; near " +
            $"it: {string.Join(", ", ReleaseCatalog.Near(name))})";
        throw new WorkException($"{name}: it is not in the hub's cache; looked for {sae.Repository}, {sae.File} in {places}; " +
            $"'kernelscope pull {sae.Name}' fetches it{doubt}.");
    }

    /// <summary>Settles where it reads and writes in a model.</summary>
    /// <exception cref="WorkException">Nothing says where, or it does not fit there.</exception>
    public void Place(ModelFiles model, HookPoint? site, HookPoint? siteOut)
    {
        Site = site ?? Own(Config.Site) ?? throw new WorkException(
            $"{Name}: nothing says where this SAE reads{(Config.SiteNote is string note ? $" ({note})" : "")}; give --site. It " +
            $"reads {Config.InputDim} values: {Sites.Fitting(model.Config, Config.InputDim)}.");
        Sites.Require(model, Site, Config.InputDim, $"{Name} reads");
        _siteOut = siteOut ?? (Config.IsTranscoder ? Own(Config.SiteOut) : Site);
        if (_siteOut is not HookPoint target)
            return;
        Sites.Require(model, target, Config.OutputDim, $"{Name} writes");
        if (Sites.Order(target) < Sites.Order(Site))
            throw new WorkException($"{Name} reads at {Site} and cannot write at {target}, which comes before it.");
    }

    /// <summary>Settles where it reads and writes among the sites of a run.</summary>
    /// <exception cref="WorkException">Nothing says where, or the run has no rows there.</exception>
    public void PlaceIn(IEnumerable<HookPoint> sites, HookPoint? site, HookPoint? siteOut)
    {
        Site = site ?? Own(Config.Site) ?? throw new WorkException($"{Name}: nothing says where this SAE reads; give --site.");
        _siteOut = siteOut ?? (Config.IsTranscoder ? Own(Config.SiteOut) : Site);
        foreach (HookPoint point in (HookPoint[])[Site, SiteOut])
        {
            if (!sites.Contains(point))
                throw new WorkException($"{Name} belongs to {point}, and the run has no rows of it; it has {string.Join(", ", sites)}.");
        }
    }

    /// <summary>Brings the parameters to a device; the SAE then owns them.</summary>
    /// <param name="device">Where.</param>
    /// <param name="pack">Whether the encoder is packed in memory, where the device computes from panels.</param>
    /// <exception cref="InvalidDataException">A parameter is not a finite number: the feature would silently never fire.</exception>
    public JumpReluSae Load(Device device, bool pack = false)
    {
        // A larger file is not read whole for that: it may take longer than the work.
        if (Bytes <= SaeCheckpoint.VerifyOnOpenLimit)
            FiniteParameters.Require(_checkpoint);
        else
            FiniteParameters.RequireVectors(_checkpoint);
        _sae = JumpReluSae.Load(device, _checkpoint, pack);
        _handedOver = true;
        return _sae;
    }

    /// <summary>Gives the files to somebody who disposes them.</summary>
    public SaeCheckpoint HandOver()
    {
        _handedOver = true;
        return _checkpoint;
    }

    public void Dispose()
    {
        if (!_handedOver)
            _checkpoint.Dispose();
    }

    // A path with a slip in it is like no name, and a list of names would be noise.
    private static string Near(string name) => name.Contains("gemma", StringComparison.OrdinalIgnoreCase)
        ? $"; the catalogue has no such name either, near it are {string.Join(", ", ReleaseCatalog.Near(name))}"
        : "";

    private static bool IsDemoName(string name) => Demo.SaeNames.Contains(name);

    private HookPoint? Own(string? name) => name is null ? null
        : HookPoint.TryParse(name, out HookPoint point) ? point
        : throw new WorkException($"{Name}: its site '{name}' is not a hook point here; give --site. It reads {Config.InputDim} values.");
}

using KernelScope.Files;

namespace KernelScope.Sae;

/// <summary>
/// An SAE's or transcoder's files, opened and checked: a Gemma Scope <c>params.npz</c>, a SAELens folder (<c>cfg.json</c>, <c>sae_weights.safetensors</c>), a Gemma Scope 2 folder (<c>config.json</c>,
/// <c>params.safetensors</c>), a sparsify folder (<c>cfg.json</c>, <c>sae.safetensors</c>), or a <c>layer_N.safetensors</c> of circuit-tracer with <c>config.yaml</c> beside it.
/// The arrays are views in the file's own type and order (F32, F16, BF16 or F64; a params.npz may be in Fortran order).
/// <para>
/// Arrays that are not known are refused, as SAELens refuses them: an array that nobody reads may be one that changes the numbers. (SAELens' loader for Gemma Scope transcoders ignores
/// them, but nothing in a params.npz tells a transcoder from an SAE of equal widths.) A <c>scaling_factor</c> of ones is dropped, as there; any other is refused.
/// </para>
/// </summary>
/// <remarks>Any number of threads may read it, load it and dispose it. The mapping lives until the checkpoint was disposed, or loaded, and every SAE that was loaded from it is disposed and has no op running.</remarks>
/// <example>
/// <code>
/// SaeCheckpoint files = SaeCheckpoint.Open("layer_20/width_16k/average_l0_71/params.npz");
/// Console.WriteLine($"{files.Config.Architecture}, {files.Config.FeatureCount} features, read at {files.Config.Site}");
/// using var sae = JumpReluSae.Load(device, files);         // from here on the SAE owns the files
/// </code>
/// </example>
public sealed class SaeCheckpoint : IDisposable
{
    /// <summary>The file in a SAELens folder that says what the SAE is.</summary>
    public const string ConfigName = "cfg.json";

    /// <summary>The weights in a SAELens folder.</summary>
    public const string WeightsName = "sae_weights.safetensors";

    /// <summary>File name of a Gemma Scope SAE.</summary>
    public const string ParamsName = "params.npz";

    /// <summary>
    /// A params.npz of at most this many bytes has its checksums verified on opening: half a second at most, and the bytes are about to be used. A larger one is not read twice;
    /// <see cref="Verify"/> and <c>inspect</c> check it.
    /// </summary>
    public const long VerifyOnOpenLimit = 1L << 30;

    private readonly TensorFile _file;
    private readonly SaeLayout _layout;
    private readonly bool _hasSkip;
    private volatile bool _disposed;

    private SaeCheckpoint(TensorFile file, SaeConfig config, SaeLayout layout, bool hasSkip)
    {
        _file = file;
        Config = config;
        (_layout, _hasSkip) = (layout, hasSkip);
    }

    /// <summary>How it is computed and where it belongs.</summary>
    public SaeConfig Config { get; }

    /// <summary>The file that holds the weights.</summary>
    public string Path => _file.Path;

    /// <summary>The file, and those of its folder that tell what kind of SAE is there.</summary>
    internal IEnumerable<string> InputPaths
    {
        get
        {
            string folder = System.IO.Path.GetDirectoryName(Path) ?? "";
            string[] names =
            [
                ParamsName, ConfigName, WeightsName, GemmaScope2Config.ConfigName, GemmaScope2Config.WeightsName,
                SparsifyConfig.WeightsName,
                CircuitTracerConfig.ConfigName,
            ];
            return [Path, .. names.Select(name => System.IO.Path.Combine(folder, name)).Where(RawFile.IsThere)];
        }
    }

    /// <summary>Bytes of all arrays as stored.</summary>
    public long TotalBytes => _file.Contents.Sum(i => i.ByteLength);

    /// <summary>W_enc as stored: [d_in, d_sae], or [d_sae, d_in] where <see cref="EncoderIsOutputMajor"/>.</summary>
    public TensorView Encoder => _file[_layout.Encoder];

    /// <summary>Whether the file stores W_enc [d_sae, d_in], as sparsify and circuit-tracer do.</summary>
    public bool EncoderIsOutputMajor => _layout.OutputMajor;

    /// <summary>W_dec [d_sae, d_out].</summary>
    public TensorView Decoder => _file[_layout.Decoder];

    /// <summary>b_enc [d_sae].</summary>
    public TensorView EncoderBias => _file[_layout.EncoderBias];

    /// <summary>b_dec [d_out].</summary>
    public TensorView DecoderBias => _file[_layout.DecoderBias];

    /// <summary>threshold [d_sae]; null unless it is a <see cref="SaeArchitecture.JumpRelu"/>.</summary>
    public TensorView? Threshold => Config.Architecture == SaeArchitecture.JumpRelu ? _file[_layout.Threshold] : null;

    /// <summary>W_skip [d_out, d_in], added as x W_skipᵀ; null if it has no skip path.</summary>
    public TensorView? Skip => _hasSkip ? _file[_layout.Skip] : null;

    /// <summary>Opens an SAE by its folder or one of its files; a transcoder of a circuit-tracer set by its file.</summary>
    /// <exception cref="InvalidDataException">A file is missing, malformed or contradicts itself, or the SAE is of a kind that is not supported; the message says which.</exception>
    /// <param name="path">Which.</param>
    /// <param name="intoMemory">Reads the file into memory instead of mapping it; see <see cref="TensorFile"/>.</param>
    public static SaeCheckpoint Open(string path, bool intoMemory = false)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return Directory.Exists(path) ? OpenFolder(path, intoMemory) : OpenFile(path, intoMemory);
    }

    /// <summary>Reads all of a params.npz once and checks its checksums; what was checked is not read again. Safetensors have none.</summary>
    /// <exception cref="InvalidDataException">An array is damaged.</exception>
    public void Verify(CancellationToken cancellationToken = default) => (_file as NpzFile)?.Verify(cancellationToken);

    /// <summary>Gives the mapping back, as soon as no SAE that was loaded from it is left; the views are then invalid.</summary>
    public void Dispose()
    {
        _disposed = true;
        _file.Dispose();
    }

    /// <summary>Keeps the mapping until the result is disposed.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    internal IDisposable Hold() => _file.Hold();

    /// <summary>As <see cref="Hold"/>, for an SAE that takes the checkpoint over: disposing that SAE is then enough.</summary>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed, or every SAE that was loaded from it.</exception>
    internal IDisposable HoldForSae()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        IDisposable hold = _file.Hold();
        _file.Dispose();
        return hold;
    }

    /// <summary>The checkpoint of an npz that is already open; it then owns the file, also if this throws.</summary>
    internal static SaeCheckpoint OfNpz(NpzFile file) => Owning(file, () =>
    {
        SaeArrays arrays = SaeArrays.From(file, SaeLayout.SaeLens, mayBeLowerCase: true);
        GemmaScopePath place = GemmaScopePath.Parse(file.Path);
        var config = new SaeConfig
        {
            Architecture = SaeArchitecture.JumpRelu,
            IsTranscoder = place.IsTranscoder || arrays.OutputDim != arrays.InputDim,
            InputDim = arrays.InputDim,
            OutputDim = arrays.OutputDim,
            FeatureCount = arrays.FeatureCount,
            Site = place.Site,
            SiteOut = place.SiteOut,
            SiteNote = place.Note,
            ModelName = GemmaScopePath.ModelOf(file.Path),
        };
        arrays.RequireAll(config, hasSkip: false);
        return new SaeCheckpoint(file, config, arrays.Layout, hasSkip: false);
    });

    /// <summary>The kinds of SAE whose files a folder holds, each by the file that shows it.</summary>
    internal static IReadOnlyList<string> KindsIn(string folder)
    {
        bool Has(string name) => RawFile.IsThere(System.IO.Path.Combine(folder, name));
        List<string> kinds = [];
        if (Has(ParamsName))
            kinds.Add(ParamsName);
        if (Has(GemmaScope2Config.WeightsName))
            kinds.Add(GemmaScope2Config.WeightsName);
        if (Has(SparsifyConfig.WeightsName))
            kinds.Add(SparsifyConfig.WeightsName);
        if (Has(WeightsName) || (Has(ConfigName) && !Has(SparsifyConfig.WeightsName)))
            kinds.Add(WeightsName);
        if (CircuitTracerConfig.IsSet(folder))
            kinds.Add(CircuitTracerConfig.ConfigName);
        return kinds;
    }

    private static SaeCheckpoint OpenFile(string path, bool intoMemory)
    {
        string folder = System.IO.Path.GetDirectoryName(path) is { Length: > 0 } parent ? parent : ".";
        if (CircuitTracerConfig.IsLayerFile(path))
            return OpenCircuitTracer(folder, path, intoMemory);
        return System.IO.Path.GetFileName(path) switch
        {
            ConfigName => RawFile.IsThere(System.IO.Path.Combine(folder, SparsifyConfig.WeightsName)) ? OpenFolder(folder, intoMemory)
                : OpenSaeLens(folder, intoMemory),
            WeightsName => OpenSaeLens(folder, intoMemory),
            SparsifyConfig.WeightsName => OpenSparsify(folder, intoMemory),
            GemmaScope2Config.WeightsName => OpenGemmaScope2(folder, intoMemory),
            _ => OpenNpz(path, intoMemory),
        };
    }

    private static SaeCheckpoint OpenFolder(string folder, bool intoMemory) => KindsIn(folder) switch
    {
        [] => throw BadFile.At(folder, $"the folder holds neither {ParamsName} nor {ConfigName} with {WeightsName}, nor an SAE of Gemma " +
            "Scope 2 or sparsify: no SAE."),
        [ParamsName] => OpenNpz(System.IO.Path.Combine(folder, ParamsName), intoMemory),
        [WeightsName] => OpenSaeLens(folder, intoMemory),
        [SparsifyConfig.WeightsName] => OpenSparsify(folder, intoMemory),
        [GemmaScope2Config.WeightsName] => OpenGemmaScope2(folder, intoMemory),
        [CircuitTracerConfig.ConfigName] =>
            throw BadFile.At(folder, "the folder holds a set of transcoders, one for each layer; name one of its files, such as " +
            "layer_0.safetensors."),
        [ParamsName, WeightsName] =>
            throw BadFile.At(folder, $"the folder holds both {ParamsName} and a SAELens SAE; name the one that is meant."),
        IReadOnlyList<string> several =>
            throw BadFile.At(folder, $"the folder holds several SAEs ({string.Join(", ", several)}); name the file that is meant."),
    };

    private static SaeCheckpoint OpenNpz(string path, bool intoMemory)
    {
        SaeCheckpoint checkpoint = OfNpz(NpzFile.Open(path, intoMemory));
        return Owning(checkpoint, () =>
        {
            // Compressed arrays are needed expanded anyway, which checks them.
            foreach (TensorInfo info in checkpoint._file.Contents)
                checkpoint._file.TryGet(info.Name, out _);
            if (((NpzFile)checkpoint._file).Length <= VerifyOnOpenLimit)
                checkpoint.Verify();
            return checkpoint;
        });
    }

    private static SaeCheckpoint OpenSaeLens(string folder, bool intoMemory)
    {
        (SaeConfig config, bool hasSkip) = SaeLensConfig.Read(System.IO.Path.Combine(folder, ConfigName));
        return OpenSafetensors(System.IO.Path.Combine(folder, WeightsName), SaeLayout.SaeLens, _ => config, hasSkip, intoMemory);
    }

    private static SaeCheckpoint OpenSparsify(string folder, bool intoMemory)
    {
        (SaeConfig config, bool hasSkip) = SparsifyConfig.Read(System.IO.Path.Combine(folder, ConfigName));
        return OpenSafetensors(System.IO.Path.Combine(folder, SparsifyConfig.WeightsName), SaeLayout.Sparsify, _ => config, hasSkip,
            intoMemory);
    }

    private static SaeCheckpoint OpenGemmaScope2(string folder, bool intoMemory) => OpenSafetensors(
        System.IO.Path.Combine(folder, GemmaScope2Config.WeightsName),
        SaeLayout.GemmaScope2,
        arrays => GemmaScope2Config.Read(System.IO.Path.Combine(folder, GemmaScope2Config.ConfigName), arrays),
        hasSkip: false,
        intoMemory);

    private static SaeCheckpoint OpenCircuitTracer(string folder, string path, bool intoMemory)
    {
        SaeCheckpoint sae = OpenSafetensors(path, SaeLayout.CircuitTracer, arrays => CircuitTracerConfig.Read(folder, path, arrays),
            hasSkip: null, intoMemory);
        return Owning(sae, () =>
        {
            CircuitTracerConfig.RequireNoNegative(sae);
            return sae;
        });
    }

    /// <param name="path">The weights.</param>
    /// <param name="layout">How they lie.</param>
    /// <param name="configOf">The config, given the arrays.</param>
    /// <param name="hasSkip">Whether the weights must hold a skip path; null: it is used where there is one.</param>
    /// <param name="intoMemory">Read into memory instead of mapped.</param>
    private static SaeCheckpoint OpenSafetensors(string path, SaeLayout layout, Func<SaeArrays, SaeConfig> configOf, bool? hasSkip,
        bool intoMemory)
    {
        return From(SafetensorsFile.Open(path, intoMemory), layout, configOf, hasSkip);
    }

    /// <summary>The checkpoint of tensors that are open already; it then owns the file, also if this throws.</summary>
    internal static SaeCheckpoint From(SafetensorsFile file, SaeLayout layout, Func<SaeArrays, SaeConfig> configOf, bool? hasSkip) =>
        Owning(file, () =>
    {
        SaeArrays arrays = SaeArrays.From(file, layout);
        SaeConfig config = configOf(arrays);
        bool skips = hasSkip ?? arrays.Has(layout.Skip);
        arrays.RequireAll(config, skips);
        return new SaeCheckpoint(file, config, layout, skips);
    });

    private static SaeCheckpoint Owning(IDisposable owned, Func<SaeCheckpoint> open)
    {
        try
        {
            return open();
        }
        catch
        {
            owned.Dispose();
            throw;
        }
    }
}

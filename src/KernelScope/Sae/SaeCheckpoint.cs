using KernelScope.Files;

namespace KernelScope.Sae;

/// <summary>
/// An SAE's or transcoder's files, opened and checked: a Gemma Scope <c>params.npz</c>, or a SAELens folder (<c>cfg.json</c>, <c>sae_weights.safetensors</c>).
/// The arrays are views in the file's own type and order (F32, F16, BF16 or F64; a params.npz may be in Fortran order).
/// <para>
/// Arrays that are not known are refused, as SAELens refuses them: an array that nobody reads may be one that changes the numbers. (SAELens' loader for Gemma Scope transcoders ignores
/// them, but nothing in a params.npz tells a transcoder from an SAE of equal widths.) A <c>scaling_factor</c> of ones is dropped, as there; any other is refused.
/// </para>
/// </summary>
/// <remarks>Any number of threads may read it, load it and dispose it. The mapping lives until the checkpoint was disposed, or loaded, and every SAE that was loaded from it is disposed and has no op running.</remarks>
public sealed class SaeCheckpoint : IDisposable
{
    /// <summary>The file in a SAELens folder that says what the SAE is.</summary>
    public const string ConfigName = "cfg.json";

    /// <summary>The weights in a SAELens folder.</summary>
    public const string WeightsName = "sae_weights.safetensors";

    /// <summary>A Gemma Scope file.</summary>
    public const string ParamsName = "params.npz";

    /// <summary>
    /// A params.npz of at most this many bytes has its checksums verified on opening: half a second at most, and the bytes are about to be used. A larger one is not read twice;
    /// <see cref="Verify"/> and <c>inspect</c> check it.
    /// </summary>
    public const long VerifyOnOpenLimit = 1L << 30;

    private readonly TensorFile _file;
    private volatile bool _disposed;
    private readonly string _encoder, _decoder;
    private readonly bool _hasSkip;

    private SaeCheckpoint(TensorFile file, SaeConfig config, string encoder, string decoder, bool hasSkip)
    {
        _file = file;
        Config = config;
        (_encoder, _decoder, _hasSkip) = (encoder, decoder, hasSkip);
    }

    /// <summary>How it is computed and where it belongs.</summary>
    public SaeConfig Config { get; }

    /// <summary>The file that holds the weights.</summary>
    public string Path => _file.Path;

    /// <summary>Bytes of all arrays as stored.</summary>
    public long TotalBytes => _file.Contents.Sum(i => i.ByteLength);

    /// <summary>W_enc [d_in, d_sae].</summary>
    public TensorView Encoder => _file[_encoder];

    /// <summary>W_dec [d_sae, d_out].</summary>
    public TensorView Decoder => _file[_decoder];

    /// <summary>b_enc [d_sae].</summary>
    public TensorView EncoderBias => _file["b_enc"];

    /// <summary>b_dec [d_out].</summary>
    public TensorView DecoderBias => _file["b_dec"];

    /// <summary>threshold [d_sae]; null for <see cref="SaeArchitecture.Standard"/>.</summary>
    public TensorView? Threshold => Config.Architecture == SaeArchitecture.JumpRelu ? _file["threshold"] : null;

    /// <summary>W_skip [d_out, d_in], added as x W_skipᵀ; null if it has no skip path.</summary>
    public TensorView? Skip => _hasSkip ? _file["W_skip"] : null;

    /// <summary>Opens a params.npz, a SAELens folder, the folder that holds a params.npz, or one of a SAELens folder's two files.</summary>
    /// <exception cref="InvalidDataException">A file is missing, malformed or contradicts itself, or the SAE is of a kind that is not supported; the message says which.</exception>
    public static SaeCheckpoint Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!Directory.Exists(path)) return IsSaeLensFile(path) ? OpenFolder(System.IO.Path.GetDirectoryName(path) is { Length: > 0 } folder ? folder : ".") : OpenNpz(path);
        string parameters = System.IO.Path.Combine(path, ParamsName);
        bool saeLens = RawFile.IsThere(System.IO.Path.Combine(path, ConfigName)) || RawFile.IsThere(System.IO.Path.Combine(path, WeightsName));
        if (RawFile.IsThere(parameters)) return saeLens ? throw BadFile.Of(path, $"the folder holds both {ParamsName} and a SAELens SAE; name the one that is meant.") : OpenNpz(parameters);
        return saeLens ? OpenFolder(path) : throw BadFile.Of(path, $"the folder holds neither {ParamsName} nor {ConfigName} with {WeightsName}: no SAE.");
    }

    /// <summary>Reads all of a params.npz once and checks its checksums; what was checked is not read again. Safetensors have none.</summary>
    /// <exception cref="InvalidDataException">An array is damaged.</exception>
    public void Verify(CancellationToken cancellation = default) => (_file as NpzFile)?.Verify(cancellation);

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
        SaeArrays arrays = SaeArrays.Of(file, mayBeLowerCase: true);
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
        return new SaeCheckpoint(file, config, arrays.EncoderName, arrays.DecoderName, hasSkip: false);
    });

    private static SaeCheckpoint OpenNpz(string path)
    {
        SaeCheckpoint checkpoint = OfNpz(NpzFile.Open(path));
        return Owning(checkpoint, () =>
        {
            // Compressed arrays are needed expanded anyway, which checks them.
            foreach (TensorInfo info in checkpoint._file.Contents) checkpoint._file.TryGet(info.Name, out _);
            if (((NpzFile)checkpoint._file).Length <= VerifyOnOpenLimit) checkpoint.Verify();
            return checkpoint;
        });
    }

    private static SaeCheckpoint OpenFolder(string folder)
    {
        (SaeConfig config, bool hasSkip) = SaeLensConfig.Read(System.IO.Path.Combine(folder, ConfigName));
        SafetensorsFile file = SafetensorsFile.Open(System.IO.Path.Combine(folder, WeightsName));
        return Owning(file, () =>
        {
            SaeArrays arrays = SaeArrays.Of(file, mayBeLowerCase: false);
            arrays.RequireAll(config, hasSkip);
            return new SaeCheckpoint(file, config, arrays.EncoderName, arrays.DecoderName, hasSkip);
        });
    }

    private static bool IsSaeLensFile(string path) => System.IO.Path.GetFileName(path) is ConfigName or WeightsName;

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

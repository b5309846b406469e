using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;

namespace KernelScope.Sae;

/// <summary>A sparse autoencoder or transcoder on a device: Gemma Scope's JumpReLU, or a ReLU (threshold 0) or TopK one (of which only the k largest pre-activations of a row are active).</summary>
/// <remarks>
/// Encode: a = x·W_enc + b_enc; f(x) = a where a &gt; θ and a &gt; 0, else 0. Decode: x̂ = f(x)·W_dec + b_dec (Lieberum et al. 2024, eqs. 1–3).
/// Any number of threads may use it. <see cref="Dispose"/> returns at once: a call that runs ends with <see cref="ObjectDisposedException"/>.
/// SAELens' forms add, in this order: a normalisation of the input (undone after decoding), b_dec subtracted from it, a skip path x·W_skipᵀ; see <see cref="SaeConfig"/>.
/// </remarks>
/// <example>
/// <code>
/// using var sae = JumpReluSae.Open(device, "layer_20/width_16k/average_l0_71/params.npz");
/// SparseCodes codes = device.CreateCodes(sae.FeatureCount, "codes");
/// sae.Encode(x, codes);                                    // x: activations on the device, [n, d_in]
/// var list = new CodeList();
/// device.Read(codes, list);
/// Console.WriteLine($"the first row has {list.FeaturesOf(0).Length} active features");
/// </code>
/// </example>
public sealed partial class JumpReluSae : IDisposable
{
    private readonly SaeCheckpoint _checkpoint;
    private readonly List<IDisposable> _owned = [];
    private readonly Weight? _skip;
    private readonly IDisposable _hold;
    private readonly SaeRooms _rooms;
    private readonly string _owner;
    private int _disposed;

    private JumpReluSae(Device device, SaeCheckpoint checkpoint, bool packEncoder)
    {
        Device = device;
        _checkpoint = checkpoint;
        _owner = $"The SAE '{BadFile.Printable(checkpoint.Path, 4096)}'";
        _rooms = new SaeRooms(device, checkpoint.Config);
        _hold = checkpoint.HoldForSae();
        try
        {
            Parameters = new SaeParameters(
                Own(device.CreateWeight("W_enc",
                    new WeightPart(checkpoint.Encoder, transposed: !checkpoint.EncoderIsOutputMajor) { Pack = packEncoder })),
                device.CreateVector(checkpoint.EncoderBias, "b_enc", _owned, _owner),
                Threshold(device, checkpoint),
                Own(device.CreateWeight("W_dec", new WeightPart(checkpoint.Decoder, transposed: true))),
                device.CreateVector(checkpoint.DecoderBias, "b_dec", _owned, _owner))
            { TopK = checkpoint.Config.K };
            if (checkpoint.Skip is { } skip)
                _skip = Own(device.CreateWeight("W_skip", new WeightPart(skip)));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The device that the parameters are on; it outlives the SAE.</summary>
    public Device Device { get; }

    /// <summary>What the files say of it.</summary>
    public SaeConfig Config => _checkpoint.Config;

    internal SaeCheckpoint Checkpoint => _checkpoint;

    /// <summary>Where it reads, if its path or cfg.json says so.</summary>
    public HookPoint? Site => Point(Config.Site);

    /// <summary>Where its reconstruction belongs: <see cref="Site"/>, or a transcoder's output site.</summary>
    public HookPoint? SiteOut => Config.IsTranscoder ? Point(Config.SiteOut) : Site;

    /// <summary>The parameters on the device.</summary>
    public SaeParameters Parameters { get; }

    /// <summary>Number of features, d_sae.</summary>
    public int FeatureCount => Parameters.FeatureCount;

    /// <summary>Opens an SAE by its file or folder, in any form that <see cref="SaeCheckpoint"/> knows. The parameters stay in the mapped file where the device can use them there.</summary>
    /// <exception cref="InvalidDataException">A malformed file, or an SAE that is not supported; the message says what and where.</exception>
    public static JumpReluSae Open(Device device, string path)
    {
        SaeCheckpoint checkpoint = SaeCheckpoint.Open(path);
        return Load(device, checkpoint);
    }

    /// <summary>
    /// Brings a checkpoint to a device. The SAE owns the checkpoint from here on, with other SAEs that were loaded from it: the last that is disposed disposes it, and it need not be disposed otherwise.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed, or every SAE that was loaded from it.</exception>
    /// <param name="device">Where.</param>
    /// <param name="checkpoint">The files.</param>
    /// <param name="packEncoder">
    /// Whether W_enc is packed into memory, once more as large (bfloat16: three quarters), where the device has such a form (<see cref="WeightPart.Pack"/>). Encoding 32 rows by 16k features in float32 took 0.6 to 0.75 of the time, one row and 512 rows hardly less;
    /// packing takes as long as a dozen such encodings, so it is for processes that stay. Results are the same to float32 noise.
    /// </param>
    public static JumpReluSae Load(Device device, SaeCheckpoint checkpoint, bool packEncoder = false)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(checkpoint);
        return new(device, checkpoint, packEncoder);
    }

    /// <summary>As <see cref="Open"/>, on a worker thread.</summary>
    /// <param name="device">Where; it outlives the SAE.</param>
    /// <param name="path">A <c>params.npz</c>, its folder, or a SAELens folder.</param>
    /// <param name="packEncoder">See <see cref="Load"/>.</param>
    /// <param name="progress">Told the share that is done: the files are checked, then the parameters are brought to the device.</param>
    /// <param name="cancellationToken">Stops between the two; nothing stays behind.</param>
    /// <exception cref="InvalidDataException">A malformed file, or an SAE that is not supported; the message says what and where.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static Task<JumpReluSae> OpenAsync(Device device, string path, bool packEncoder = false, IProgress<double>? progress = null,
        CancellationToken cancellationToken = default) => Task.Run(
        () =>
        {
            SaeCheckpoint checkpoint = SaeCheckpoint.Open(path);
            progress?.Report(0.5);
            if (cancellationToken.IsCancellationRequested)
                checkpoint.Dispose();
            cancellationToken.ThrowIfCancellationRequested();
            JumpReluSae sae = Load(device, checkpoint, packEncoder);
            progress?.Report(1);
            return sae;
        },
        cancellationToken);

    /// <summary>W_dec[f], a feature's direction in float32, [d_out].</summary>
    /// <exception cref="ArgumentOutOfRangeException">The SAE has no such feature.</exception>
    /// <exception cref="ObjectDisposedException">The SAE was disposed.</exception>
    public float[] DecoderRow(int feature)
    {
        if ((uint)feature >= (uint)FeatureCount)
            throw new ArgumentOutOfRangeException(nameof(feature), $"Feature {feature} is outside the SAE's width: it has features 0 to " +
                $"{FeatureCount - 1}.");
        using IDisposable hold = _checkpoint.Hold();
        float[] row = new float[Config.OutputDim];
        _checkpoint.Decoder.CopyTo((long)feature * row.Length, row);
        return row;
    }

    /// <summary>W_enc[:, f], what a feature reads, in float32, [d_in].</summary>
    /// <exception cref="ArgumentOutOfRangeException">The SAE has no such feature.</exception>
    /// <exception cref="ObjectDisposedException">The SAE was disposed.</exception>
    public float[] EncoderColumn(int feature)
    {
        if ((uint)feature >= (uint)FeatureCount)
            throw new ArgumentOutOfRangeException(nameof(feature), $"Feature {feature} is outside the SAE's width: it has features 0 to " +
                $"{FeatureCount - 1}.");
        using IDisposable hold = _checkpoint.Hold();
        float[] column = new float[Config.InputDim];
        if (_checkpoint.EncoderIsOutputMajor)
        {
            _checkpoint.Encoder.CopyTo((long)feature * column.Length, column);
            return column;
        }

        for (int j = 0; j < column.Length; j++)
            _checkpoint.Encoder.CopyTo(((long)j * FeatureCount) + feature, column.AsSpan(j, 1));
        return column;
    }

    /// <summary>Makes room for codes of this SAE.</summary>
    /// <exception cref="ObjectDisposedException">The SAE was disposed.</exception>
    public SparseCodes CreateCodes()
    {
        ThrowIfDisposed();
        return Device.CreateCodes(FeatureCount, "codes");
    }

    /// <summary>f(x): the active features of each row. x [n, d_in].</summary>
    /// <exception cref="ObjectDisposedException">The SAE was disposed.</exception>
    public void Encode(Mat x, SparseCodes codes)
    {
        ThrowIfDisposed();
        using SaeRooms.Rented room = _rooms.Rent();
        Device.SaeEncode(Prepared(x, room.Room), Parameters, codes);
    }

    /// <summary>x̂ of the codes [n] → [n, d_out].</summary>
    /// <param name="codes">The codes, edited or not.</param>
    /// <param name="x">The input that they came from, [n, d_in]: a skip path and the normalisations need it. It may be <paramref name="destination"/> only where <see cref="NeedsInput"/> is false.</param>
    /// <param name="destination">Receives the reconstruction.</param>
    public void Decode(SparseCodes codes, Mat x, Mat destination)
    {
        ThrowIfDisposed();
        using SaeRooms.Rented room = _rooms.Rent();
        Device.SaeDecode(codes, Parameters, destination);
        if (_skip is not null)
        {
            Mat skipped = room.Room.Skipped(x.Rows);
            Device.Linear(x, _skip, skipped);
            Device.AddScaled(skipped, 1f, destination);
        }

        // SAELens' transcoders normalise their input and do not undo it: the output is another site.
        if (NormalizesOutput)
            Rescale(x, destination, room.Room, undo: true);
    }

    /// <summary>y ← (y − x̂) + x̂, rounded after each step: the activation goes through the SAE, and the SAE's error is kept. One pass where the device has one.</summary>
    /// <param name="codes">The codes of <paramref name="x"/>.</param>
    /// <param name="x">The input that they came from, [n, d_in]; not <paramref name="y"/> where <see cref="NeedsInput"/>.</param>
    /// <param name="reconstruction">Room for x̂ [n, d_out]; may be left as it was.</param>
    /// <param name="y">The activation [n, d_out].</param>
    public void DecodePlusError(SparseCodes codes, Mat x, Mat reconstruction, Mat y)
    {
        ThrowIfDisposed();
        if (!NeedsInput)
        {
            Device.SaeDecodePlusError(codes, Parameters, reconstruction, y);
            return;
        }

        Decode(codes, x, reconstruction);
        Device.AddScaled(reconstruction, -1f, y);
        Device.AddScaled(reconstruction, 1f, y);
    }

    /// <summary>Applies edits to y [n, d_out] by what x [n, d_in] activates; see <see cref="Device.SaeEdit"/>. x and y may be the same matrix.</summary>
    /// <remarks>
    /// In a TopK SAE f(x) of a clamped feature is its value among the codes of the row, 0 where it is not one of the k largest; that an edit moves it changes no other feature's place.
    /// Its clamps go row by row and wait for the device.
    /// </remarks>
    /// <exception cref="NotSupportedException">An SAE that normalises its input: a feature's direction then has another length at every token.</exception>
    public void Edit(Mat x, ReadOnlySpan<FeatureEdit> edits, Mat y)
    {
        ThrowIfDisposed();
        if (edits.IsEmpty)
            return;
        if (NormalizesOutput)
            throw new NotSupportedException("Features of an SAE that normalises its input cannot be edited: their directions have " +
                "another length at every token.");
        if (Config.K > 0 && Clamps(edits))
        {
            EditByCodes(x, edits, y);
            return;
        }

        using SaeRooms.Rented room = _rooms.Rent();
        Device.SaeEdit(Prepared(x, room.Room), Parameters, edits, y);
    }

    /// <summary>Whether <see cref="Decode"/> reads its input.</summary>
    public bool NeedsInput => _skip is not null || NormalizesOutput;

    /// <summary>Gives parameters and mappings back once no op runs. Calls that run end with <see cref="ObjectDisposedException"/>.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        _rooms.Dispose();
        foreach (IDisposable owned in _owned)
            owned.Dispose();
        Device.DisposeWhenIdle(_hold);
    }

    private void ThrowIfDisposed()
    {
        if (Volatile.Read(ref _disposed) != 0)
            throw new ObjectDisposedException(_owner, $"{_owner} was disposed.");
    }

    private static HookPoint? Point(string? name) => name is not null && HookPoint.TryParse(name, out HookPoint point) ? point : null;

    private Weight Own(Weight weight)
    {
        weight.Owner = _owner;
        _owned.Add(weight);
        return weight;
    }

    private Mat Threshold(Device device, SaeCheckpoint checkpoint)
    {
        if (checkpoint.Threshold is { } threshold)
            return device.CreateVector(threshold, "threshold", _owned, _owner);
        Mat zero = device.CreateMat(1, Config.FeatureCount, "threshold");
        zero.Buffer.Owner = _owner;
        _owned.Add(zero.Buffer);
        return zero;
    }
}

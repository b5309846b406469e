using System.Buffers.Binary;
using System.Security.Cryptography;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Training;

/// <summary>Rows of a stored array, of any origin: npz, npy or safetensors, [rows, d], or [sequences, positions, d] as one row after the
/// other. One permutation of the rows an epoch; rows that do not fill a batch begin the next epoch's first.</summary>
/// <remarks>The array stays in its file; a row is read when it is served. For one caller at a time.</remarks>
public sealed class StoredRows : ITrainingRows
{
    private const int StateLength = 8 + 8 + Xoshiro256.StateLength;

    private readonly TensorFile _file;
    private readonly TensorView _inputs;
    private readonly TensorView? _targets;
    private readonly int[] _training, _validation, _order;
    private Xoshiro256 _random;
    private byte[] _epochStart = new byte[Xoshiro256.StateLength];
    private int _next;

    private StoredRows(TensorFile file, TensorView inputs, TensorView? targets, bool[]? counted, double validation, long seed)
    {
        (_file, _inputs, _targets) = (file, inputs, targets);
        int rows = checked((int)RowsOf(inputs.Info));
        Width = checked((int)inputs.Shape[^1]);
        TargetWidth = targets is { } t ? checked((int)t.Shape[^1]) : null;
        if (counted is not null && counted.Length != rows)
            throw new ArgumentException($"{counted.Length} values say which of the {rows} rows count; one a row is needed.",
                nameof(counted));
        Identity = HashOf(inputs, targets);
        List<int> training = [], held = [];
        for (int r = 0; r < rows; r++)
        {
            if (counted is null || counted[r])
                (IsHeld(r, validation) ? held : training).Add(r);
        }

        if (training.Count == 0)
            throw BadFile.At(file.Path, $"{inputs.Info} leaves no row to train on.");
        (_training, _validation, _order) = ([.. training], [.. held], [.. training]);
        MeanSquaredNorm = SquaresOf(inputs, Width) / training.Count;
        // For what it refuses: values that are not finite, and nothing but zeros.
        if (targets is { } y)
            _ = SquaresOf(y, TargetWidth!.Value);
        _random = new Xoshiro256(Identity, seed, "rows");
        Reorder();
    }

    /// <summary>The array that rows are read from.</summary>
    internal TensorInfo Input => _inputs.Info;

    /// <inheritdoc/>
    public string Identity { get; }

    /// <inheritdoc/>
    public int Width { get; }

    /// <inheritdoc/>
    public int? TargetWidth { get; }

    /// <inheritdoc/>
    public long EpochRows => _training.Length;

    /// <inheritdoc/>
    public long Position { get; private set; }

    /// <inheritdoc/>
    public double MeanSquaredNorm { get; }

    /// <inheritdoc/>
    public long ValidationRows => _validation.Length;

    /// <summary>Opens an array and reads it once, for its hash and its mean squared norm.</summary>
    /// <param name="path">The file.</param>
    /// <param name="key">Which array; null: the only one that can be rows.</param>
    /// <param name="targetKey">Which array holds a transcoder's targets; null: rows are their own.</param>
    /// <param name="counted">Which rows may be used; null: all.</param>
    /// <param name="validation">The share of the rows that is kept back, chosen by the rows' numbers.</param>
    /// <param name="seed">Decides the order.</param>
    /// <exception cref="InvalidDataException">The file cannot be read, has no such array, or holds a value that is not finite.</exception>
    /// <exception cref="ArgumentException">The share is not from 0 to below 1, or <paramref name="counted"/> does not give one value a
    /// row.</exception>
    public static StoredRows Open(string path, string? key, string? targetKey = null, Func<TensorFile, TensorInfo, bool[]?>? counted = null,
        double validation = 0.01, long seed = 0)
    {
        if (!(validation is >= 0 and < 1))
            throw new ArgumentOutOfRangeException(nameof(validation), $"The share for validation is {validation}; it must be at least 0 " +
                "and below 1.");
        TensorFile file = ArrayFile.Open(path);
        try
        {
            TensorView inputs = Array(file, key);
            TensorView? targets = targetKey is null ? null : Array(file, targetKey);
            if (targets is { } t && RowsOf(t.Info) != RowsOf(inputs.Info))
                throw BadFile.At(path, $"{inputs.Info} and {t.Info} should have as many rows.");
            return new StoredRows(file, inputs, targets, counted?.Invoke(file, inputs.Info), validation, seed);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The spans are not whole rows.</exception>
    public void Next(Span<float> inputs, Span<float> targets)
    {
        int rows = Check(inputs, targets);
        for (int n = 0; n < rows; n++)
        {
            if (_next == _order.Length)
                Reorder();
            Read(_order[_next++], n, inputs, targets);
            Position++;
        }
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The spans are not whole rows, or there are not so many.</exception>
    public void ReadValidation(long firstRow, Span<float> inputs, Span<float> targets)
    {
        int rows = Check(inputs, targets);
        ArgumentOutOfRangeException.ThrowIfNegative(firstRow);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(firstRow, _validation.Length - rows);
        for (int n = 0; n < rows; n++)
            Read(_validation[firstRow + n], n, inputs, targets);
    }

    /// <inheritdoc/>
    public void SaveState(Stream destination)
    {
        ArgumentNullException.ThrowIfNull(destination);
        Span<byte> state = stackalloc byte[StateLength];
        BinaryPrimitives.WriteInt64LittleEndian(state, Position);
        BinaryPrimitives.WriteInt64LittleEndian(state[8..], _next);
        _epochStart.CopyTo(state[16..]);
        destination.Write(state);
    }

    /// <inheritdoc/>
    public void LoadState(Stream source)
    {
        ArgumentNullException.ThrowIfNull(source);
        Span<byte> state = stackalloc byte[StateLength];
        int length = source.ReadAtLeast(state, StateLength, throwOnEndOfStream: false);
        long position = BinaryPrimitives.ReadInt64LittleEndian(state), next = BinaryPrimitives.ReadInt64LittleEndian(state[8..]);
        // A generator whose state is 0 gives 0 for ever.
        if (length < StateLength || position < 0 || !state[16..].ContainsAnyExcept((byte)0))
            throw new InvalidDataException("The state of the rows is damaged.");
        if (next < 0 || next > _order.Length)
            throw new InvalidDataException($"The state says that {next} rows of an epoch were served; there are {_order.Length}.");
        Position = position;
        _random = new Xoshiro256(state[16..]);
        Reorder();
        _next = (int)next;
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    /// <summary>A new epoch: an order that depends on the generator alone, so that its state at the beginning is enough to have it
    /// again.</summary>
    private void Reorder()
    {
        _random.WriteState(_epochStart);
        _training.CopyTo(_order, 0);
        _random.Shuffle(_order);
        _next = 0;
    }

    private int Check(Span<float> inputs, Span<float> targets)
    {
        (int rows, int rest) = Math.DivRem(inputs.Length, Width);
        return rest == 0 && targets.Length == rows * (TargetWidth ?? 0) ? rows : throw new ArgumentException(
            $"{inputs.Length} and {targets.Length} values are not rows of {Width} and {TargetWidth ?? 0}.", nameof(inputs));
    }

    private void Read(int row, int place, Span<float> inputs, Span<float> targets)
    {
        _inputs.CopyTo((long)row * Width, inputs.Slice(place * Width, Width));
        if (_targets is { } t)
            t.CopyTo((long)row * TargetWidth!.Value, targets.Slice(place * TargetWidth.Value, TargetWidth.Value));
    }

    /// <summary>Σ‖x‖² over the training rows; the others are looked at, too.</summary>
    private double SquaresOf(TensorView tensor, int width)
    {
        _ = SquaresOf(tensor, width, _validation);
        return SquaresOf(tensor, width, _training) is > 0 and double sum ? sum
            : throw BadFile.At(_file.Path, $"{tensor.Info} holds only zeros.");
    }

    private double SquaresOf(TensorView tensor, int width, int[] rows)
    {
        float[] values = new float[width];
        double sum = 0;
        foreach (int r in rows)
        {
            tensor.CopyTo((long)r * width, values);
            double squares = 0;
            foreach (float value in values)
                squares += (double)value * value;
            if (!double.IsFinite(squares))
                throw BadFile.At(_file.Path, $"row {r} of {tensor.Info} holds a value that is not finite.");
            sum += squares;
        }

        return sum;
    }

    private static long RowsOf(TensorInfo info) => info.ElementCount / info.Shape[^1];

    /// <summary>By the row's number alone: the same rows whatever the seed.</summary>
    private static bool IsHeld(int row, double share) => SplitMix64.ToUnit(SplitMix64.Mix(((ulong)row + 1) * SplitMix64.Step)) < share;

    private static TensorView Array(TensorFile file, string? key)
    {
        TensorView tensor = key is not null ? file[key] : Only(file);
        if (!IsRows(tensor.Info))
            throw BadFile.At(file.Path, $"{tensor.Info} is not an array of rows; f16, bf16, f32 or f64 with two dimensions or more is " +
                "needed.");
        return tensor;
    }

    private static TensorView Only(TensorFile file)
    {
        TensorInfo[] rows = [.. file.Contents.Where(IsRows)];
        return rows.Length == 1 ? file[rows[0].Name] : throw BadFile.At(file.Path, rows.Length == 0
            ? "there is no array of rows in it."
            : $"--key is needed to say which of {string.Join(", ", rows.Take(20).Select(info => info.Name))} to train on.");
    }

    private static bool IsRows(TensorInfo info) => info.DType is DType.F16 or DType.BF16 or DType.F32 or DType.F64 && info.Shape.Length >= 2
        && info.ElementCount > 0;

    private static unsafe string HashOf(TensorView inputs, TensorView? targets)
    {
        const int Piece = 1 << 24;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (TensorView tensor in targets is { } t ? (ReadOnlySpan<TensorView>)[inputs, t] : [inputs])
        {
            using TensorView.Reading reading = tensor.Read();
            for (long at = 0; at < tensor.ByteLength; at += Piece)
                hash.AppendData(new ReadOnlySpan<byte>(tensor.Pointer + at, (int)Math.Min(Piece, tensor.ByteLength - at)));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}

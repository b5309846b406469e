using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Files;

namespace KernelScope.Conformance;

/// <summary>One case at work: the same inputs on the device under test and on the reference device, and what came out.</summary>
/// <remarks>
/// Whatever the op, <see cref="Run"/> also shows that a second call gives the same bits, that stale contents of a destination (NaN first,
/// then 10³⁰)
/// do not matter, and that nothing outside the destinations changed.
/// </remarks>
internal sealed class Trial : IDisposable
{
    private readonly List<TrialMatrix> _matrices = [];
    private readonly List<TrialCodes> _codes = [];
    private readonly List<IDisposable> _owned = [];
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly Side _tested;
    private readonly Side _reference;
    private bool _hashed;

    public Trial(Device device, ulong seed)
    {
        Random = new Generator(seed);
        _tested = new Side(device, IsReference: false);
        _reference = new Side(new ReferenceDevice(), IsReference: true);
    }

    public Generator Random { get; }

    /// <summary>Of everything that <see cref="Run"/> made the device write; empty if it made nothing.</summary>
    public string Hash => _hashed ? Convert.ToHexStringLower(_hash.GetCurrentHash()) : "";

    public Precision Precision => _tested.Device.Precision;

    public bool RoundsAttention => _tested.Device.RoundsAttention;

    /// <summary>The comparison that came nearest to its limit: its error.</summary>
    public double WorstError { get; private set; }

    /// <summary>The comparison that came nearest to its limit: its limit.</summary>
    public double ElementLimit { get; private set; }

    public TrialMatrix Input(string name, int rows, int columns, ReadOnlySpan<float> values, Layout layout = default) =>
        Matrix(name, rows, columns, layout, Role.Input, values);

    public TrialMatrix Input(string name, int rows, int columns, Layout layout = default, double size = 1) =>
        Input(name, rows, columns, Random.Normals(rows * columns, size), layout);

    public TrialMatrix Output(string name, int rows, int columns, Layout layout = default) =>
        Matrix(name, rows, columns, layout, Role.Output, default);

    public TrialMatrix InOut(string name, int rows, int columns, ReadOnlySpan<float> values, Layout layout = default) =>
        Matrix(name, rows, columns, layout, Role.InOut, values);

    public TrialMatrix InOut(string name, int rows, int columns, Layout layout = default, double size = 1) =>
        InOut(name, rows, columns, Random.Normals(rows * columns, size), layout);

    public TrialMatrix Scratch(string name, int rows, int columns, ReadOnlySpan<float> values, Layout layout = default) =>
        Matrix(name, rows, columns, layout, Role.Scratch, values);

    public TrialWeight Weight(string name, int columns, ReadOnlySpan<PartForm> parts, Func<int, int, double> value)
    {
        TrialWeight weight = new(name, columns, parts, value, _tested.Device, _reference.Device);
        _owned.Add(weight);
        return weight;
    }

    public TrialWeight Weight(string name, int rows, int columns, WeightForm form, double size = 1) =>
        Weight(name, columns, [new PartForm(rows, form)], (_, _) => Random.Normal() * size);

    public TrialCodes Codes(int featureCount, CodeList? input = null)
    {
        TrialCodes codes = new(featureCount, input, _tested.Device, _reference.Device);
        _owned.Add(codes);
        _codes.Add(codes);
        return codes;
    }

    /// <summary>A cache, dense as it must be, between rows that are not its own.</summary>
    public TrialCache Cache(Role role, int kvHeads, int capacity, int headDim, ReadOnlySpan<float> keys, ReadOnlySpan<float> values,
        DType type = DType.F32)
    {
        int columns = type == DType.BF16 ? headDim / 2 : headDim;
        return new(
            Matrix("keys", kvHeads * capacity, columns, new Layout(1, 2, 0, 0), role, TrialCache.Stored(keys, type)),
            Matrix("values", kvHeads * capacity, columns, new Layout(2, 1, 0, 0), role, TrialCache.Stored(values, type)),
            kvHeads,
            capacity,
            type);
    }

    /// <summary>x·Wᵀ on the reference device: the size of what later steps of an op start from.</summary>
    public float[] Products(TrialMatrix x, TrialWeight weight)
    {
        float[] product = new float[x.Rows * weight.Rows];
        Mat y = _reference.Device.CreateMat(x.Rows, weight.Rows, "product");
        using DeviceBuffer buffer = y.Buffer;
        _reference.Device.Write(x.Before(float.NaN), x.WholeReference);
        _reference.Device.Linear(x.Reference, weight.Reference, y);
        _reference.Device.Read(y, product);
        return product;
    }

    /// <summary>Runs an op on both devices, and twice on the one under test.</summary>
    public void Run(Action<Side> op)
    {
        Execute(_reference, op, float.NaN);
        Execute(_tested, op, float.NaN);
        AppendHash();
        foreach (TrialMatrix matrix in _matrices)
            CheckUntouched(matrix);
        RunAgain("a second call", op);
    }

    /// <summary>Runs an op on the device under test again, or its plain form, and expects the same bits.</summary>
    public void RunAgain(string what, Action<Side> op)
    {
        float[][] first = [.. _matrices.Select(matrix => matrix.KeepActual())];
        CodeList[] firstCodes = [.. _codes.Select(codes => codes.Actual)];
        foreach (TrialCodes codes in _codes)
            codes.Actual = new CodeList();
        Execute(_tested, op, 1e30f);
        for (int m = 0; m < first.Length; m++)
        {
            if (_matrices[m].Role != Role.Scratch)
                Comparison.Same(_matrices[m], first[m], _matrices[m].Actual, what);
        }

        for (int c = 0; c < firstCodes.Length; c++)
            Comparison.Same(firstCodes[c], _codes[c].Actual, what);
    }

    /// <summary>Compares with the reference; <paramref name="size"/> gives what an error in (r, j) is divided by.</summary>
    public void Compare(TrialMatrix y, Limit limit, Func<int, int, double> size)
    {
        (double worst, string? problem) = Comparison.Near(y, limit, size);
        Note(worst, limit.Element);
        if (problem is not null)
            throw new DisagreementException(problem);
    }

    /// <summary>Compares with the reference, relative to the value.</summary>
    public void CompareRelative(TrialMatrix y, Limit limit) => Compare(y, limit, (r, j) => Math.Abs((double)y.Expected[y.IndexOf(r, j)]));

    /// <summary>Compares bits with the reference; any NaN is like any other.</summary>
    public static void CompareBits(TrialMatrix y) => Comparison.Same(y, y.Expected, y.Actual, "the device");

    /// <summary>Compares indices and bits of the values with the reference.</summary>
    public static void CompareBits(TrialCodes codes) => Comparison.Same(codes.Expected, codes.Actual, "the device");

    /// <summary>Takes note of an error, for the report.</summary>
    public void Note(double error, double limit)
    {
        if (ElementLimit == 0 || error / limit > WorstError / ElementLimit)
            (WorstError, ElementLimit) = (error, limit);
    }

    public void Dispose()
    {
        foreach (TrialMatrix matrix in _matrices)
        {
            matrix.WholeTested.Buffer.Dispose();
            matrix.WholeReference.Buffer.Dispose();
        }

        foreach (IDisposable owned in _owned)
            owned.Dispose();
        _hash.Dispose();
        _reference.Device.Dispose();
    }

    /// <summary>
    /// Adds what the device wrote, in the order of declaration: matrices row by row as float32, code lists as starts (i64), indices (i32)
    /// and values (f32); little-endian, every NaN alike.
    /// </summary>
    private void AppendHash()
    {
        _hashed = true;
        foreach (TrialMatrix matrix in _matrices.Where(m => m.Role is Role.InOut or Role.Output))
        {
            for (int r = 0; r < matrix.Rows; r++)
                AppendHash(matrix.Actual.AsSpan(matrix.IndexOf(r, 0), matrix.Columns));
        }

        foreach (TrialCodes codes in _codes)
        {
            CodeList list = codes.Actual;
            _hash.AppendData(MemoryMarshal.AsBytes(list.RowStart.AsSpan(0, list.Rows + 1)));
            _hash.AppendData(MemoryMarshal.AsBytes(list.Feature.AsSpan(0, list.Count)));
            AppendHash(list.Value.AsSpan(0, list.Count));
        }
    }

    private void AppendHash(ReadOnlySpan<float> values)
    {
        Span<byte> bits = stackalloc byte[sizeof(int)];
        foreach (float value in values)
        {
            BinaryPrimitives.WriteInt32LittleEndian(bits, float.IsNaN(value) ? 0x7FFF_FFFF : BitConverter.SingleToInt32Bits(value));
            _hash.AppendData(bits);
        }
    }

    private TrialMatrix Matrix(string name, int rows, int columns, Layout layout, Role role, ReadOnlySpan<float> values)
    {
        TrialMatrix matrix = new(name, rows, columns, layout, role, values, _tested.Device, _reference.Device);
        _matrices.Add(matrix);
        return matrix;
    }

    private void Execute(Side side, Action<Side> op, float stale)
    {
        foreach (TrialMatrix matrix in _matrices)
            side.Device.Write(matrix.Before(stale), side.IsReference ? matrix.WholeReference : matrix.WholeTested);
        foreach (TrialCodes codes in _codes)
        {
            if (codes.Input is not null)
                side.Device.Write(codes.Input, side[codes]);
        }

        op(side);
        foreach (TrialMatrix matrix in _matrices)
            side.Device.Read(side.IsReference ? matrix.WholeReference : matrix.WholeTested, side.IsReference ? matrix.Expected
                : matrix.Actual);
        foreach (TrialCodes codes in _codes)
            side.Device.Read(side[codes], side.IsReference ? codes.Expected : codes.Actual);
    }

    private static void CheckUntouched(TrialMatrix matrix)
    {
        float[] before = matrix.Before(float.NaN);
        for (int n = 0; n < before.Length; n++)
        {
            if (!matrix.MayChange(n) && BitConverter.SingleToInt32Bits(before[n]) != BitConverter.SingleToInt32Bits(matrix.Actual[n]))
            {
                string place = string.Create(CultureInfo.InvariantCulture, $"row {n / matrix.Stride}, column " +
                    $"{n % matrix.Stride} of the rows of {matrix.Stride} around '{matrix.Name}' [{matrix.Rows}, {matrix.Columns}]");
                throw new DisagreementException(FormattableString.Invariant(
                    $"{place} was {before[n]:g9} and is now {matrix.Actual[n]:g9}; the op has no business there."));
            }
        }
    }
}

using System.Diagnostics;
using System.Runtime.InteropServices;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.Files;
using KernelScope.Measuring;

namespace KernelScope.Cli;

/// <summary>
/// The forms of a kernel against each other on one device, at the sizes of real models, which no reference can do in time: one row and
/// eight, wide loads and plain ones, tensor cores and multiply-adds, split keys and
/// tiles. What must have the same bits is compared bit by bit, the rest relative to ‖x‖·‖w‖. The first row's form is the one that the op
/// suite holds to its equation.
/// </summary>
/// <param name="device">The device; the emulated one gets small sizes.</param>
/// <param name="repeats">How often each op is repeated, as a batch of several.</param>
/// <param name="progress">Shows how far it is.</param>
/// <param name="cancellation">Stops between two checks.</param>
internal sealed class CrossChecks(CudaDevice device, int repeats, Progress progress, CancellationToken cancellation)
{
    /// <summary>Twice what the op suite allows, for both sides may be off.</summary>
    private const double Limit = 2e-6;

    private static readonly int[] HeadDims = [256, 128], Positions = [1, 31, 32, 127, 4095, 4096, 8191], Windows = [0, 4096];

    private const string Source = "another form of the same kernel on this device";

    private readonly bool _small = device.Name == EmulatedDevices.Name;
    private readonly List<CheckRow> _rows = [];

    /// <summary>Runs all of them.</summary>
    public IReadOnlyList<CheckRow> Run()
    {
        (int Inputs, int Outputs, bool Gated)[] products = _small ? [(64, 40, false), (64, 48, true)]
            : [(2304, 4096, false), (2048, 2304, false), (2304, 18432, true), (9216, 2304, false), (2304, 256_000, false)];
        int[] many = _small ? [9] : [9, 64, 100, 512];
        (int Inputs, int Features, DType Type)[] saes = _small ? [(64, 2048, DType.F32)]
            : [(2304, 1 << 14, DType.F32), (2304, 1 << 17, DType.BF16)];
        (int HeadDim, int Position, int Window)[] attentions = _small ? [(64, 40, 0)]
            : [.. HeadDims.SelectMany(d => Positions.SelectMany(p => Windows.Select(w => (d, p, w))))];
        int count = (products.Length * (1 + many.Length)) + saes.Length + attentions.Length, done = 0;
        foreach ((int inputs, int outputs, bool gated) in products)
        {
            using var tensors = Weights((outputs, inputs));
            using Weight weight = device.CreateWeight("w", new WeightPart(tensors.File["w"]));
            string shape = $"{inputs} to {outputs}{(gated ? ", gated" : "")}";
            Check($"rows together and alone, {shape}", () => FewRows(weight, gated));
            foreach (int rows in many)
            {
                // [rows, vocabulary] of many rows is never made.
                if (rows <= 9 || outputs < 100_000)
                    Check($"{rows} rows by tiles and one by one, {shape}", () => ManyRows(weight, gated, rows));
            }
        }

        foreach ((int inputs, int features, DType type) in saes)
            Check($"SAE encoders, {inputs} to {features}, {type.SafetensorsName().ToLowerInvariant()}",
                () => Encoders(inputs, features, type));
        foreach ((int headDim, int position, int window) in attentions)
            Check($"attention by splits and by tiles, heads of {headDim}, position {position}, window {window}",
                () => Attention(headDim, position, window));
        return _rows;

        void Check(string name, Func<(double Error, double Limit, string? Message)> check)
        {
            cancellation.ThrowIfCancellationRequested();
            long began = Stopwatch.GetTimestamp();
            (double error, double limit, string? message) = check();
            string? problem = message ?? (error <= limit ? null : "the two differ by more than rounding");
            _rows.Add(new CheckRow(name, problem is null, error, limit)
            {
                Source = Source,
                Message = problem,
                Seconds = Math.Round(Stopwatch.GetElapsedTime(began).TotalSeconds, 3)
            });
            progress.Report(++done / (double)count);
        }
    }

    /// <summary>1 to 8 rows share a pass over the weights and give each row the bits that it has alone; the plain form adds in another order.</summary>
    private (double, double, string?) FewRows(Weight weight, bool gated)
    {
        const int Most = 8;
        Mat x = Inputs(Most, weight.Columns);
        using DeviceBuffer buffer = x.Buffer;
        float[][] alone = [.. Enumerable.Range(0, Most).Select(row => Product(x.RowRange(row, 1), weight, gated))];
        foreach (int rows in (int[])[2, 4, 5, Most])
        {
            float[] together = Product(x.RowRange(0, rows), weight, gated);
            for (int row = 0; row < rows; row++)
            {
                if (!SameBits(alone[row], together.AsSpan(row * alone[row].Length, alone[row].Length)))
                    return (double.NaN, Limit, $"row {row} of {rows} has other bits than alone");
            }
        }

        double worst = Largest(alone[0], Product(Unaligned(x.RowRange(0, 1), out DeviceBuffer plain), weight, gated, plain),
            Size(weight, gated));
        return (worst, Limit, Unsteady("1 row", x.RowRange(0, 1), weight, gated) ?? Unsteady($"{Most} rows", x, weight, gated));
    }

    /// <summary>Tiles by tensor cores, tiles by multiply-adds (rows that are not aligned), and each row by itself.</summary>
    private (double, double, string?) ManyRows(Weight weight, bool gated, int rows)
    {
        Mat x = Inputs(rows, weight.Columns);
        using DeviceBuffer buffer = x.Buffer;
        float[] tiles = Product(x, weight, gated), plain = Product(Unaligned(x, out DeviceBuffer copy), weight, gated, copy);
        double worst = Largest(tiles, plain, Size(weight, gated));
        int outputs = tiles.Length / rows;
        foreach (int row in (int[])[0, rows / 2, rows - 1])
            worst = Math.Max(worst, Largest(tiles.AsSpan(row * outputs, outputs), Product(x.RowRange(row, 1), weight, gated),
                Size(weight, gated)));
        return (worst, device.Precision == Precision.Exact ? Limit : 2e-2, Unsteady($"{rows} rows", x, weight, gated));
    }

    /// <summary>
    /// The lists that one row, a few rows, tiles of multiply-adds and of tensor cores give: features that one has and another has not must
    /// lie at the threshold.
    /// </summary>
    private (double, double, string?) Encoders(int inputs, int features, DType type)
    {
        using var sae = new RandomSae(device, inputs, features, type, new Progress<double>(), cancellation);
        Mat all = Inputs(_small ? 64 : 512, inputs);
        using DeviceBuffer buffer = all.Buffer;
        double worst = 0;
        foreach (int rows in _small ? (int[])[1, 8, 64] : [1, 8, 64, 512])
        {
            Mat x = all.RowRange(0, rows);
            (double error, double limit, string? problem) = Encoders(x, sae.Parameters);
            problem ??= Unsteady($"{rows} rows", x, sae.Parameters);
            if (problem is not null)
                return (error, limit, problem);
            worst = Math.Max(worst, error);
        }

        return (worst, Limit, null);
    }

    private (double, double, string?) Encoders(Mat x, SaeParameters sae)
    {
        const double Near = 1e-4;
        CodeList tiles = Encode(x, sae), plain = Encode(Unaligned(x, out DeviceBuffer copy), sae);
        copy.Dispose();
        double worst = 0;
        foreach (int row in ((int[])[0, x.Rows / 2, x.Rows - 1]).Distinct())
        {
            CodeList alone = Encode(x.RowRange(row, 1), sae);
            if (alone.Count == 0)
                return (double.NaN, Limit, $"row {row} has no active feature");
            float least = alone.ValuesOf(0).ToArray().Min();
            foreach (CodeList other in (CodeList[])[tiles, plain])
            {
                foreach (int feature in alone.FeaturesOf(0).ToArray().Union(other.FeaturesOf(row).ToArray()))
                {
                    float a = alone.ValueOf(0, feature), b = other.ValueOf(row, feature);
                    if ((a == 0) != (b == 0) && Math.Max(a, b) > least * (1 + Near))
                        return (double.NaN, Limit, $"feature {feature} of row {row} is active in one form only, and not near its " +
                            "threshold");
                    worst = Math.Max(worst, a == 0 || b == 0 ? 0
                        : Math.Abs(a - b) / (Math.Sqrt(x.Columns / 3.0) * Math.Sqrt(x.Columns) * RandomValues.Deviation));
                }
            }
        }

        return (worst, Limit, null);
    }

    /// <summary>Rows by tiles of queries and keys, and the last of them by itself, its keys split.</summary>
    private (double, double, string?) Attention(int headDim, int position, int window)
    {
        const int Heads = 4, KvHeads = 2, Rows = 16;
        int capacity = position + Rows;
        Mat q = Inputs(Rows, Heads * headDim), keys = Inputs(KvHeads * capacity, headDim), values = Inputs(KvHeads * capacity, headDim),
            z = device.CreateMat(Rows, Heads * headDim, "z");
        using DeviceBuffer b0 = q.Buffer, b1 = keys.Buffer, b2 = values.Buffer, b3 = z.Buffer;
        var cache = new KvLayer(keys, values, KvHeads, capacity);
        var shape = new AttentionShape(Heads, 1 / MathF.Sqrt(headDim), 50, window);
        Mat last = q.RowRange(Rows - 1, 1), one = z.RowRange(Rows - 1, 1);
        device.Attend(q, cache, position, shape, z);
        float[] tiles = Read(z);
        device.Attend(last, cache, position + Rows - 1, shape, one);
        float[] alone = Read(one);
        string? unsteady = Unsteady("splits", () => device.Attend(last, cache, position + Rows - 1, shape, one), () => Read(one))
            ?? Unsteady("tiles", () => device.Attend(q, cache, position, shape, z), () => Read(z));
        // The values lie within ±1.
        return (Largest(tiles.AsSpan((Rows - 1) * alone.Length), alone, 1), 4 * Limit, unsteady);
    }

    private string? Unsteady(string what, Mat x, Weight weight, bool gated)
    {
        Mat y = device.CreateMat(x.Rows, gated ? weight.Rows / 2 : weight.Rows, "y");
        using DeviceBuffer buffer = y.Buffer;
        return Unsteady(what, () => Multiply(x, weight, gated, y), () => Read(y));
    }

    private string? Unsteady(string what, Mat x, SaeParameters sae)
    {
        using SparseCodes codes = device.CreateCodes(sae.FeatureCount, "codes");
        var list = new CodeList();
        return Unsteady(what, () => device.SaeEncode(x, sae, codes), () =>
        {
            device.Read(codes, list);
            return [.. list.Value.Take(list.Count), .. list.Feature.Take(list.Count).Select(BitConverter.Int32BitsToSingle)];
        });
    }

    /// <summary>
    /// What is wrong if an op does not give the same bits again and again. Between two reads it runs several times, so that its launches are a batch that comes again: at first they go one by one, then
    /// they are captured, then the graph is replayed.
    /// </summary>
    private string? Unsteady(string what, Action op, Func<float[]> read)
    {
        const int OpsOfBatch = 4;
        op();
        float[] first = read();
        for (int n = 0; n < repeats; n++)
        {
            cancellation.ThrowIfCancellationRequested();
            for (int i = 0; i < OpsOfBatch; i++)
                op();
            if (!SameBits(first, read()))
                return $"{what}: repetition {n + 1} gives other bits";
        }

        return null;
    }

    private CodeList Encode(Mat x, SaeParameters sae)
    {
        using SparseCodes codes = device.CreateCodes(sae.FeatureCount, "codes");
        device.SaeEncode(x, sae, codes);
        var list = new CodeList();
        device.Read(codes, list);
        return list;
    }

    private float[] Product(Mat x, Weight weight, bool gated, DeviceBuffer? owned = null)
    {
        Mat y = device.CreateMat(x.Rows, gated ? weight.Rows / 2 : weight.Rows, "y");
        using DeviceBuffer buffer = y.Buffer;
        Multiply(x, weight, gated, y);
        float[] values = Read(y);
        owned?.Dispose();
        return values;
    }

    private void Multiply(Mat x, Weight weight, bool gated, Mat y)
    {
        if (gated)
            device.GatedGelu(x, weight, y);
        else
            device.Linear(x, weight, y);
    }

    private float[] Read(Mat y)
    {
        float[] values = new float[y.Rows * y.Columns];
        device.Read(y, values);
        return values;
    }

    private Mat Inputs(int rows, int columns) => RandomSae.Inputs(device, rows, columns);

    /// <summary>The same values in rows that do not begin at multiples of 16 bytes, as the plain forms take them.</summary>
    private Mat Unaligned(Mat x, out DeviceBuffer owned)
    {
        Mat whole = device.CreateMat(x.Rows, x.Columns + 1, "unaligned"), copy = whole.ColumnRange(1, x.Columns);
        owned = whole.Buffer;
        device.Copy(x, copy);
        return copy;
    }

    /// <summary>‖x‖·‖w‖ of random inputs and weights; of a gated product its square, for two such sums are multiplied.</summary>
    private static double Size(Weight weight, bool gated)
    {
        double size = Math.Sqrt(weight.Columns / 3.0) * Math.Sqrt(weight.Columns) * RandomValues.Deviation;
        return gated ? size * Math.Max(size, 1) : size;
    }

    private RandomTensors Weights((int Outputs, int Inputs) shape) =>
        RandomTensors.InMemory("(random weights)", [new TensorInfo("w", DType.BF16, [shape.Outputs, shape.Inputs])], new Progress<double>(),
        cancellation);

    private static bool SameBits(ReadOnlySpan<float> a, ReadOnlySpan<float> b) => MemoryMarshal.AsBytes(a)
        .SequenceEqual(MemoryMarshal.AsBytes(b));

    private static double Largest(ReadOnlySpan<float> a, ReadOnlySpan<float> b, double size)
    {
        double largest = 0;
        for (int i = 0; i < b.Length; i++)
        {
            double error = Math.Abs((double)a[i] - b[i]) / size;
            largest = double.IsNaN(error) ? double.PositiveInfinity : Math.Max(largest, error);
        }

        return largest;
    }
}

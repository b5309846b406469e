using System.Runtime.InteropServices;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Cuda;

/// <summary>
/// A few ops that between them use every kind of instruction that a wrong driver or device could get wrong (shuffles, shared memory, tensor
/// cores, asynchronous copies, the integer atomic, graphs), against the
/// reference device: some milliseconds beside the compiling of their modules. No proof: the op suite is that.
/// </summary>
internal sealed unsafe class SelfTest : IDisposable
{
    private const int Width = 256, Rows = 72, Outputs = 128, FewOutputs = 64, HeadDim = 64, Keys = 200, Features = 128, Logits = 2000;

    /// <summary>
    /// Of the largest value: ten times what float32 sums in another order depart by here; in fast precision inputs are rounded to 8 bits.
    /// </summary>
    private const double ExactTolerance = 1e-5, FastTolerance = 3e-2;

    private readonly CudaDevice _device;
    private readonly ReferenceDevice _reference = new();
    private readonly List<IDisposable> _owned = [];
    private readonly List<nint> _memory = [];
    private readonly Random _random = new(20);

    private SelfTest(CudaDevice device) => _device = device;

    /// <summary>What is wrong, as the end of a sentence; empty if nothing is.</summary>
    /// <exception cref="Driver.CudaException">A call failed; a driver that does not take the PTX says so here.</exception>
    public static string Problem(CudaDevice device)
    {
        using var test = new SelfTest(device);
        return test.Run();
    }

    public void Dispose()
    {
        foreach (IDisposable owned in _owned)
            owned.Dispose();
        _reference.Dispose();
        foreach (nint memory in _memory)
            NativeMemory.Free((void*)memory);
    }

    private string Run()
    {
        double products = _device.Options.Precision == Precision.Exact ? ExactTolerance : FastTolerance;
        double codes = _device.Options.SaePrecision == Precision.Exact ? ExactTolerance : FastTolerance;
        (string What, Func<double> Error, double Tolerance)[] checks =
        [
            ("the product of one row", () => Product(1, FewOutputs), ExactTolerance),
            ($"the product of {Rows} rows", () => Product(Rows, Outputs), products),
            ("attention", Attention, ExactTolerance),
            ("the encoder of an SAE on one row", () => Encode(1), ExactTolerance),
            ($"the encoder of an SAE on {Rows} rows", () => Encode(Rows), codes),
            ("the largest values of a row", TopK, 0),
            ("launches that come again as a graph", Repeated, 0),
        ];
        foreach ((string what, Func<double> error, double tolerance) in checks)
        {
            double found = error();
            if (!(found <= tolerance))
                return FormattableString.Invariant($"{what} is off by {found:g3} of the largest value; {tolerance:g3} is allowed");
        }

        return "";
    }

    private double Product(int rows, int outputs)
    {
        Pair x = Random(rows, Width), y = Matrix(rows, outputs);
        (Weight tested, Weight reference) = Weights(outputs, Width);
        _device.Linear(x.Tested, tested, y.Tested);
        _reference.Linear(x.Reference, reference, y.Reference);
        return Error(y);
    }

    private double Attention()
    {
        const int Heads = 2;
        Pair q = Random(1, Heads * HeadDim), keys = Random(Keys, HeadDim), values = Random(Keys, HeadDim), z = Matrix(1, Heads * HeadDim);
        var shape = new AttentionShape(Heads, 0.125f, 50f, 0);
        _device.Attend(q.Tested, new KvLayer(keys.Tested, values.Tested, 1, Keys), Keys - 1, shape, z.Tested);
        _reference.Attend(q.Reference, new KvLayer(keys.Reference, values.Reference, 1, Keys), Keys - 1, shape, z.Reference);
        return Error(z);
    }

    private double Encode(int rows)
    {
        Pair x = Random(rows, Width), bias = Random(1, Features), zeros = Matrix(1, Features), outputBias = Matrix(1, Width);
        (Weight tested, Weight reference) = Weights(Features, Width);
        (Weight decoder, Weight referenceDecoder) = Weights(Width, Features);
        float[] actual = Encoded(_device, x.Tested, new SaeParameters(tested, bias.Tested, zeros.Tested, decoder, outputBias.Tested));
        float[] expected = Encoded(_reference, x.Reference,
            new SaeParameters(reference, bias.Reference, zeros.Reference, referenceDecoder, outputBias.Reference));
        return Error(expected, actual);
    }

    private static float[] Encoded(Device device, Mat x, SaeParameters sae)
    {
        using SparseCodes codes = device.CreateCodes(Features, "self-test codes");
        device.SaeEncode(x, sae, codes);
        var list = new CodeList();
        device.Read(codes, list);
        float[] dense = new float[x.Rows * Features];
        for (int r = 0; r < x.Rows; r++)
        {
            for (int n = 0; n < list.FeaturesOf(r).Length; n++)
                dense[(r * Features) + list.FeaturesOf(r)[n]] = list.ValuesOf(r)[n];
        }

        return dense;
    }

    private double TopK()
    {
        const int Count = 3;
        Pair x = Random(1, Logits);
        using SparseCodes top = _device.CreateCodes(Logits, "self-test top"), expectedTop = _reference.CreateCodes(Logits, "self-test top");
        _device.TopK(x.Tested, Count, top);
        _reference.TopK(x.Reference, Count, expectedTop);
        CodeList actual = new(), expected = new();
        _device.Read(top, actual);
        _reference.Read(expectedTop, expected);
        return actual.Count == Count && actual.FeaturesOf(0).SequenceEqual(expected.FeaturesOf(0)) && actual.ValuesOf(0)
            .SequenceEqual(expected.ValuesOf(0)) ? 0 : 1;
    }

    /// <summary>The same launches three times: plain, captured as a graph, and the graph once more. Bits are compared.</summary>
    private double Repeated()
    {
        Pair x = Random(1, Width), y = Matrix(1, Width);
        (Weight weight, _) = Weights(Width, Width);
        float[] first = new float[Width], again = new float[Width];
        for (int turn = 0; turn < 3; turn++)
        {
            _device.Linear(x.Tested, weight, y.Tested);
            for (int n = 0; n < 3; n++)
                _device.Softcap(y.Tested, 30f);
            _device.Read(y.Tested, turn == 0 ? first : again);
            if (turn > 0 && !MemoryMarshal.AsBytes<float>(first).SequenceEqual(MemoryMarshal.AsBytes<float>(again)))
                return Error(first, again);
        }

        return 0;
    }

    private double Error(Pair y)
    {
        float[] expected = new float[y.Tested.Rows * y.Tested.Columns], actual = new float[expected.Length];
        _reference.Read(y.Reference, expected);
        _device.Read(y.Tested, actual);
        return Error(expected, actual);
    }

    private static double Error(float[] expected, float[] actual)
    {
        double largest = 0, error = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            largest = Math.Max(largest, Math.Abs((double)expected[i]));
            double difference = Math.Abs((double)expected[i] - actual[i]);
            error = double.IsNaN(difference) ? double.PositiveInfinity : Math.Max(error, difference);
        }

        return error / largest;
    }

    private Pair Matrix(int rows, int columns)
    {
        var pair = new Pair(_device.CreateMat(rows, columns, "self-test"), _reference.CreateMat(rows, columns, "self-test"));
        _owned.Add(pair.Tested.Buffer);
        _owned.Add(pair.Reference.Buffer);
        return pair;
    }

    private Pair Random(int rows, int columns)
    {
        Pair pair = Matrix(rows, columns);
        float[] values = new float[rows * columns];
        foreach (ref float value in values.AsSpan())
            value = (2 * _random.NextSingle()) - 1;
        _device.Write(values, pair.Tested);
        _reference.Write(values, pair.Reference);
        return pair;
    }

    /// <summary>A random bfloat16 matrix on both devices, where a file's would lie.</summary>
    private (Weight Tested, Weight Reference) Weights(int outputs, int inputs)
    {
        var memory = (BFloat16*)NativeMemory.Alloc((nuint)(outputs * inputs), (nuint)sizeof(BFloat16));
        _memory.Add((nint)memory);
        for (int i = 0; i < outputs * inputs; i++)
            memory[i] = (BFloat16)((2 * _random.NextSingle()) - 1);
        var part = new WeightPart(new TensorView("(memory)", new TensorInfo("self-test", DType.BF16, [outputs, inputs]),
            (byte*)memory, this));
        Weight tested = _device.CreateWeight("self-test", part), reference = _reference.CreateWeight("self-test", part);
        _owned.Add(tested);
        _owned.Add(reference);
        return (tested, reference);
    }

    /// <summary>A matrix on both devices.</summary>
    private readonly record struct Pair(Mat Tested, Mat Reference);
}

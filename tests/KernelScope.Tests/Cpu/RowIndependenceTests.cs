using KernelScope.Conformance;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Tests.Cpu;

/// <summary>In exact, a row's bits do not depend on the rows beside it: the kernels of a stored form sum in one order, and attention joins blocks of keys in one order.</summary>
public class RowIndependenceTests
{
    private const int Many = 200;

    // Edges of tiles, vectors, panels and blocks; weights of 4096 outputs or more are copied ahead. 777 inputs are more than two blocks of 256. The last have
    // a last block of whole steps, and rows of a multiple of 4 KiB, whose blocks are multiplied two at a time.
    private static readonly (int Inputs, int Outputs)[] Shapes =
        [(1, 2), (7, 62), (8, 64), (17, 66), (100, 200), (333, 1500), (40, 5000), (301, 4700), (777, 96), (344, 96), (2048, 70)];

    public static TheoryData<DType, bool, bool> Forms()
    {
        TheoryData<DType, bool, bool> data = [];
        foreach (DType type in (DType[])[DType.F32, DType.BF16, DType.F16, DType.F64])
        {
            data.Add(type, false, false);
            data.Add(type, true, false);
        }

        // Compact panels of bfloat16 have exceptions, which one kernel adds last: not these.
        data.Add(DType.F32, false, true);
        data.Add(DType.F16, true, true);
        return data;
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void A_row_has_the_same_bits_alone_and_among_many(DType type, bool transposed, bool packs)
    {
        using CpuDevice device = new(2), other = new(3);
        using Device maker = packs ? new PackingDevice(2) : new CpuDevice(2);
        Generator random = new(7);
        foreach ((int inputs, int outputs) in Shapes)
        {
            using TrialWeight weight =
                new("w", inputs, [new(outputs, new WeightForm(type, transposed))], (_, _) => random.Normal(), maker, device);
            AssertRows($"{type} [{inputs}, {outputs}]", device, other, weight.Tested, random.Normals(Many * inputs));
        }
    }

    /// <summary>Matrices of several types, as queries, keys and values may be.</summary>
    [Fact]
    public void A_weight_of_several_types_too()
    {
        using CpuDevice device = new(2), other = new(1);
        Generator random = new(8);
        PartForm[] parts = [new(70, new(DType.BF16)), new(34, new(DType.F32)), new(130, new(DType.F16))];
        using TrialWeight weight = new("w", 301, parts, (_, _) => random.Normal(), device, device);
        AssertRows("several", device, other, weight.Tested, random.Normals(Many * 301));
    }

    [Theory]
    [InlineData(DType.F32, false)]
    [InlineData(DType.F32, true)]
    [InlineData(DType.BF16, false)]
    [InlineData(DType.F16, true)]
    public void An_SAE_gives_a_row_the_same_codes_alone_and_among_many(DType type, bool transposed)
    {
        const int Inputs = 300, Features = 4500;
        using CpuDevice device = new(2);
        Generator random = new(9);
        using TrialWeight encoder =
            new("W_enc", Inputs, [new(Features, new WeightForm(type, transposed))], (_, _) => random.Normal(), device, device);
        using TrialWeight decoder = new("W_dec", Features, [new(Inputs, new WeightForm(DType.F32))], (_, _) => 0, device, device);
        float[] x = random.Normals(64 * Inputs);
        Mat bias = Filled(device, 1, random.Normals(Features)), threshold = Filled(device, 1, new float[Features]);
        Mat zero = Filled(device, 1, new float[Inputs]);
        using DeviceBuffer ofBias = bias.Buffer, ofThreshold = threshold.Buffer, ofZero = zero.Buffer;
        SaeParameters sae = new(encoder.Tested, bias, threshold, decoder.Tested, zero);
        (int[] allFeatures, float[] allValues, long[] starts) = Codes(device, sae, x, 64);
        for (int row = 0; row < 64; row++)
        {
            (int[] features, float[] values, _) = Codes(device, sae, x[(row * Inputs)..((row + 1) * Inputs)], 1);
            Assert.True(features.AsSpan().SequenceEqual(allFeatures.AsSpan((int)starts[row], features.Length)), $"row {row}");
            Assert.True(values.AsSpan().SequenceEqual(allValues.AsSpan((int)starts[row], values.Length)), $"row {row}");
        }
    }

    /// <summary>The whole model: its products, its attention with windows and a ring, and its logits.</summary>
    [Theory]
    [InlineData("base", false)]
    [InlineData("base", true)]
    [InlineData("bf16", false)]
    [InlineData("f16", true)]
    [InlineData("mqa-odd", false)]
    [InlineData("hd256", false)]
    [InlineData("past-256", false)]
    public void A_text_has_the_same_logits_in_chunks_of_any_size(string name, bool packs)
    {
        using Device device = packs ? new PackingDevice(2) : new CpuDevice(2);
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", name));
        var random = new Random(3);
        int[] tokens = [2, .. Enumerable.Range(0, 279).Select(_ => random.Next(4, model.Config.VocabSize))];
        uint[] whole = InChunks(model, tokens, tokens.Length);
        foreach (int chunk in (int[])[1, 3, 7, 256])
            Assert.True(whole.AsSpan().SequenceEqual(InChunks(model, tokens, chunk)), $"chunks of {chunk}");
    }

    private static uint[] InChunks(Gemma2Model model, int[] tokens, int chunk)
    {
        using Session session = model.NewSession(contextLength: tokens.Length, chunkLength: chunk);
        return [.. tokens.Chunk(chunk).SelectMany(some => model.Device.Bits(model.Forward(some, session, LogitRows.All)))];
    }

    private static void AssertRows(string what, CpuDevice device, CpuDevice other, Weight weight, float[] x)
    {
        foreach (bool gated in (bool[])[false, true])
        {
            int width = gated ? weight.Rows / 2 : weight.Rows;
            uint[] all = Product(device, weight, x, Many, gated);
            for (int rows = 1; rows <= 64; rows += rows < 34 ? 1 : 10)
            {
                // Few rows from anywhere, so that alone is not always the first.
                int from = Many - rows - (rows % 3);
                uint[] few = Product(rows % 2 == 0 ? device : other, weight, x[(from * weight.Columns)..], rows, gated);
                bool same = all.AsSpan(from * width, rows * width).SequenceEqual(few);
                Assert.True(same, $"{what}, gated {gated}: {rows} rows differ from {Many}.");
            }
        }
    }

    private static uint[] Product(CpuDevice device, Weight weight, float[] x, int rows, bool gated)
    {
        Mat a = Filled(device, rows, x.AsSpan(0, rows * weight.Columns));
        Mat y = device.CreateMat(rows, gated ? weight.Rows / 2 : weight.Rows, "y");
        using DeviceBuffer ofA = a.Buffer, ofY = y.Buffer;
        if (gated)
            device.GatedGelu(a, weight, y);
        else
            device.Linear(a, weight, y);
        return device.Bits(y);
    }

    private static Mat Filled(CpuDevice device, int rows, ReadOnlySpan<float> values)
    {
        Mat mat = device.CreateMat(rows, values.Length / rows, "x");
        device.Write(values, mat);
        return mat;
    }

    private static (int[] Features, float[] Values, long[] Starts) Codes(CpuDevice device, SaeParameters sae, float[] x, int rows)
    {
        Mat a = Filled(device, rows, x);
        using DeviceBuffer ofA = a.Buffer;
        using SparseCodes codes = device.CreateCodes(sae.Encoder.Rows, "codes");
        device.SaeEncode(a, sae, codes);
        CodeList list = new();
        device.Read(codes, list);
        return (list.Feature[..list.Count], list.Value[..list.Count], list.RowStart[..(rows + 1)]);
    }
}

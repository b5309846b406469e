using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Tests.Devices;

/// <summary>
/// The definition itself, against numbers worked out by hand or by a formula that is written another way here. (The models' and SAEs' reference outputs,
/// which come from other people's software, are in the tests of the model and of the SAEs.)
/// </summary>
public sealed class ReferenceDeviceTests : IDisposable
{
    private readonly ReferenceDevice _device = new();
    private readonly List<IDisposable> _owned = [];
    private readonly string _folder = Directory.CreateTempSubdirectory("kernelscope-ops-").FullName;

    public void Dispose()
    {
        foreach (IDisposable owned in _owned)
            owned.Dispose();
        _device.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public void Embed_takes_rows_times_a_scale()
    {
        Mat y = Empty(3, 2);
        _device.Embed([2, 0, 2], Weights(3, 2, 1, 2, 3, 4, 5, 6), 1.5f, y);
        Assert.Equal([7.5f, 9f, 1.5f, 3f, 7.5f, 9f], Read(y));
    }

    [Fact]
    public void Embed_refuses_a_token_outside_the_vocabulary()
    {
        Weight table = Weights(3, 2, 1, 2, 3, 4, 5, 6);
        Assert.Contains("Token id 3", Assert.Throws<ArgumentOutOfRangeException>(() => _device.Embed([3], table, 1f, Empty(1, 2))).Message,
            StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => _device.Embed([-1], table, 1f, Empty(1, 2)));
    }

    [Fact]
    public void Normalize_divides_by_the_root_of_the_mean_square()
    {
        // mean(9, 16) = 12.5; with ε 3.5 it is 16.
        Mat x = Matrix(1, 2, 3, 4);
        Mat y = Empty(1, 2);
        _device.Normalize(x, 0f, y);
        AssertClose([3 / Math.Sqrt(12.5), 4 / Math.Sqrt(12.5)], y);
        _device.Normalize(x, 3.5f, x);
        Assert.Equal([0.75f, 1f], Read(x));
    }

    [Fact]
    public void Normalize_gives_what_its_equation_gives_for_infinities_and_NaN()
    {
        Mat x = Matrix(3, 2, float.PositiveInfinity, 1, float.NaN, 1, 0, 0);
        _device.Normalize(x, 1e-6f, x);
        Assert.Equal([float.NaN, 0f, float.NaN, float.NaN, 0f, 0f], Read(x));
    }

    [Fact]
    public void ApplyGain_multiplies_by_one_more_than_the_gain()
    {
        Mat u = Matrix(2, 2, 2, -3, 10, 0.5f);
        _device.ApplyGain(u, Matrix(1, 2, 0.5f, -1), u);
        Assert.Equal([3f, 0f, 15f, 0f], Read(u).Select(value => value + 0f));
    }

    [Fact]
    public void AddNormedThenNorm_leaves_the_sum_and_its_norm()
    {
        Mat branch = Matrix(1, 2, 3, 4);
        Mat resid = Matrix(1, 2, 1, -1);
        Mat normed = Empty(1, 2);
        _device.AddNormedThenNorm(branch, Matrix(1, 2, 1, 0), Matrix(1, 2, 0, 2), 0f, resid, normed);
        double[] sum = [1 + (2 * 3 / Math.Sqrt(12.5)), -1 + (4 / Math.Sqrt(12.5))];
        double root = Math.Sqrt(((sum[0] * sum[0]) + (sum[1] * sum[1])) / 2);
        AssertClose(sum, resid);
        AssertClose([sum[0] / root, 3 * sum[1] / root], normed);
    }

    [Fact]
    public void Linear_multiplies_by_the_transpose()
    {
        Mat y = Empty(2, 3);
        _device.Linear(Matrix(2, 2, 1, 2, -1, 10), Weights(3, 2, 1, 0, 0, 1, 3, 4), y);
        Assert.Equal([1f, 2f, 11f, -1f, 10f, 37f], Read(y));
    }

    [Fact]
    public void Linear_sums_in_double()
    {
        Mat y = Empty(1, 1);
        _device.Linear(Matrix(1, 3, 1e8f, 1, -1e8f), Weights(1, 3, 1, 1, 1), y);
        Assert.Equal([1f], Read(y));
    }

    [Fact]
    public void Linear_puts_the_outputs_of_parts_next_to_each_other()
    {
        float[] stored = [1, 2, 3, 4, 5, 6];
        SafetensorsFile file = Write(
            ("f32", DType.F32, [1, 3], stored.AsSpan(0, 3).ToArray()),
            ("bf16", DType.BF16, [2, 3], stored),
            ("transposed", DType.F16, [3, 2], stored),
            ("f64", DType.F64, [1, 3], [7, 8, 9]));
        using Weight weight =
            _device.CreateWeight("four parts", new(file["f32"]), new(file["bf16"]), new(file["transposed"], transposed: true),
                new(file["f64"]));
        Assert.Equal((6, 3), (weight.Rows, weight.Columns));
        Mat y = Empty(1, 6);
        _device.Linear(Matrix(1, 3, 1, 10, 100), weight, y);
        Assert.Equal([321f, 321f, 654f, 531f, 642f, 987f], Read(y));
    }

    [Fact]
    public void A_column_major_matrix_is_the_same_bytes_the_other_way_round()
    {
        string path = Path.Combine(_folder, "fortran.npz");
        using (ZipArchive archive = ZipFile.Open(path, ZipArchiveMode.Create))
        using (Stream entry = archive.CreateEntry("w.npy", CompressionLevel.NoCompression).Open())
        {
            entry.Write([0x93, .. "NUMPY"u8, 1, 0, 118, 0]);
            entry.Write(Encoding.ASCII.GetBytes("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }".PadRight(117) + "\n"));
            entry.Write(MemoryMarshal.AsBytes<float>([1, 4, 2, 5, 3, 6]));
        }

        NpzFile file = NpzFile.Open(path);
        _owned.Add(file);
        Mat y = Empty(1, 2);
        _device.Linear(Matrix(1, 3, 1, 10, 100), _device.CreateWeight("w", new WeightPart(file["w"])), y);
        Assert.Equal([321f, 654f], Read(y));
        Mat z = Empty(1, 3);
        _device.Linear(Matrix(1, 2, 1, 10), _device.CreateWeight("w", new WeightPart(file["w"], transposed: true)), z);
        Assert.Equal([41f, 52f, 63f], Read(z));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 0.84119199)] // torch.nn.functional.gelu(x, approximate="tanh")
    [InlineData(-1, -0.15880801)]
    [InlineData(3, 2.99636269)]
    [InlineData(-3, -0.00363732)]
    public void GatedGelu_is_the_tanh_form_times_the_other_half(float gate, double expected)
    {
        Mat h = Empty(1, 1);
        _device.GatedGelu(Matrix(1, 2, gate, 10), Weights(2, 2, 1, 0, 0, 1), h);
        Assert.Equal(10 * expected, Read(h)[0], 1e-7 * 10);
    }

    [Fact]
    public void GatedGelu_of_minus_infinity_is_NaN_as_in_its_equation()
    {
        Mat h = Empty(2, 1);
        _device.GatedGelu(Matrix(2, 1, float.PositiveInfinity, float.NegativeInfinity), Weights(2, 1, 1, 1), h);
        Assert.Equal([float.PositiveInfinity, float.NaN], Read(h));
    }

    [Fact]
    public void Rope_turns_the_halves_of_a_head_into_each_other()
    {
        // Position 1 turns pair 0 by a right angle and pair 1 by none; position 2 the other way about.
        Mat table = Matrix(3, 4, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1);
        Mat x = Matrix(2, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8);
        _device.Rope(x, 1, table);
        Assert.Equal([-3f, 2, 1, 4, -7, 6, 5, 8, 1, -4, 3, 2, 5, -8, 7, 6], Read(x));
    }

    [Fact]
    public void Store_goes_around_the_ring_of_each_head()
    {
        KvLayer cache = Cache(kvHeads: 2, capacity: 3, headDim: 1);
        _device.Store(Matrix(2, 2, 1, 2, 3, 4), Matrix(2, 2, 10, 20, 30, 40), 5, cache);
        // Position 5 is slot 2, position 6 slot 0.
        Assert.Equal([3f, 0, 1, 4, 0, 2], Read(cache.Keys));
        Assert.Equal([30f, 0, 10, 40, 0, 20], Read(cache.Values));
    }

    [Fact]
    public void RopeThenStore_keeps_turned_keys_and_plain_values()
    {
        KvLayer cache = Cache(kvHeads: 1, capacity: 4, headDim: 2);
        Mat qkv = Matrix(1, 6, 1, 2, 3, 4, 5, 6);
        _device.RopeThenStore(qkv, 1, Matrix(2, 2, 1, 0, 0, 1), cache);
        Assert.Equal([-2f, 1, -4, 3, 5, 6], Read(qkv));
        Assert.Equal([0f, 0, -4, 3, 0, 0, 0, 0], Read(cache.Keys));
        Assert.Equal([0f, 0, 5, 6, 0, 0, 0, 0], Read(cache.Values));
    }

    [Fact]
    public void Attend_weighs_values_by_the_softmax_of_scaled_scores()
    {
        // Scores 0 and ln 3: weights 1/4 and 3/4. The first query sees only the first key.
        KvLayer cache = Cache(kvHeads: 1, capacity: 2, headDim: 1);
        _device.Store(Matrix(2, 1, 0, (float)(2 * Math.Log(3))), Matrix(2, 1, 8, 100), 0, cache);
        Mat z = Empty(2, 1);
        _device.Attend(Matrix(2, 1, 1, 1), cache, 0, new AttentionShape(1, 0.5f, 0, 0), z);
        AssertClose([8, 77], z);
    }

    [Fact]
    public void Attend_caps_scores_before_the_softmax()
    {
        KvLayer cache = Cache(kvHeads: 1, capacity: 2, headDim: 1);
        _device.Store(Matrix(2, 1, 0, 1000), Matrix(2, 1, 0, 1), 0, cache);
        Mat z = Empty(1, 1);
        _device.Attend(Matrix(1, 1, 1), cache, 1, new AttentionShape(1, 1f, 2, 0), z);
        AssertClose([1 / (1 + Math.Exp(-2))], z);
    }

    [Fact]
    public void Attend_sees_its_window_and_reads_the_head_of_its_group()
    {
        // Four query heads on two key/value heads; equal keys, so z is the mean of the visible values.
        KvLayer cache = Cache(kvHeads: 2, capacity: 4, headDim: 1);
        for (int p = 0; p < 6; p++)
            _device.Store(Matrix(1, 2, 1, 1), Matrix(1, 2, p, 100 * p), p, cache);
        Mat z = Empty(1, 4);
        _device.Attend(Matrix(1, 4, 1, -1, 2, 0), cache, 5, new AttentionShape(4, 1f, 50, 3), z);
        AssertClose([4, 4, 400, 400], z);
    }

    [Fact]
    public void Softcap_is_a_scaled_tanh()
    {
        Mat x = Matrix(1, 4, 30, -15, float.NegativeInfinity, 0);
        _device.Softcap(x, 30f);
        AssertClose([30 * 0.76159415595576489, -30 * 0.46211715726000976, -30, 0], x);
    }

    [Theory]
    [InlineData(0, 1.3862943611198906)] // ln 4
    [InlineData(1, 0.28768207245178093)] // ln 4/3
    public void CrossEntropy_is_the_negative_log_probability_in_nats(int target, double expected)
    {
        Mat loss = Empty(1, 1);
        _device.CrossEntropy(Matrix(1, 2, 1000, (float)Math.Log(3)), Weights(2, 2, 1, 0, 1, 1), 0f, [target], loss);
        // Logits 1000 and 1000 + ln 3.
        Assert.Equal(expected, Read(loss)[0], 1e-6);
    }

    [Fact]
    public void CrossEntropy_of_an_infinite_logit_is_infinite_or_NaN()
    {
        Mat loss = Empty(2, 1);
        _device.CrossEntropy(Matrix(2, 1, float.PositiveInfinity, float.PositiveInfinity), Weights(2, 1, 1, -1), 0f, [1, 0], loss);
        Assert.Equal([float.PositiveInfinity, float.NaN], Read(loss));
    }

    [Fact]
    public void TopK_puts_NaN_first_and_the_lower_index_first_among_equals()
    {
        using SparseCodes lists = _device.CreateCodes(6, "lists");
        _device.TopK(Matrix(2, 6, 1, 7, float.NaN, 7, float.PositiveInfinity, float.NaN, -1, -0f, 0, -5, -1, 0), 5, lists);
        CodeList list = new();
        _device.Read(lists, list);
        Assert.Equal([2, 5, 4, 1, 3], list.FeaturesOf(0).ToArray());
        Assert.Equal([1, 2, 5, 0, 4], list.FeaturesOf(1).ToArray());
        Assert.Equal([-0f, 0f, 0f, -1f, -1f], list.ValuesOf(1).ToArray());
    }

    [Fact]
    public void SaeEncode_lists_what_is_above_threshold_and_above_zero()
    {
        // Pre-activations of (1, 2): 1 + 0.5, 2 + 0, −1, 0, 3; of (0, 0): the biases.
        using SparseCodes codes = _device.CreateCodes(5, "codes");
        SaeParameters sae = Sae(
            Weights(5, 2, 1, 0, 0, 1, -1, 0, 0, 0, 1, 1),
            bias: [0.5f, 0, 0, 0, 0],
            threshold: [1.5f, 1.9999999f, -5, -1, 2]);
        _device.SaeEncode(Matrix(3, 2, 1, 2, 0, 0, float.NaN, 0), sae, codes);
        CodeList list = new();
        _device.Read(codes, list);
        Assert.Equal([1, 4], list.FeaturesOf(0).ToArray());
        Assert.Equal([2f, 3f], list.ValuesOf(0).ToArray());
        Assert.Equal(0, list.FeaturesOf(1).Length + list.FeaturesOf(2).Length);
    }

    [Fact]
    public void SaeDecode_adds_the_rows_of_active_features_to_the_bias()
    {
        SaeParameters sae = Sae(Weights(3, 2, 0, 0, 0, 0, 0, 0), [0, 0, 0], [0, 0, 0]);
        using SparseCodes codes = _device.CreateCodes(3, "codes");
        CodeList list = new();
        list.Resize(2, 2);
        (list.RowStart[1], list.RowStart[2]) = (2, 2);
        (list.Feature[0], list.Value[0], list.Feature[1], list.Value[1]) = (0, 2f, 2, 0.5f);
        _device.Write(list, codes);
        Mat y = Empty(2, 2);
        _device.SaeDecode(codes, sae, y);
        // Decoder rows (1, 10), (2, 20), (3, 30); bias (−1, 1).
        Assert.Equal([2.5f, 36f, -1f, 1f], Read(y));
    }

    [Fact]
    public void SaeEdit_reads_before_it_writes_and_applies_edits_in_order()
    {
        // f_0 = x_0 = 4 above its threshold, f_1 = x_1 = 0.5 below its own: 0.
        SaeParameters sae = Sae(Weights(3, 2, 1, 0, 0, 1, 0, 0), [0, 0, 0], [1, 1, 1]);
        Mat x = Matrix(1, 2, 4, 0.5f);
        _device.SaeEdit(
            x, sae, [new(0, FeatureEditKind.Clamp, 1), new(1, FeatureEditKind.Clamp, 2), new(0, FeatureEditKind.Clamp, 5),
                new(2, FeatureEditKind.Add, -1)], x);
        // Strengths −3, 2, 1, −1 on rows (1, 10), (2, 20), (1, 10), (3, 30).
        Assert.Equal([4f - 3 + 4 + 1 - 3, 0.5f - 30 + 40 + 10 - 30], Read(x));
    }

    [Fact]
    public void AddScaled_rounds_the_product_then_the_sum()
    {
        // 0.1f·3 is 0.3000000045 exactly; rounded to float32 it is 0.3000000119.
        Mat y = Matrix(2, 1, -0.3f, 1);
        _device.AddScaled(Matrix(1, 1, 3), 0.1f, y);
        Assert.Equal([(3 * 0.1f) - 0.3f, 1.3f], Read(y));
    }

    [Fact]
    public void A_call_with_wrong_shapes_names_both()
    {
        Weight weight = Weights(3, 2, 1, 0, 0, 1, 3, 4);
        ArgumentException e = Assert.Throws<ArgumentException>(() => _device.Linear(Matrix(1, 3, 1, 2, 3), weight, Empty(1, 3)));
        Assert.Contains("[1, 3] should be [1, 2]", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Codes_out_of_order_or_range_are_refused()
    {
        using SparseCodes codes = _device.CreateCodes(3, "codes");
        CodeList list = new();
        list.Resize(1, 2);
        list.RowStart[1] = 2;
        (list.Feature[0], list.Feature[1]) = (1, 1);
        Assert.Throws<ArgumentException>(() => _device.Write(list, codes));
        list.Feature[1] = 3;
        Assert.Throws<ArgumentException>(() => _device.Write(list, codes));
    }

    [Fact]
    public void A_steady_state_allocates_nothing()
    {
        Mat x = Matrix(2, 2, 1, 2, 3, 4);
        Mat y = Empty(2, 3);
        Weight weight = Weights(3, 2, 1, 0, 0, 1, 3, 4);
        using SparseCodes codes = _device.CreateCodes(3, "codes");
        SaeParameters sae = Sae(weight, [0, 0, 0], [0, 0, 0]);
        KvLayer cache = Cache(kvHeads: 1, capacity: 4, headDim: 2);
        void Round()
        {
            _device.Linear(x, weight, y);
            _device.SaeEncode(x, sae, codes);
            _device.SaeDecode(codes, sae, x);
            _device.SaeEdit(x, sae, [new(0, FeatureEditKind.Clamp, 1)], x);
            _device.TopK(y, 2, codes);
            _device.Store(x, x, 0, cache);
            _device.Attend(x, cache, 0, new AttentionShape(1, 1f, 0, 0), y.ColumnRange(0, 2));
        }

        Round();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Round();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private Mat Matrix(int rows, int columns, params ReadOnlySpan<float> values)
    {
        Mat x = Empty(rows, columns);
        _device.Write(values, x);
        return x;
    }

    private Mat Empty(int rows, int columns)
    {
        Mat x = _device.CreateMat(rows, columns, "x");
        _owned.Add(x.Buffer);
        return x;
    }

    private float[] Read(Mat x)
    {
        float[] values = new float[x.Rows * x.Columns];
        _device.Read(x, values);
        return values;
    }

    private KvLayer Cache(int kvHeads, int capacity, int headDim) =>
        new(Empty(kvHeads * capacity, headDim), Empty(kvHeads * capacity, headDim), kvHeads, capacity);

    /// <summary>An SAE whose decoder rows are (1, 10), (2, 20), …, with bias (−1, 1).</summary>
    private SaeParameters Sae(Weight encoder, float[] bias, float[] threshold)
    {
        float[] rows = [.. Enumerable.Range(1, encoder.Rows).SelectMany(f => new[] { f, 10f * f })];
        Weight decoder =
            _device.CreateWeight("W_dec", new WeightPart(Write(("w", DType.F32, [encoder.Rows, 2], rows))["w"], transposed: true));
        return new SaeParameters(encoder, Matrix(1, encoder.Rows, bias), Matrix(1, encoder.Rows, threshold), decoder, Matrix(1, 2, -1, 1));
    }

    private Weight Weights(int rows, int columns, params float[] values) =>
        _device.CreateWeight("w", new WeightPart(Write(("w", DType.F32, [rows, columns], values))["w"]));

    private SafetensorsFile Write(params (string Name, DType Type, long[] Shape, float[] Values)[] tensors)
    {
        string path = Path.Combine(_folder, $"{_owned.Count}.safetensors");
        using (SafetensorsWriter writer = new(path, tensors.Select(tensor => new TensorInfo(tensor.Name, tensor.Type, tensor.Shape))))
        {
            foreach ((_, DType type, _, float[] values) in tensors)
            {
                switch (type)
                {
                    case DType.F32: writer.Append<float>(values); break;
                    case DType.BF16: writer.Append<BFloat16>(values.Select(value => (BFloat16)value).ToArray()); break;
                    case DType.F16: writer.Append<Half>(values.Select(value => (Half)value).ToArray()); break;
                    default: writer.Append<double>(values.Select(value => (double)value).ToArray()); break;
                }
            }

            writer.Commit();
        }

        SafetensorsFile file = SafetensorsFile.Open(path);
        _owned.Add(file);
        return file;
    }

    /// <summary>Some float32 roundings, each 6·10⁻⁸, of the largest value.</summary>
    private void AssertClose(double[] expected, Mat actual)
    {
        float[] values = Read(actual);
        Assert.Equal(expected.Length, values.Length);
        for (int n = 0; n < expected.Length; n++)
            Assert.Equal(expected[n], values[n], 2.5e-7 * expected.Max(Math.Abs));
    }
}

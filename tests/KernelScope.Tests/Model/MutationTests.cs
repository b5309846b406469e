using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using KernelScope.Devices;
using KernelScope.Model;

namespace KernelScope.Tests.Model;

/// <summary>
/// Each mistake of tools/reference/gemma2/mutations.py and more_mutations.py (names as there) is made on purpose, in the config, in the weights or in an op, and the goldens must see it:
/// proof that <see cref="GoldenTests"/> can fail. The control: the same device with nothing replaced passes.
/// </summary>
public sealed class MutationTests
{
    private const string Post = "post_attention_layernorm", PreMlp = "pre_feedforward_layernorm";

    private static readonly Dictionary<string, Action<JsonObject>> ConfigMistakes = new()
    {
        ["no attention soft-cap"] = c => c["attn_logit_softcapping"] = null,
        ["no final soft-cap"] = c => c["final_logit_softcapping"] = null,
        ["attention capped at the final cap"] = c => c["attn_logit_softcapping"] = 30.0,
        ["logits capped at the attention cap"] = c => c["final_logit_softcapping"] = 50.0,
        ["window on odd layers"] = c => c["layer_types"] = Kinds("full_attention", "sliding_attention"),
        ["window on all layers"] = c => c["layer_types"] = Kinds("sliding_attention", "sliding_attention"),
        ["no window"] = c => c["layer_types"] = Kinds("full_attention", "full_attention"),
        ["window one too wide"] = c => c["sliding_window"] = 7,
        ["window one too narrow"] = c => c["sliding_window"] = 5,
        ["scale head_dim^-1/2"] = c => c["query_pre_attn_scalar"] = 16,
        ["scale hidden/heads^-1/2"] = c => c["query_pre_attn_scalar"] = 12,
        ["scale applied twice"] = c => c["query_pre_attn_scalar"] = 400,
        ["eps 1e-5"] = c => c["rms_norm_eps"] = 1e-5,
        ["rope theta 1e6"] = c => c["rope_parameters"]!["rope_theta"] = 1e6,
    };

    private static readonly Dictionary<string, Action<JsonObject, byte[]>> WeightMistakes = new()
    {
        ["gate and up swapped"] = (h, _) =>
            EachLayer(l => AlteredModel.Swap(h, $"model.layers.{l}.mlp.gate_proj.weight", $"model.layers.{l}.mlp.up_proj.weight")),
        ["k and v exchanged"] = (h, _) =>
            EachLayer(l => AlteredModel.Swap(h, $"model.layers.{l}.self_attn.k_proj.weight", $"model.layers.{l}.self_attn.v_proj.weight")),
        ["post-attention norm uses the input norm's gain"] =
            (h, d) => EachLayer(l => Copy(h, d, $"model.layers.{l}.input_layernorm.weight", $"model.layers.{l}.{Post}.weight")),
        ["pre-feed-forward gain from the Llama name"] =
            (h, d) => EachLayer(l => Copy(h, d, $"model.layers.{l}.{Post}.weight", $"model.layers.{l}.{PreMlp}.weight")),
        ["heads interleaved in q_proj"] =
            (h, d) => EachLayer(l => Interleave(AlteredModel.Bytes(h, d, $"model.layers.{l}.self_attn.q_proj.weight"))),
        ["last vocabulary row missing"] = (h, d) => AlteredModel.Bytes(h, d, "model.embed_tokens.weight")[^(48 * 4)..].Clear(),
        ["weights rounded to bf16"] = (h, d) => Round(d),
        ["padding row taken as zero"] = (h, d) => AlteredModel.Bytes(h, d, "model.embed_tokens.weight")[..(48 * 4)].Clear(),
    };

    private static readonly Dictionary<string, Func<MutatedDevice>> OpMistakes = new()
    {
        ["gain w, not 1 + w"] = () => new() { Gain = g => g },
        ["mean subtracted (LayerNorm)"] = () => new() { NormalizeRow = (row, eps) => Norm(row, eps, row.Average(v => (double)v)) },
        ["eps outside the root"] = () => new() { NormalizeRow = NormEpsilonOutside },
        ["exact GELU (erf)"] = () => new() { Gelu = (g, u) => 0.5 * g * (1 + Erf(g / Math.Sqrt(2))) * u },
        ["SiLU"] = () => new() { Gelu = (g, u) => g / (1 + Math.Exp(-g)) * u },
        ["quick GELU (1.702)"] = () => new() { Gelu = (g, u) => g / (1 + Math.Exp(-1.702 * g)) * u },
        ["GELU after the product"] = () => new() { Gelu = (g, u) => Tanh(g * u) },
        ["rope on interleaved pairs"] = () => new() { Rotate = (row, table) => Turn(row, table, interleaved: true, sign: 1) },
        ["rope turns the other way"] = () => new() { Rotate = (row, table) => Turn(row, table, interleaved: false, sign: -1) },
        ["no rope"] = () => new() { Rotate = (_, _) => { } },
        ["rope table in bf16"] =
            () => new() { Rotate = (row, table) => Turn(row, Array.ConvertAll(table, Bf16), interleaved: false, sign: 1) },
        ["positions start at 1"] = () => new() { RopePosition = p => p + 1 },
        ["tanh.approx (2^-11) in the soft-caps"] =
            () => new() { Cap = (v, cap) => cap * (float)(Math.Tanh(v / cap) * (1 + Math.Pow(2, -11))) },
        ["not causal"] = () => new() { Attention = new() { Sees = (p, j, window) => window == 0 || j > p - window } },
        ["own position masked"] =
            () => new() { Attention = new() { Sees = (p, j, window) => (j < p || p == 0) && (window == 0 || j > p - window) } },
        ["key 0 (BOS) not seen"] =
            () => new() { Attention = new() { Sees = (p, j, window) => (j > 0 || p == 0) && j <= p && (window == 0 || j > p - window) } },
        ["softmax with an added sink (off by one)"] = () => new() { Attention = new() { Sink = max => Math.Exp(-max) } },
        ["soft-cap before the scale"] =
            () => new() { Attention = new() { Score = (dot, scale, cap) => scale * cap * Math.Tanh(dot / cap) } },
        ["attention cap not multiplied back"] =
            () => new() { Attention = new() { Score = (dot, scale, cap) => Math.Tanh(dot * scale / cap) } },
        ["mask after the softmax, not renormalised"] = () => new() { Attention = new() { MasksAfterSoftmax = true } },
        ["GQA groups tiled, not repeated"] = () => new() { Attention = new() { KvHead = (head, _, kvHeads) => head % kvHeads } },
        ["matrix products with tf32 inputs"] =
            () => new() { Rounding = v => BitConverter.UInt32BitsToSingle((BitConverter.SingleToUInt32Bits(v) + 0x1000) & 0xFFFFE000) },
        ["cache in bf16"] = () => new() { Stored = Bf16 },
        ["cache in f16"] = () => new() { Stored = v => (float)(Half)v },
    };

    public static TheoryData<string> Config() => [.. ConfigMistakes.Keys];

    public static TheoryData<string> Weights() => [.. WeightMistakes.Keys];

    public static TheoryData<string> Ops() => [.. OpMistakes.Keys];

    [Fact]
    public void The_device_with_nothing_replaced_passes()
    {
        foreach (MutatedDevice device in new MutatedDevice[]
        {
            new(),
            new() { Attention = new HostAttention() },
            new() { Rotate = (row, table) => Turn(row, table, interleaved: false, sign: 1), Gelu = (g, u) => Tanh(g) * u,
                Gain = g => 1 + g, NormalizeRow = (row, eps) => Norm(row, eps, 0) },
        })
        {
            using var run = new GoldenRun(device, "base", "", doubles: false);
            Assert.DoesNotContain(run.Departures(), d => d.Error > d.Limit);
        }
    }

    [Theory]
    [MemberData(nameof(Config))]
    public void A_mistake_in_the_config_is_seen(string mistake)
    {
        using var altered = new AlteredModel("base", config: ConfigMistakes[mistake]);
        AssertSeen(mistake, TestDevices.Open("reference"), altered.Folder);
    }

    [Theory]
    [MemberData(nameof(Weights))]
    public void A_mistake_in_the_weights_is_seen(string mistake)
    {
        using var altered = new AlteredModel("base", weights: WeightMistakes[mistake]);
        AssertSeen(mistake, TestDevices.Open("reference"), altered.Folder);
    }

    [Theory]
    [MemberData(nameof(Ops))]
    public void A_mistake_in_an_op_is_seen(string mistake) => AssertSeen(mistake, OpMistakes[mistake](), null);

    [Fact]
    public void A_rounded_embedding_scale_is_seen()
    {
        using var run = new GoldenRun(TestDevices.Open("reference"), "bf16", "", doubles: false, scale: EmbeddingScale.RoundedToWeights);
        Assert.Contains(run.Departures(), d => d.Error > d.Limit);
    }

    /// <summary>Seen at the float32 limits, the loosest that any device is held to.</summary>
    private static void AssertSeen(string mistake, Device device, string? folder)
    {
        using var run = new GoldenRun(device, "base", "", doubles: false, folder);
        Assert.True(run.Departures().Any(d => d.Error > d.Limit), $"'{mistake}' passes every check of base/expected.npz");
    }

    private static JsonArray Kinds(string even, string odd) => [even, odd, even, odd];

    private static void EachLayer(Action<int> change)
    {
        for (int l = 0; l < 4; l++)
            change(l);
    }

    private static void Copy(JsonObject header, byte[] data, string from, string to) =>
        AlteredModel.Bytes(header, data, from).ToArray().CopyTo(AlteredModel.Bytes(header, data, to));

    /// <summary>Row i of head h becomes row i·heads + h (4 heads of 16, 48 inputs).</summary>
    private static void Interleave(Span<byte> weight)
    {
        byte[] old = weight.ToArray();
        int row = 48 * sizeof(float);
        for (int head = 0; head < 4; head++)
        {
            for (int i = 0; i < 16; i++)
                old.AsSpan(((i * 4) + head) * row, row).CopyTo(weight[(((head * 16) + i) * row)..]);
        }
    }

    private static void Round(byte[] data)
    {
        Span<float> values = MemoryMarshal.Cast<byte, float>(data.AsSpan());
        for (int i = 0; i < values.Length; i++)
            values[i] = Bf16(values[i]);
    }

    private static float Bf16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return BitConverter.UInt32BitsToSingle((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000);
    }

    private static void Norm(float[] row, float epsilon, double mean)
    {
        double root = Math.Sqrt(row.Average(v => (v - mean) * (v - mean)) + epsilon);
        for (int i = 0; i < row.Length; i++)
            row[i] = (float)((row[i] - mean) / root);
    }

    private static void NormEpsilonOutside(float[] row, float epsilon)
    {
        double root = Math.Sqrt(row.Average(v => (double)v * v)) + epsilon;
        for (int i = 0; i < row.Length; i++)
            row[i] = (float)(row[i] / root);
    }

    private static double Tanh(double z) => 0.5 * z * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (z + (0.044715 * z * z * z))));

    /// <summary>erf by its Maclaurin series below 3 and 1 beyond: 10⁻⁷ is enough to tell it from the tanh form.</summary>
    private static double Erf(double x)
    {
        if (Math.Abs(x) > 3.5)
            return Math.Sign(x);
        double sum = x, term = x;
        for (int n = 1; n < 80; n++)
        {
            term *= -x * x / n;
            sum += term / ((2 * n) + 1);
        }

        return 2 / Math.Sqrt(Math.PI) * sum;
    }

    private static void Turn(float[] row, float[] table, bool interleaved, int sign)
    {
        int dim = table.Length, half = dim / 2;
        for (int head = 0; head < row.Length; head += dim)
        {
            for (int i = 0; i < half; i++)
            {
                int a = head + (interleaved ? 2 * i : i), b = head + (interleaved ? (2 * i) + 1 : half + i);
                double cos = table[i], sin = sign * table[half + i], x = row[a], y = row[b];
                row[a] = (float)((x * cos) - (y * sin));
                row[b] = (float)((y * cos) + (x * sin));
            }
        }
    }
}

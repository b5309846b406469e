using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Numerics;

namespace KernelScope.Tests.Devices;

/// <summary>The reference device with a mistake in one equation, of the kinds that implementations really make.</summary>
internal sealed class MutantDevice(string mutation) : ForwardingDevice(new ReferenceDevice())
{
    /// <summary>The op that is wrong, and how.</summary>
    public static readonly (string Op, string Mutation)[] All =
    [
        (nameof(Device.Embed), "scale rounded to bf16"),
        (nameof(Device.Normalize), "twice the epsilon"),
        (nameof(Device.ApplyGain), "gain without 1"),
        (nameof(Device.ApplyGain), "1 + g not rounded"),
        (nameof(Device.RmsNorm), "no rounding between its steps"),
        (nameof(Device.AddNormedThenNorm), "norm of the branch, not of the stream"),
        (nameof(Device.Linear), "activations in bf16"),
        (nameof(Device.Linear), "activations in two bf16 terms"),
        (nameof(Device.LinearTransposed), "activations in bf16"),
        (nameof(Device.LinearTransposed), "activations in two bf16 terms"),
        (nameof(Device.GatedGelu), "0.0447 for 0.044715"),
        (nameof(Device.GatedGelu), "silu for gelu"),
        (nameof(Device.Rope), "the next position"),
        (nameof(Device.Rope), "the first head only"),
        (nameof(Device.Rope), "pairs of neighbours"),
        (nameof(Device.Store), "no ring"),
        (nameof(Device.Store), "keys for values"),
        (nameof(Device.RopeThenStore), "rotates values"),
        (nameof(Device.Attend), "a window of one more"),
        (nameof(Device.Attend), "no window"),
        (nameof(Device.Attend), "no cap"),
        (nameof(Device.Attend), "cap before scale"),
        (nameof(Device.Attend), "heads modulo kv heads"),
        (nameof(Device.Attend), "masked keys times 0"),
        (nameof(Device.Softcap), "a clamp"),
        (nameof(Device.CrossEntropy), "no cap"),
        (nameof(Device.CrossEntropy), "exp without the largest taken off"),
        (nameof(Device.CrossEntropy), "the next target"),
        (nameof(Device.TopK), "the higher index first"),
        (nameof(Device.TopK), "NaN last"),
        (nameof(Device.SaeEncode), "not strict"),
        (nameof(Device.SaeEncode), "negative codes"),
        (nameof(Device.SaeEncode), "ReLU"),
        (nameof(Device.SaeDecode), "no bias"),
        (nameof(Device.SaeEdit), "a clamp adds"),
        (nameof(Device.SaeEdit), "adds zeros"),
        (nameof(Device.SaeEdit), "reads what it wrote"),
        (nameof(Device.AddScaled), "one rounding"),
        (nameof(Device.Copy), "denormals to zero"),
    ];

    public override string Name => mutation;

    protected override void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination) =>
        base.EmbedCore(tokens, table, mutation == "scale rounded to bf16" ? (float)(BFloat16)scale : scale, destination);

    protected override void NormalizeCore(Mat x, float epsilon, Mat destination) =>
        base.NormalizeCore(x, mutation == "twice the epsilon" ? 2 * epsilon : epsilon, destination);

    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination) => Each(unit, destination, (u, j) => mutation switch
    {
        "gain without 1" => u * Row(gain)[j],
        "1 + g not rounded" => (float)(u * (1.0 + Row(gain)[j])),
        _ => u * (1f + Row(gain)[j]),
    });

    protected override void RmsNormCore(Mat x, Mat gain, float epsilon, Mat destination)
    {
        if (mutation != "no rounding between its steps")
        {
            base.RmsNormCore(x, gain, epsilon, destination);
            return;
        }

        for (int t = 0; t < x.Rows; t++)
        {
            double squares = 0;
            foreach (float value in HostBuffer.Row(x, t))
                squares += (double)value * value;
            double factor = 1 / Math.Sqrt((squares / x.Columns) + epsilon);
            for (int i = 0; i < x.Columns; i++)
                HostBuffer.Row(destination, t)[i] = (float)(HostBuffer.Row(x, t)[i] * factor * (1.0 + Row(gain)[i]));
        }
    }

    protected override void AddNormedThenNormCore(Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        base.AddNormedThenNormCore(branch, postGain, nextGain, epsilon, resid, normed);
        if (mutation == "norm of the branch, not of the stream")
            base.RmsNormCore(branch, nextGain, epsilon, normed);
    }

    protected override void LinearCore(Mat x, Weight weight, Mat destination) =>
        OfRounded(x, rounded => base.LinearCore(rounded, weight, destination));

    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination) =>
        OfRounded(x, rounded => base.LinearTransposedCore(rounded, weight, destination));

    private void OfRounded(Mat x, Action<Mat> product)
    {
        using HostBuffer buffer = new("rounded", Math.Max(1, (long)x.Rows * x.Columns));
        Mat rounded = new(buffer, x.Rows, x.Columns);
        Each(x, rounded, (value, _) => mutation switch
        {
            "activations in bf16" => (float)(BFloat16)value,
            "activations in two bf16 terms" => (float)(BFloat16)value + (float)(BFloat16)(value - (float)(BFloat16)value),
            _ => value,
        });
        product(rounded);
    }

    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        using HostBuffer buffer = new("products", Math.Max(1, (long)x.Rows * gateUp.Rows));
        Mat products = new(buffer, x.Rows, gateUp.Rows);
        base.LinearCore(x, gateUp, products);
        for (int t = 0; t < x.Rows; t++)
        {
            for (int j = 0; j < destination.Columns; j++)
            {
                double z = HostBuffer.Row(products, t)[j];
                double cubic = mutation == "0.0447 for 0.044715" ? 0.0447 : 0.044715;
                double gate = mutation == "silu for gelu" ? z / (1 + Math.Exp(-z))
                    : 0.5 * z * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (z + (cubic * z * z * z))));
                HostBuffer.Row(destination, t)[j] = (float)(gate * HostBuffer.Row(products, t)[destination.Columns + j]);
            }
        }
    }

    protected override void RopeCore(Mat x, int position, Mat cosSin)
    {
        int d = cosSin.Columns;
        switch (mutation)
        {
            case "the next position" when position + x.Rows < cosSin.Rows: base.RopeCore(x, position + 1, cosSin); break;
            case "the next position" when position > 0: base.RopeCore(x, position - 1, cosSin); break;
            case "the first head only": base.RopeCore(x.ColumnRange(0, d), position, cosSin); break;
            case "pairs of neighbours": Interleaved(x, position, cosSin); break;
            default: base.RopeCore(x, position, cosSin); break;
        }
    }

    protected override void StoreCore(Mat k, Mat v, int position, KvLayer cache)
    {
        if (mutation == "keys for values")
            base.StoreCore(v, k, position, cache);
        else if (mutation != "no ring" || position + k.Rows <= cache.Capacity)
            base.StoreCore(k, v, position, cache);
    }

    protected override void RopeThenStoreCore(Mat qkv, int position, Mat cosSin, KvLayer cache)
    {
        if (mutation == "rotates values")
            base.RopeCore(qkv.ColumnRange(qkv.Columns - (cache.KvHeadCount * cache.HeadDim), cache.KvHeadCount * cache.HeadDim),
                position, cosSin);
        base.RopeThenStoreCore(qkv, position, cosSin, cache);
    }

    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        long reach = Math.Min(cache.Capacity - q.Rows + 1, position + q.Rows);
        AttentionShape wrong = mutation switch
        {
            "a window of one more" when shape.Window > 0 && shape.Window < reach => shape with { Window = shape.Window + 1 },
            "no window" when shape.Window > 0 && shape.Window < reach => shape with { Window = (int)reach },
            "no cap" => shape with { Softcap = 0 },
            "cap before scale" => shape with { Softcap = shape.Softcap * shape.Scale },
            _ => shape,
        };
        if (mutation == "heads modulo kv heads")
            AttendHeadsModulo(q, cache, position, shape, destination);
        else
            base.AttendCore(q, cache, position, wrong, destination);
        if (mutation == "masked keys times 0")
            AddMaskedTimesZero(cache, destination);
    }

    protected override void SoftcapCore(Mat x, float cap) =>
        Each(x, x, (value, _) => mutation == "a clamp" ? Math.Clamp(value, -cap, cap) : (float)(cap * Math.Tanh(value / cap)));

    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        if (mutation == "exp without the largest taken off")
        {
            NaiveLoss(x, unembedding, cap, targets, destination);
            return;
        }

        int[] wrong = [.. targets.ToArray().Select(target => mutation == "the next target" ? (target + 1) % unembedding.Rows : target)];
        base.CrossEntropyCore(x, unembedding, mutation == "no cap" ? 0 : cap, wrong, destination);
    }

    protected override void TopKCore(Mat x, int k, SparseCodes destination)
    {
        // As a list of the host, because only there may it be in any order.
        base.TopKCore(x, k, destination);
        if (mutation is not ("the higher index first" or "NaN last"))
            return;
        CodeList list = Spoiled(destination, x.Rows, x.Rows * k);
        for (int t = 0; t < x.Rows; t++)
        {
            float[] row = HostBuffer.Row(x, t).ToArray();
            bool nanLast = mutation == "NaN last";
            IEnumerable<int> order = Enumerable.Range(0, row.Length)
                .OrderByDescending(j => float.IsNaN(row[j]) ? (nanLast ? float.NegativeInfinity : float.PositiveInfinity) : row[j])
                .ThenBy(j => mutation == "the higher index first" ? -j : j);
            int at = (int)list.RowStart[t];
            foreach (int j in order.Take(k))
                (list.Feature[at], list.Value[at++]) = (j, row[j]);
            list.RowStart[t + 1] = at;
        }
    }

    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination)
    {
        base.SaeEncodeCore(x, sae, destination);
        if (x.Rows == 0 || mutation is not ("not strict" or "negative codes" or "ReLU"))
            return;
        using HostBuffer buffer = new("pre", (long)x.Rows * sae.FeatureCount);
        Mat pre = new(buffer, x.Rows, sae.FeatureCount);
        base.LinearCore(x, sae.Encoder, pre);
        CodeList list = Spoiled(destination, x.Rows, x.Rows * sae.FeatureCount);
        for (int t = 0; t < x.Rows; t++)
        {
            int at = (int)list.RowStart[t];
            for (int f = 0; f < sae.FeatureCount; f++)
            {
                float a = HostBuffer.Row(pre, t)[f] + Row(sae.EncoderBias)[f];
                float bar = Row(sae.Threshold)[f];
                bool active = mutation switch { "not strict" => a >= bar && a > 0, "negative codes" => a > bar, _ => a > 0 };
                if (active)
                    (list.Feature[at], list.Value[at++]) = (f, a);
            }

            list.RowStart[t + 1] = at;
        }
    }

    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination)
    {
        base.SaeDecodeCore(codes, sae, destination);
        if (mutation == "no bias")
            Each(destination, destination, (y, j) => y - Row(sae.DecoderBias)[j]);
    }

    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination)
    {
        FeatureEdit[] changed =
            [.. edits.ToArray().Select(edit => mutation == "a clamp adds" ? edit with { Kind = FeatureEditKind.Add } : edit)];
        if (mutation == "reads what it wrote")
        {
            foreach (FeatureEdit edit in changed)
                base.SaeEditCore(read, sae, [edit], destination);
        }
        else
        {
            base.SaeEditCore(read, sae, changed, destination);
        }

        if (mutation == "adds zeros")
            Each(destination, destination, (y, _) => y + 0f);
    }

    protected override void AddScaledCore(Mat x, float alpha, Mat destination)
    {
        if (mutation != "one rounding")
        {
            base.AddScaledCore(x, alpha, destination);
            return;
        }

        for (int t = 0; t < destination.Rows; t++)
        {
            Span<float> y = HostBuffer.Row(destination, t);
            for (int j = 0; j < y.Length; j++)
                y[j] = MathF.FusedMultiplyAdd(alpha, HostBuffer.Row(x, x.Rows == 1 ? 0 : t)[j], y[j]);
        }
    }

    protected override void CopyCore(Mat x, Mat destination) =>
        Each(x, destination, (value, _) => mutation == "denormals to zero" && float.IsSubnormal(value) ? 0f : value);

    private readonly Dictionary<SparseCodes, CodeList> _spoiled = [];

    protected override void ReadCore(SparseCodes codes, CodeList destination)
    {
        base.ReadCore(codes, destination);
        if (!_spoiled.TryGetValue(codes, out CodeList? list))
            return;
        destination.Resize(list.Rows, list.Count);
        list.RowStart.AsSpan(0, list.Rows + 1).CopyTo(destination.RowStart);
        list.Feature.AsSpan(0, list.Count).CopyTo(destination.Feature);
        list.Value.AsSpan(0, list.Count).CopyTo(destination.Value);
    }

    private CodeList Spoiled(SparseCodes codes, int rows, int count)
    {
        CodeList list = new();
        list.Resize(rows, count);
        _spoiled[codes] = list;
        return list;
    }

    private static Span<float> Row(Mat vector) => HostBuffer.Row(vector, 0);

    private static void Each(Mat x, Mat y, Func<float, int, float> map)
    {
        for (int t = 0; t < x.Rows; t++)
        {
            for (int j = 0; j < x.Columns; j++)
                HostBuffer.Row(y, t)[j] = map(HostBuffer.Row(x, t)[j], j);
        }
    }

    private static void Interleaved(Mat x, int position, Mat cosSin)
    {
        int half = cosSin.Columns / 2;
        for (int t = 0; t < x.Rows; t++)
        {
            ReadOnlySpan<float> angles = HostBuffer.Row(cosSin, position + t);
            Span<float> row = HostBuffer.Row(x, t);
            for (int n = 0; n < row.Length / 2; n++)
            {
                (float a, float b, int i) = (row[2 * n], row[(2 * n) + 1], n % half);
                row[2 * n] = (a * angles[i]) - (b * angles[half + i]);
                row[(2 * n) + 1] = (b * angles[i]) + (a * angles[half + i]);
            }
        }
    }

    private void AttendHeadsModulo(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        int d = cache.HeadDim;
        for (int h = 0; h < shape.HeadCount; h++)
        {
            int start = h % cache.KvHeadCount * cache.Capacity;
            KvLayer head = new(cache.Keys.RowRange(start, cache.Capacity), cache.Values.RowRange(start, cache.Capacity), 1, cache.Capacity);
            Inner.Attend(q.ColumnRange(h * d, d), head, position, shape with { HeadCount = 1 }, destination.ColumnRange(h * d, d));
        }
    }

    /// <summary>What a tile does that multiplies masked keys by a weight of 0 instead of leaving them out.</summary>
    private static void AddMaskedTimesZero(KvLayer cache, Mat destination)
    {
        float sum = 0;
        for (int row = 0; row < cache.Values.Rows; row++)
        {
            foreach (float value in HostBuffer.Row(cache.Values, row))
                sum += 0 * value;
        }

        Each(destination, destination, (z, _) => z + sum);
    }

    private void NaiveLoss(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        using HostBuffer buffer = new("logits", (long)x.Rows * unembedding.Rows);
        Mat logits = new(buffer, x.Rows, unembedding.Rows);
        base.LinearCore(x, unembedding, logits);
        if (cap > 0)
            Inner.Softcap(logits, cap);
        for (int t = 0; t < x.Rows; t++)
        {
            float sum = 0;
            foreach (float logit in HostBuffer.Row(logits, t))
                sum += MathF.Exp(logit);
            HostBuffer.Row(destination, t)[0] = MathF.Log(sum) - HostBuffer.Row(logits, t)[targets[t]];
        }
    }
}

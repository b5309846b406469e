using KernelScope.Bench.Peers;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Measuring;

namespace KernelScope.Bench.Cases;

/// <summary>Encoding rows of Gemma 2 2B's width and decoding the codes, with about as many active features as the Gemma Scope paper's SAEs have.</summary>
internal static class SaeCases
{
    // The middle of the canonical SAEs of Gemma 2 2B.
    private const int ActiveFeatures = 70;

    // Different tokens activate different features: the same rows again and again would come from a cache.
    private const int CodeSets = 64;

    // θ at which about 70 features of random weights are active: pre-activations have a standard deviation of 0.40.
    private static readonly (string Name, int Features, float Threshold)[] Widths =
        [("16k", 16_384, 1.05f), ("65k", 65_536, 1.23f), ("131k", 131_072, 1.31f)];

    public static IEnumerable<Case> All()
    {
        foreach ((string name, int features, float threshold) in Widths)
        {
            foreach ((DType type, Precision precision) in Forms.All)
            {
                foreach (int rows in (int[])[1, 4, 32, 512])
                {
                    yield return Encode(name, features, threshold, type, precision, rows, packed: false);
                    yield return Encode(name, features, threshold, type, precision, rows, packed: true);
                }
            }
        }

        foreach ((string name, int features, _) in Widths)
        {
            foreach (DType type in (DType[])[DType.BF16, DType.F32])
            {
                foreach (int rows in (int[])[1, 32, 512])
                    yield return Decode(name, features, type, rows);
            }
        }
    }

    private static Case Encode(string width, int features, float threshold, DType type, Precision precision, int rows, bool packed)
    {
        (Bound bound, double work) = Forms.Cost((double)Shape2B.ModelDim * features, type, precision, rows);
        return new Case($"encode {width} {type.Name()} {rows} {Forms.Name(precision)}{(packed ? " packed" : "")}", bound, work, machine =>
        {
            Device device = machine.Device(precision);
            RandomTensors tensors = machine.Tensors(new TensorInfo("w_enc", type, [Shape2B.ModelDim, features]),
                new TensorInfo("w_dec", type, [1, Shape2B.ModelDim]));
            float[] values = RandomValues.Create(rows * Shape2B.ModelDim, 1), bias = RandomValues.Create(features, 0.01f);
            Mat x = device.Mat(values, rows), b = device.Mat(bias, 1), theta = device.Mat([.. Enumerable.Repeat(threshold, features)], 1),
                zero = device.CreateMat(1, Shape2B.ModelDim, "b_dec");
            Weight encoder = device.CreateWeight("w_enc", new WeightPart(tensors["w_enc"], true) { Pack = packed }),
                none = device.CreateWeight("w_dec", new WeightPart(tensors["w_dec"], true));
            var sae = new SaeParameters(encoder, b, theta, none, zero);
            SparseCodes codes = device.CreateCodes(features, "codes");
            var contest = new Contest(new Contestant("KernelScope", () => device.SaeEncode(x, sae, codes), () => Dense(device, codes)));
            foreach (IDisposable owned in (ReadOnlySpan<IDisposable>)[encoder, none, codes, x.Buffer, b.Buffer, theta.Buffer, zero.Buffer])
                contest.Own(owned);
            if (packed)
                contest.Figures.Add(Figure.Packed(encoder.ProductBytes, encoder.ByteLength));

            JoinEncoders(contest, machine, tensors["w_enc"], values, bias, threshold, rows, Forms.PeerTypes(type, precision, rows));
            return contest;
        })
        {
            Precision = precision,
        };
    }

    private static void JoinEncoders(Contest contest, Machine machine, TensorView weight, float[] x, float[] bias, float threshold,
        int rows, DType[] types)
    {
        foreach (DType type in types)
        {
            var agreement = Agreement.OfCodes(threshold, type == DType.F32 ? 1e-4 : 2e-2);
            Torch.Join(contest, machine, () => contest.Peers.Add(
                new Peer(contest.Own(new TorchEncoder(weight, x, bias, threshold, rows, type)).Contestant, agreement)));
            if (type == DType.F32)
                Onnx.Join(contest, () => contest.Peers.Add(
                    new Peer(contest.Own(new OnnxEncoder(weight, x, bias, threshold, rows, machine.Options.Threads)).Contestant,
                    agreement)));
        }
    }

    private static float[] Dense(Device device, SparseCodes codes)
    {
        var list = new CodeList();
        device.Read(codes, list);
        var dense = new float[(long)codes.Rows * codes.FeatureCount];
        for (int t = 0; t < codes.Rows; t++)
        {
            ReadOnlySpan<int> active = list.FeaturesOf(t);
            for (int n = 0; n < active.Length; n++)
                dense[((long)t * codes.FeatureCount) + active[n]] = list.ValuesOf(t)[n];
        }

        return dense;
    }

    private static Case Decode(string width, int features, DType type, int rows)
    {
        // Of F features, rows of A random ones hold F·(1 − (1 − A/F)^rows) different ones on average.
        double read = features * (1 - Math.Pow(1 - ((double)ActiveFeatures / features), rows)) * Shape2B.ModelDim * type.ByteSize();
        return new Case($"sparse-decode {width} {type.Name()} {rows} exact", Bound.Bandwidth, read, machine =>
        {
            Device device = machine.Exact;
            CodeList[] sets = [.. Enumerable.Range(0, rows > 32 ? 2 : CodeSets).Select(seed => Codes(seed, features, rows))];
            RandomTensors tensors = machine.Tensors(new TensorInfo("w_enc", type, [1, features]),
                new TensorInfo("w_dec", type, [features, Shape2B.ModelDim]));
            float[] bias = RandomValues.Create(Shape2B.ModelDim, 0.01f);
            Mat one = device.CreateMat(1, features, "one"), b = device.Mat(bias, 1), y = device.CreateMat(rows, Shape2B.ModelDim, "y");
            Weight none = device.CreateWeight("w_enc", new WeightPart(tensors["w_enc"], true)),
                decoder = device.CreateWeight("w_dec", new WeightPart(tensors["w_dec"], true));
            var sae = new SaeParameters(none, one, one, decoder, b);
            SparseCodes[] codes = [.. sets.Select(set => Written(device, set, features))];
            int next = 0;
            var contest = new Contest(new Contestant("KernelScope", () => device.SaeDecode(codes[next++ % codes.Length], sae, y),
                () => device.Read(y)));
            foreach (IDisposable owned in (IDisposable[])[none, decoder, .. codes, one.Buffer, b.Buffer, y.Buffer])
                contest.Own(owned);
            Torch.Join(contest, machine, () =>
                contest.Peers.Add(new Peer(contest.Own(new TorchDecoder(tensors["w_dec"], bias, sets)).Contestant,
                Agreement.Within(type == DType.F32 ? 1e-5 : 3e-2))));
            return contest;
        });
    }

    private static SparseCodes Written(Device device, CodeList set, int features)
    {
        SparseCodes codes = device.CreateCodes(features, "codes");
        device.Write(set, codes);
        return codes;
    }

    /// <summary>Rows of distinct random features: fewer are shared between tokens than in a text.</summary>
    private static CodeList Codes(int seed, int features, int rows)
    {
        var random = new Random(seed);
        var list = new CodeList();
        list.Resize(rows, rows * ActiveFeatures);
        for (int t = 0; t < rows; t++)
        {
            var active = new SortedSet<int>();
            while (active.Count < ActiveFeatures)
                active.Add(random.Next(features));
            active.CopyTo(list.Feature, t * ActiveFeatures);
            for (int n = 0; n < ActiveFeatures; n++)
                list.Value[(t * ActiveFeatures) + n] = 1 + (10 * random.NextSingle());
            list.RowStart[t + 1] = (t + 1) * ActiveFeatures;
        }

        return list;
    }
}

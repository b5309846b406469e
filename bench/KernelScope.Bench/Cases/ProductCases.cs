using KernelScope.Bench.Peers;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Measuring;
using TorchSharp;

namespace KernelScope.Bench.Cases;

/// <summary>Products with the weights of Gemma 2 2B's shape, one by one, as a layer, and as one token's way through several layers and the logits.</summary>
internal static class ProductCases
{
    private static readonly (string Name, int Inputs, int Outputs, double Weights)[] Products =
    [
        ("qkv", Shape2B.ModelDim, Shape2B.Qkv, (double)Shape2B.ModelDim * Shape2B.Qkv),
        ("o", Shape2B.Z, Shape2B.ModelDim, (double)Shape2B.ModelDim * Shape2B.Z),
        ("gate_up", Shape2B.ModelDim, Shape2B.Mlp, 2.0 * Shape2B.ModelDim * Shape2B.Mlp),
        ("down", Shape2B.Mlp, Shape2B.ModelDim, (double)Shape2B.ModelDim * Shape2B.Mlp),
    ];

    public static IEnumerable<Case> All(Options options)
    {
        foreach ((DType type, Precision precision) in Forms.All)
        {
            yield return Decode(type, precision, options.Layers);
            foreach (int rows in (int[])[1, 4, 64, 512, 2048])
                yield return Layer(type, precision, rows);
            foreach ((string name, int inputs, int outputs, double weights) in Products)
            {
                foreach (int rows in (int[])[1, 4, 64, 512])
                    yield return One(name, inputs, outputs, weights, type, precision, rows);
            }
        }
    }

    private static Case One(string name, int inputs, int outputs, double weights, DType type, Precision precision, int rows)
    {
        (Bound bound, double work) = Forms.Cost(weights, type, precision, rows);
        return new Case($"{name} {type.Name()} {rows} {Forms.Name(precision)}", bound, work, machine =>
        {
            Device device = machine.Device(precision);
            RandomTensors tensors = machine.Tensors(Shape2B.LayerTensors("0", type));
            float[] values = RandomValues.Create(rows * inputs, 1);
            Mat x = device.Mat(values, rows), y = device.CreateMat(rows, outputs, "y");
            Weight weight = device.CreateWeight(name, new WeightPart(tensors[$"0.{name}"]));
            var contest = new Contest(new Contestant("KernelScope", () => Run(device, name, x, weight, y), () => device.Read(y)));
            contest.Own(weight);
            contest.Own(x.Buffer);
            contest.Own(y.Buffer);
            Torch.Join(contest, machine, () =>
            {
                foreach (DType of in Forms.PeerTypes(type, precision, rows))
                {
                    TorchProducts products = contest.Own(new TorchProducts(tensors, "0", of));
                    torch.Tensor input = contest.Own(Torch.Of(values, rows, of));
                    contest.Peers.Add(
                        new Peer(contest.Own(new TorchRun(Torch.Name(of), () => products.One(name, input))).Contestant,
                            Forms.Agreement(of, precision)));
                }
            });
            return contest;
        })
        {
            Precision = precision,
        };
    }

    private static void Run(Device device, string name, Mat x, Weight weight, Mat y)
    {
        if (name == "gate_up")
            device.GatedGelu(x, weight, y);
        else
            device.Linear(x, weight, y);
    }

    private static Case Layer(DType type, Precision precision, int rows)
    {
        (Bound bound, double work) = Forms.Cost(Shape2B.LayerWeights, type, precision, rows);
        return new Case($"layer {type.Name()} {rows} {Forms.Name(precision)}", bound, work,
            machine => Several(machine, type, precision, rows, 1, logits: false))
        { Precision = precision };
    }

    /// <summary>One token: what 26 layers cost is seen on fewer, as long as they are far larger than the caches.</summary>
    private static Case Decode(DType type, Precision precision, int layers)
    {
        double weights = (layers * Shape2B.LayerWeights) + ((double)Shape2B.Vocab * Shape2B.ModelDim);
        return new Case($"decode {layers}-layers+logits products {type.Name()} {Forms.Name(precision)}", Bound.Bandwidth,
            weights * type.ByteSize(), machine => Several(machine, type, precision, 1, layers, logits: true))
        { Precision = precision };
    }

    private static Contest Several(Machine machine, DType type, Precision precision, int rows, int layers, bool logits)
    {
        Device device = machine.Device(precision);
        RandomTensors tensors = machine.Tensors([.. Shape2B.Tensors(layers, type, logits)]);
        var ours = new OurLayers(device, tensors, layers, rows, logits);
        var contest = new Contest(new Contestant("KernelScope", ours.Run, ours.Result));
        contest.Own(ours);
        JoinPeers(contest, machine, tensors, ours, layers, type, precision, logits);
        return contest;
    }

    /// <summary>The same products by libtorch.</summary>
    public static void JoinPeers(Contest contest, Machine machine, RandomTensors tensors, OurLayers ours, int layers, DType type,
        Precision precision, bool logits) =>
        Torch.Join(contest, machine, () =>
        {
            foreach (DType of in Forms.PeerTypes(type, precision, ours.Rows))
                contest.Peers.Add(new Peer(Peer(contest, tensors, ours, layers, of, logits), Forms.Agreement(of, precision)));
        });

    private static Contestant Peer(Contest contest, RandomTensors tensors, OurLayers ours, int layers, DType type, bool logits)
    {
        TorchProducts[] theirs = [.. Enumerable.Range(0, layers).Select(l => contest.Own(new TorchProducts(tensors, $"{l}", type)))];
        torch.Tensor? head = logits ? contest.Own(Torch.Of(tensors["logits"], type)) : null;
        torch.Tensor x = contest.Own(Torch.Of(ours.X, ours.Rows, type)), z = contest.Own(Torch.Of(ours.Z, ours.Rows, type));
        return contest.Own(new TorchRun(Torch.Name(type), () =>
        {
            torch.Tensor last = x;
            foreach (TorchProducts layer in theirs)
                last = layer.Layer(x, z);
            return head is null ? last : torch.nn.functional.linear(last, head);
        })).Contestant;
    }
}

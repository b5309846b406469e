using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Measuring;

namespace KernelScope.Bench.Cases;

/// <summary>The products of a layer, and of a token's way through several and the logits, from packed weights.</summary>
internal static class PackedCases
{
    public static IEnumerable<Case> All(Options options)
    {
        foreach ((DType type, Precision precision) in Forms.All)
        {
            double weights = (options.Layers * Shape2B.LayerWeights) + ((double)Shape2B.Vocab * Shape2B.ModelDim);
            yield return new Case($"decode {options.Layers}-layers+logits products {type.Name()} {Forms.Name(precision)} packed",
                Bound.Bandwidth, weights * type.ByteSize(),
                machine => Layers(machine, type, precision, 1, options.Layers, logits: true))
            { Precision = precision };
            foreach (int rows in (int[])[1, 4, 64, 512])
            {
                (Bound bound, double work) = Forms.Cost(Shape2B.LayerWeights, type, precision, rows);
                yield return new Case($"layer {type.Name()} {rows} {Forms.Name(precision)} packed", bound, work,
                    machine => Layers(machine, type, precision, rows, 1, logits: false))
                { Precision = precision };
            }
        }
    }

    private static Contest Layers(Machine machine, DType type, Precision precision, int rows, int layers, bool logits)
    {
        RandomTensors tensors = machine.Tensors([.. Shape2B.Tensors(layers, type, logits)]);
        var device = new PackingDevice(machine.Device(precision));
        var ours = new OurLayers(device, tensors, layers, rows, logits);
        var contest = new Contest(new Contestant("KernelScope", ours.Run, ours.Result));
        contest.Own(device);
        contest.Own(ours);
        contest.Figures.Add(Figure.Packed(device.PackedBytes, device.StoredBytes));
        ProductCases.JoinPeers(contest, machine, tensors, ours, layers, type, precision, logits);
        return contest;
    }

    /// <summary>The machine's device with every weight packed in memory, as a panel file has it.</summary>
    private sealed class PackingDevice(Device inner) : ForwardingDevice(inner)
    {
        public long PackedBytes { get; private set; }

        public long StoredBytes { get; private set; }

        public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts)
        {
            WeightPart[] packed = [.. parts];
            foreach (ref WeightPart part in packed.AsSpan())
                part = part with { Pack = true };
            Weight weight = Inner.CreateWeight(name, packed);
            PackedBytes += weight.ProductBytes;
            StoredBytes += weight.ByteLength;
            return weight;
        }
    }
}

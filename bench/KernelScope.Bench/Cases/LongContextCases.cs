using KernelScope.Bench.Models;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Measuring;
using KernelScope.Model;

namespace KernelScope.Bench.Cases;

/// <summary>Long contexts on one sliding and one global layer of Gemma 2 2B's shape: prompts of 2,048 and 8,192 tokens, and one token at a time behind 8,000.</summary>
internal static class LongContextCases
{
    private const int Late = 8000;
    private const int DecodeTokens = 8;

    // Every run goes 8 positions further: far more room than rounds can take.
    private const int DecodeContext = 32_768;

    public static IEnumerable<Case> All()
    {
        Gemma2Config shape = Shape2B.TwoLayers;
        foreach (Precision precision in (Precision[])[Precision.Exact, Precision.Fast])
        {
            foreach (bool packed in (bool[])[false, true])
            {
                string form = $"bf16 {Forms.Name(precision)}{(packed ? " packed" : "")}";
                foreach (int tokens in (int[])[2048, 8192])
                    yield return new Case($"two-layers prefill {tokens} {form}", precision == Precision.Exact ? Bound.Peak
                        : Bound.Bf16Peak, Shape2B.Prefill(shape, tokens),
                        machine => Prefill(machine, precision, packed, tokens))
                    { Precision = precision, Tokens = tokens };
                if (precision == Precision.Exact)
                    yield return new Case($"two-layers decode at {Late} {form}", Bound.Bandwidth,
                        DecodeTokens * Shape2B.Decode(shape, Late), machine => Decode(machine, packed))
                    { Tokens = DecodeTokens };
            }
        }
    }

    private static Contest Prefill(Machine machine, Precision precision, bool packed, int tokens)
    {
        TwoLayers layers = new(machine.Device(precision), packed, tokens);
        int[] ids = OurModel.Ids(tokens, Shape2B.TwoLayers.VocabSize);
        var contest = new Contest(new Contestant("KernelScope", () => layers.Model.Prefill(ids, machine.Cancellation),
            layers.Model.Logits));
        contest.Own(layers);
        return contest;
    }

    private static Contest Decode(Machine machine, bool packed)
    {
        TwoLayers layers = new(machine.Exact, packed, DecodeContext);
        try
        {
            int[] ids = OurModel.Ids(Late, Shape2B.TwoLayers.VocabSize);
            machine.Progress.Show($"feeding {Late} tokens");
            layers.Model.Prefill(ids, machine.Cancellation);
            var contest = new Contest(new Contestant("KernelScope",
                () => layers.Model.Decode(ids.AsSpan(0, DecodeTokens), machine.Cancellation), layers.Model.Logits));
            contest.Own(layers);
            if (layers.Model.PackedBytes is long bytes)
                contest.Figures.Add(Figure.Packed(bytes, 2 * ModelSizes.Weights(Shape2B.TwoLayers)));
            return contest;
        }
        catch
        {
            layers.Dispose();
            throw;
        }
    }

    /// <summary>The model, whose files lie in a temporary folder.</summary>
    private sealed class TwoLayers : IDisposable
    {
        private readonly string _folder = Directory.CreateTempSubdirectory("kernelscope-bench-").FullName;

        public TwoLayers(Device device, bool packed, int context)
        {
            RandomModel.Write(_folder, Shape2B.TwoLayers);
            Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(_folder);
            if (packed)
            {
                string panels = Path.Combine(_folder, "two-layers" + PanelFile.Extension);
                ModelPanels.Write(checkpoint, panels);
                ModelPanels.Use(ModelPanels.StoreOf(device)!, checkpoint, PanelFile.Open(panels));
            }

            Model = new OurModel(device, checkpoint, context);
        }

        public OurModel Model { get; }

        public void Dispose()
        {
            Model.Dispose();
            Directory.Delete(_folder, recursive: true);
        }
    }
}

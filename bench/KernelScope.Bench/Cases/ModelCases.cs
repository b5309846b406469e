using KernelScope.Bench.Models;
using KernelScope.Bench.Peers;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Measuring;

namespace KernelScope.Bench.Cases;

/// <summary>The whole model of Gemma 2 2B's shape: one token at a time with the greedy choice after each, and a prompt of 512 tokens.</summary>
internal static class ModelCases
{
    // Positions 0 to 63, again and again: on average a token sees half as many.
    private const int DecodeContext = 64;
    private const int DecodeTokens = 8;
    private const int PromptTokens = 512;

    public static IEnumerable<Case> All()
    {
        foreach (Precision precision in (Precision[])[Precision.Exact, Precision.Fast])
        {
            foreach (bool packed in (bool[])[false, true])
            {
                string form = $"bf16 {Forms.Name(precision)}{(packed ? " packed" : "")}";
                yield return new Case($"model decode {form}", Bound.Bandwidth,
                    DecodeTokens * Shape2B.Decode(Shape2B.Model, DecodeContext / 2),
                    machine => Decode(machine, precision, packed))
                { Precision = precision, Tokens = DecodeTokens };
                yield return new Case($"model prefill {PromptTokens} {form}", precision == Precision.Exact ? Bound.Peak
                    : Bound.Bf16Peak, Shape2B.Prefill(Shape2B.Model, PromptTokens),
                    machine => Prefill(machine, precision, packed))
                { Precision = precision, Tokens = PromptTokens };
            }
        }
    }

    private static Contest Decode(Machine machine, Precision precision, bool packed)
    {
        OurModel model = Load(machine, precision, packed, DecodeContext);
        int[] ids = OurModel.Ids(DecodeContext, Shape2B.Vocab);
        var contest = new Contest(new Contestant("KernelScope", Run, model.Logits));
        contest.Own(model);
        if (model.PackedBytes is long bytes)
            contest.Figures.Add(Figure.Packed(bytes, 2 * ModelSizes.Weights(Shape2B.Model)));
        Torch.Join(contest, machine, () =>
        {
            var theirs = contest.Own(new TorchModel(machine.Weights.Open(machine.Progress, machine.Cancellation), DecodeContext));
            contest.Peers.Add(new Peer(theirs.Decoding(ids, DecodeTokens), Forms.Agreement(DType.BF16, precision)));
        });
        OutsidePrograms.Join(contest, machine, prompt: 0, generated: DecodeContext, tokens: DecodeTokens);
        return contest;

        void Run()
        {
            if (model.Position == DecodeContext)
                model.Reset();
            model.Decode(ids.AsSpan(model.Position, DecodeTokens), machine.Cancellation);
        }
    }

    private static Contest Prefill(Machine machine, Precision precision, bool packed)
    {
        OurModel model = Load(machine, precision, packed, PromptTokens);
        int[] ids = OurModel.Ids(PromptTokens, Shape2B.Vocab);
        var contest = new Contest(new Contestant("KernelScope", () => model.Prefill(ids, machine.Cancellation), model.Logits));
        contest.Own(model);
        if (model.PackedBytes is long bytes)
            contest.Figures.Add(Figure.Packed(bytes, 2 * ModelSizes.Weights(Shape2B.Model)));
        Torch.Join(contest, machine, () =>
        {
            var theirs = contest.Own(new TorchModel(machine.Weights.Open(machine.Progress, machine.Cancellation), PromptTokens));
            contest.Peers.Add(new Peer(theirs.Prefilling(ids), Forms.Agreement(DType.BF16, precision)));
        });
        OutsidePrograms.Join(contest, machine, prompt: PromptTokens, generated: 0, tokens: PromptTokens);
        return contest;
    }

    private static OurModel Load(Machine machine, Precision precision, bool packed, int context)
    {
        CpuDevice device = machine.Device(precision);
        var checkpoint = packed ? machine.Weights.OpenPacked(device.Panels, machine.Progress, machine.Cancellation)
            : machine.Weights.Open(machine.Progress, machine.Cancellation);
        return new OurModel(device, checkpoint, context);
    }
}

using System.Diagnostics;
using KernelScope.Bench.Models;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Measuring;
using KernelScope.Model;

namespace KernelScope.Bench.Cases;

/// <summary>A decode step of eight sequences at once beside one of one sequence: some layers of Gemma 2 2B's shape and its 256,000 logits, packed bfloat16, from position 128 on.</summary>
internal static class BatchCases
{
    private const int Sequences = 8, PromptTokens = 128, AloneSteps = 4;

    public static IEnumerable<Case> All(Options options)
    {
        Gemma2Config shape = Shape2B.Model with { LayerCount = options.Layers };
        double weights = (shape.LayerCount * ModelSizes.LayerWeights(shape)) + ((double)shape.VocabSize * shape.ModelDim);
        double operations = 2 * Sequences * weights;
        yield return new Case($"batch decode {Sequences} sequences {shape.LayerCount}-layers bf16 exact packed", Bound.Peak, operations,
            machine => Decode(machine, shape))
        { Tokens = Sequences };
    }

    private static Contest Decode(Machine machine, Gemma2Config shape)
    {
        var steps = new Steps(machine, shape);
        var contest = new Contest(new Contestant("KernelScope", steps.Run, steps.Logits));
        contest.Own(steps);
        contest.Figures.Add(new Figure("tokens/s of eight over one", "", steps.OverOne));
        return contest;
    }

    private sealed class Steps : IDisposable
    {
        private readonly string _folder = Directory.CreateTempSubdirectory("kernelscope-bench-").FullName;
        private readonly Gemma2Model _model;
        private readonly Session[] _together;
        private readonly Session _alone;
        private readonly SessionTokens[] _batch;
        private readonly CancellationToken _cancellation;
        private double _seconds;

        public Steps(Machine machine, Gemma2Config shape)
        {
            _cancellation = machine.Cancellation;
            machine.Progress.Show($"writing and packing {shape.LayerCount} layers in {_folder}");
            RandomModel.Write(_folder, shape, cancellation: _cancellation);
            Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(_folder);
            string panels = Path.Combine(_folder, "layers" + PanelFile.Extension);
            ModelPanels.Write(checkpoint, panels);
            ModelPanels.Use(machine.Exact.Panels, checkpoint, PanelFile.Open(panels));
            _model = Gemma2Model.Load(machine.Exact, checkpoint);
            _together = [.. Enumerable.Range(0, Sequences).Select(_ => _model.NewSession())];
            _alone = _model.NewSession();
            machine.Progress.Show($"feeding {Sequences + 1} prompts of {PromptTokens} tokens");
            foreach (Session session in _together.Append(_alone))
                session.Prefill(OurModel.Ids(PromptTokens, shape.VocabSize), cancellationToken: _cancellation);
            _batch = [.. _together.Select((s, n) => new SessionTokens(s, new int[] { 5 + n }))];
        }

        public void Run()
        {
            long start = Stopwatch.GetTimestamp();
            _model.Forward(_batch, _cancellation);
            _seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        public float[] Logits() => _model.Device.Read(_together[0].Logits);

        public double OverOne()
        {
            int[] token = [5];
            long start = Stopwatch.GetTimestamp();
            for (int n = 0; n < AloneSteps; n++)
                _model.Forward(token, _alone, LogitRows.Last, _cancellation);
            return Sequences * (Stopwatch.GetElapsedTime(start).TotalSeconds / AloneSteps) / _seconds;
        }

        public void Dispose()
        {
            foreach (Session session in _together.Append(_alone))
                session.Dispose();
            _model.Dispose();
            Directory.Delete(_folder, recursive: true);
        }
    }
}

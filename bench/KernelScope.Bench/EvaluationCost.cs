using System.Diagnostics;
using System.Globalization;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Bench;

/// <summary>
/// What an evaluation costs beside the forward passes that it needs: a clean one, and the ablations and splices from the first layer up that a splice reaches; what lies below runs once.
/// And what the uniformity of importance adds, which needs two backward passes.
/// </summary>
internal static class EvaluationCost
{
    private const double Limit = 1.25;

    // x̂, zero and the mean, each at every position and at all but BOS (which without other special tokens is also all but those), and x̂ plus the SAE's error. With other special tokens there are three more.
    private const int SplicedPasses = 7;

    /// <summary>Every demo SAE; returns 1 if one is above the limit.</summary>
    public static int OfDemo(Device device, int turns)
    {
        using Gemma2Model model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        bool within = true;
        int[][] ids = Ids(model.Config, 16, 128);
        Head(device, ids, turns);
        foreach (string name in Demo.SaeNames)
        {
            using JumpReluSae sae = JumpReluSae.Load(device, Demo.OpenSae(name));
            within &= Measure(model, new SaeTarget(name, sae, sae.Site!.Value, sae.SiteOut!.Value), ids, turns);
        }

        return within ? 0 : 1;
    }

    /// <summary>A model of random values and a realistic shape.</summary>
    public static int OfLarge(Device device, int turns)
    {
        int[][] ids;
        using var large = new EvaluationModel(device, 512);
        ids = Ids(large.Model.Config, 2, 512);
        Head(device, ids, turns);
        return Measure(large.Model, new SaeTarget($"random, {large.Site}", large.Sae, large.Site, large.Site), ids, turns) ? 0 : 1;
    }

    private static int[][] Ids(Gemma2Config config, int sequences, int length)
    {
        var random = new Random(1);
        return [.. Enumerable.Range(0, sequences)
            .Select(_ => Enumerable.Range(0, length).Select(t => t == 0 ? config.BosId : random.Next(473, config.VocabSize)).ToArray())];
    }

    private static void Head(Device device, int[][] ids, int turns)
    {
        Console.WriteLine(
            $"{ids.Length} x {ids[0].Length} tokens on {device.Name}, the fastest of {turns} turns; the ratio should be at most "
                + $"{Limit.ToString(CultureInfo.InvariantCulture)}");
        Console.WriteLine(
            $"{"",-24} {"passes, s",10} {"evaluation, s",14} {"ratio",7} {"of processor time",18} {"gradients, s",13} "
                + $"{"of two backward passes",23}");
    }

    /// <summary>Turn by turn, and the fastest of each side: what else runs on the machine disturbs both alike.</summary>
    private static bool Measure(Gemma2Model model, SaeTarget target, int[][] ids, int turns)
    {
        var tokens = TokenSet.Create(ids, model.Config);
        (double Wall, double Cpu) passes = (double.MaxValue, double.MaxValue), evaluation = passes, whole = passes;
        for (int turn = 0; turn < turns; turn++)
        {
            passes = Least(passes, Seconds(() => Passes(model, target, ids)));
            evaluation = Least(evaluation, Seconds(() => new SaeEvaluation(model, [target], tokens, new() { Gradients = false }).Run()));
            whole = Least(whole, Seconds(() => new SaeEvaluation(model, [target], tokens).Run()));
        }

        // A backward pass is twice a forward pass of the layers above the site and of the unembedding.
        double forward = passes.Wall * Work(model.Config, model.Config.LayerCount - StartOf(target)) / AllWork(model.Config, target),
            gradients = whole.Wall - evaluation.Wall;
        double ratio = evaluation.Wall / passes.Wall;
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{target.Name,-24} {passes.Wall,10:f3} {evaluation.Wall,14:f3} {ratio,7:f3} {evaluation.Cpu / passes.Cpu,18:f3} "
                + $"{gradients,13:f3} {gradients / (4 * forward),23:f3}"));
        return ratio <= Limit;
    }

    private static double AllWork(Gemma2Config c, SaeTarget target) =>
        Work(c, c.LayerCount) + (SplicedPasses * Work(c, c.LayerCount - StartOf(target)));

    /// <summary>Multiply-adds a token of some layers and of the unembedding.</summary>
    private static double Work(Gemma2Config c, int layers) =>
        ((double)c.ModelDim * c.VocabSize)
            + (layers * ((2.0 * (c.HeadCount + c.KvHeadCount) * c.HeadDim * c.ModelDim) + (3.0 * c.MlpDim * c.ModelDim)));

    /// <summary>A splice into the stream after a layer, or into what the layer adds to it last, needs the layers above only; behind the last layer, the final norm and the logits.</summary>
    private static int StartOf(SaeTarget target) =>
        target.SiteOut.Layer + (target.SiteOut.Site is Site.ResidPost or Site.MlpOutPost ? 1 : 0);

    /// <summary>The passes alone, with all logits, as a plain program would write them.</summary>
    private static void Passes(Gemma2Model model, SaeTarget target, int[][] ids)
    {
        Device device = model.Device;
        int length = ids[0].Length, from = StartOf(target);
        HookPoint start = from < model.Config.LayerCount ? new(Site.ResidPre, from) : new(Site.ResidPost, from - 1);
        using Session session = model.NewSession(length, length);
        Mat stream = device.CreateMat(length, model.Config.ModelDim, "stream");
        foreach (int[] sequence in ids)
        {
            session.Reset();
            using (session.Hooks.Add(start, (_, _, values) => device.Copy(values, stream)))
                model.Forward(sequence, session, LogitRows.All);
            for (int pass = 0; pass < SplicedPasses; pass++)
            {
                session.Reset();
                model.ForwardFrom(from, stream, sequence, session, LogitRows.All);
            }
        }

        device.Synchronize();
        stream.Buffer.Dispose();
    }

    private static (double Wall, double Cpu) Least((double Wall, double Cpu) a, (double Wall, double Cpu) b) =>
        (Math.Min(a.Wall, b.Wall), Math.Min(a.Cpu, b.Cpu));

    private static (double Wall, double Cpu) Seconds(Action run)
    {
        TimeSpan cpu = Environment.CpuUsage.TotalTime;
        long start = Stopwatch.GetTimestamp();
        run();
        return (Stopwatch.GetElapsedTime(start).TotalSeconds, (Environment.CpuUsage.TotalTime - cpu).TotalSeconds);
    }
}

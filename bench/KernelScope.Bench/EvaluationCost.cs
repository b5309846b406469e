using System.Diagnostics;
using System.Globalization;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Bench;

/// <summary>What an evaluation costs beside the forward passes that it needs: a clean one, and six ablations and four splices an SAE from the site's layer up; the layers below run once.</summary>
internal static class EvaluationCost
{
    private const double Limit = 1.25;

    /// <summary>Prints the ratio for every demo SAE, both sides measured in this run, and returns 1 if one is above the limit.</summary>
    /// <param name="device">What computes.</param>
    /// <param name="sequences">Number of sequences.</param>
    /// <param name="length">Tokens of each.</param>
    public static int Run(Device device, int sequences, int length)
    {
        using Gemma2Model model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        var random = new Random(1);
        int[][] ids = [.. Enumerable.Range(0, sequences).Select(_ => Enumerable.Range(0, length).Select(t => t == 0 ? model.Config.BosId : random.Next(473, model.Config.VocabSize)).ToArray())];
        var tokens = TokenSet.Create(ids, model.Config);
        Console.WriteLine($"{sequences} x {length} tokens on {device.Name}; seconds of the passes alone, of the evaluation, ratio (at most {Limit.ToString(CultureInfo.InvariantCulture)})");
        bool within = true;
        foreach (string name in Demo.SaeNames)
        {
            using JumpReluSae sae = JumpReluSae.Load(device, Demo.OpenSae(name));
            var target = new SaeTarget(name, sae, sae.Site!.Value, sae.SiteOut!.Value);
            // The fastest of several turns on each side, turn by turn: what else runs on the machine disturbs both alike.
            double passes = double.MaxValue, evaluation = double.MaxValue;
            for (int turn = 0; turn < 3; turn++)
            {
                passes = Math.Min(passes, Seconds(() => Passes(model, target, ids)));
                evaluation = Math.Min(evaluation, Seconds(() => new SaeEvaluation(model, [target], tokens, new() { Bootstrap = new(200) }).Run()));
            }

            double ratio = evaluation / passes;
            within &= ratio <= Limit;
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name,-24} {passes,8:f3} {evaluation,8:f3} {ratio,6:f3}"));
        }

        return within ? 0 : 1;
    }

    /// <summary>The passes alone, with all logits, as a plain program would write them.</summary>
    private static void Passes(Gemma2Model model, SaeTarget target, int[][] ids)
    {
        const int SplicedPasses = 10;
        Device device = model.Device;
        int length = ids[0].Length, from = target.SiteOut.Layer;
        // The stream after the site is the stream before the next layer: a splice there needs the layers above only.
        if (target.SiteOut.Site == Site.ResidPost && from + 1 < model.Config.LayerCount)
            from++;
        using Session session = model.NewSession(length, length);
        Mat stream = device.CreateMat(length, model.Config.ModelDim, "stream");
        foreach (int[] sequence in ids)
        {
            session.Reset();
            using (session.Hooks.Add(new(Site.ResidPre, from), (_, _, values) => device.Copy(values, stream)))
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

    private static double Seconds(Action run)
    {
        long start = Stopwatch.GetTimestamp();
        run();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }
}

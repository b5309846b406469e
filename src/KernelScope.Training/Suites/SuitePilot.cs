using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Suites;

/// <summary>
/// Finds by what the default ladder of sparsities is multiplied for a site and a width. Short trainings at the middle rung look for the
/// scale at which L0 is the geometric mean of the two ends; L0 falls about as 1/λ, and the ladder spans 16, so that its ends then
/// lie near the two.
/// </summary>
internal static class SuitePilot
{
    /// <summary>What the ladder brackets.</summary>
    public const double LowL0 = 20, HighL0 = 300;

    private const int MostSteps = 2000, MostRounds = 5, MaxLength = 1 << 20;

    /// <summary>Near enough: a factor in L0.</summary>
    private const double Near = 1.25;

    /// <summary>L0 that the middle rung is brought to; of a narrow SAE no more than an eighth of its features.</summary>
    public static double TargetOf(int width) => Math.Min(Math.Sqrt(LowL0 * HighL0), width / 8.0);

    /// <summary>The scale that was found earlier; null if there is none.</summary>
    /// <exception cref="InvalidDataException">The file is malformed.</exception>
    public static double? Find(SuiteFolder folder, SuiteItem item)
    {
        string path = folder.Pilot(item);
        if (!File.Exists(path))
            return null;
        using JsonDocument document = JsonText.ReadObject(path, MaxLength);
        var root = new RunField(document.RootElement, path, "");
        return root["id"].Text == IdOf(item) ? root["scale"].Double : null;
    }

    /// <summary>Looks for it, and writes it down.</summary>
    /// <exception cref="TrainingException">A training left its range.</exception>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static double Run(SuiteFolder folder, SuiteItem item, string run, Device device, Action<string> step,
        CancellationToken cancellationToken)
    {
        double target = TargetOf(item.Options.Width), middle = SuitePlan.Ladder[SuitePlan.Ladder.Length / 2], scale = 1;
        var rounds = new List<(double Scale, double L0)>();
        while (rounds.Count < MostRounds)
        {
            double l0 = Math.Max(Measure(item, middle * scale, run, device, step, cancellationToken), 1e-3);
            rounds.Add((scale, l0));
            if (Math.Abs(Math.Log(l0 / target)) < Math.Log(Near))
                break;
            scale = Next(rounds, target);
        }

        (double best, _) = rounds.MinBy(r => Math.Abs(Math.Log(r.L0 / target)));
        Write(folder.Pilot(item), item, best, target, middle, rounds);
        return best;
    }

    /// <summary>The next scale: from the last two rounds in logarithms, or as if L0 were proportional to 1/λ.</summary>
    public static double Next(IReadOnlyList<(double Scale, double L0)> rounds, double target)
    {
        (double scale, double l0) = rounds[^1];
        double slope = -1;
        if (rounds.Count > 1 && rounds[^2].Scale != scale)
            slope = Math.Clamp(Math.Log(l0 / rounds[^2].L0) / Math.Log(scale / rounds[^2].Scale), -4, -0.25);
        return scale * Math.Clamp(Math.Exp(Math.Log(target / l0) / slope), 1.0 / 32, 32);
    }

    private static double Measure(SuiteItem item, double sparsity, string run, Device device, Action<string> step,
        CancellationToken cancellationToken)
    {
        long steps = Math.Min(MostSteps, item.Options.Steps);
        double share = (double)steps / item.Options.Steps;
        TrainingOptions options = item.Options with
        {
            Sparsity = sparsity,
            Seed = 0,
            Steps = steps,
            SparsityWarmUp = Math.Min(item.Options.SparsityWarmUp, steps / 2),
            LearningRateWarmUp = Math.Min(item.Options.LearningRateWarmUp, steps / 4),
            LearningRateDecay = (long)(item.Options.LearningRateDecay * share),
        };
        // All seeds share it.
        var order = new RunRowsOptions { Seed = 0, BucketRows = item.Rows.BucketRows, Validation = item.Rows.Validation };
        using var rows = RunRows.Open(run, item.Site, item.SiteOut, order);
        using var trainer = new SaeTrainer(device, rows, options);
        while (trainer.Step < steps)
        {
            cancellationToken.ThrowIfCancellationRequested();
            // What is measured is the last tenth.
            if (trainer.Step == steps - (steps / 10) - 1)
                trainer.Interval.Clear();
            trainer.Advance();
            step($"{item.PilotName}: pilot, step {trainer.Step} of {steps}");
        }

        return trainer.Interval.L0;
    }

    private static void Write(string path, SuiteItem item, double scale, double target, double middle,
        List<(double Scale, double L0)> rounds)
    {
        OutputPlace.CreateFolder(Path.GetDirectoryName(path)!);
        var content = new JsonObject
        {
            ["id"] = IdOf(item),
            ["scale"] = scale,
            ["target_l0"] = target,
            ["rounds"] = new JsonArray([.. rounds.Select(r => new JsonObject { ["sparsity"] = middle * r.Scale, ["l0"] = r.L0 })]),
        };
        using AtomicFile file = AtomicFile.Create(path);
        file.Stream.Write(CanonicalJson.Write(content));
        file.Commit();
    }

    /// <summary>What all sparsities and seeds of a site and width share.</summary>
    private static string IdOf(SuiteItem item) => SuiteItem.Create(item.Run, item.Site, item.SiteOut,
        item.Options with { Sparsity = 0, Seed = 0 }, item.Rows, needsPilot: true).Id;
}

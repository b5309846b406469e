using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Suites;

/// <summary>What was measured of an item. What the model gives is null where it was left out.</summary>
internal sealed record SuiteResult
{
    private const int MaxLength = 1 << 24;

    /// <summary>λ, with what a pilot multiplied it by; for a target L0 the last one.</summary>
    public required double Sparsity { get; init; }

    public required long Steps { get; init; }

    /// <summary>Rows that were kept back.</summary>
    public required long Rows { get; init; }

    /// <summary>Over those rows; null where none were kept back.</summary>
    public required double? L0 { get; init; }

    public required double? Fvu { get; init; }

    public required int Dead { get; init; }

    /// <summary>The exported SAE, as a path in the suite's folder.</summary>
    public required string Path { get; init; }

    public SuiteFidelity? Fidelity { get; init; }

    /// <summary>Reads the result of an item; null if there is none, or it is of another item.</summary>
    /// <exception cref="InvalidDataException">The file is malformed.</exception>
    public static SuiteResult? Find(SuiteFolder folder, SuiteItem item)
    {
        string path = folder.Result(item);
        if (!File.Exists(path))
            return null;
        using JsonDocument document = JsonText.ReadObject(path, MaxLength);
        var root = new RunField(document.RootElement, path, "");
        if (root["id"].Text != item.Id)
            return null;
        return new SuiteResult
        {
            Sparsity = root["sparsity"].Double,
            Steps = root["steps"].Long(0, long.MaxValue),
            Rows = root["rows"].Long(0, long.MaxValue),
            L0 = Real(root, "l0"),
            Fvu = Real(root, "fvu"),
            Dead = root["dead"].Int(0, int.MaxValue),
            Path = root["path"].Text,
            Fidelity = root.Has("fidelity") ? SuiteFidelity.Parse(root["fidelity"]) : null,
        };
    }

    /// <summary>Writes it: the item is done.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public void Write(SuiteFolder folder, SuiteItem item)
    {
        var content = new JsonObject
        {
            ["id"] = item.Id,
            ["sparsity"] = Sparsity,
            ["steps"] = Steps,
            ["rows"] = Rows,
            ["l0"] = L0,
            ["fvu"] = Fvu,
            ["dead"] = Dead,
            ["path"] = Path,
            ["fidelity"] = Fidelity?.ToJson(),
        };
        using AtomicFile file = AtomicFile.Create(folder.Result(item));
        file.Stream.Write(CanonicalJson.Write(content));
        file.Commit();
    }

    internal static double? Real(RunField field, string name) => field.Has(name) ? field[name].Double : null;
}

/// <summary>What splicing an SAE into the model does, over the validation tokens.</summary>
internal sealed record SuiteFidelity
{
    private static readonly string[] Delta = ["splices", "sae/keep_bos", "delta", "default"];

    public required int Sequences { get; init; }

    /// <summary>Positions that count.</summary>
    public required long Positions { get; init; }

    public required double? DeltaLoss { get; init; }

    /// <summary>Ends of its 95 % interval, over resamples of sequences.</summary>
    public required double? DeltaLow { get; init; }

    public required double? DeltaHigh { get; init; }

    public required double? CleanLoss { get; init; }

    public required double? Kl { get; init; }

    public required double? Recovered { get; init; }

    /// <summary>r_L0; null at sites without a gradient.</summary>
    public required double? Uniformity { get; init; }

    /// <summary>Number of features in each bin of <see cref="FiringHistogram.Edges"/>, and of those that never fire.</summary>
    public required IReadOnlyList<double> Firing { get; init; }

    public required long Never { get; init; }

    /// <summary>FVU at each position; null where nothing counts.</summary>
    public required IReadOnlyList<double?> FvuByPosition { get; init; }

    public required IReadOnlyList<double?> DeltaByPosition { get; init; }

    /// <summary>What an evaluation found of each of its SAEs, in their order.</summary>
    public static SuiteFidelity[] From(EvaluationResult result) => [.. result.Saes.Select(sae => From(result, sae))];

    private static SuiteFidelity From(EvaluationResult result, SaeResult sae)
    {
        double? Metric(params string[] path) => sae.Metrics.Has(path) ? Finite(sae.Metrics[path]) : null;
        var firing = new FiringHistogram(sae.FiringFrequency);
        return new SuiteFidelity
        {
            Sequences = result.Tokens.Count,
            Positions = result.Counts["act_mask"],
            DeltaLoss = Metric(Delta),
            DeltaLow = sae.ConfidenceLow.Has(Delta) ? Finite(sae.ConfidenceLow[Delta]) : null,
            DeltaHigh = sae.ConfidenceHigh.Has(Delta) ? Finite(sae.ConfidenceHigh[Delta]) : null,
            CleanLoss = Metric("ce_clean", "default"),
            Kl = Metric("splices", "sae/keep_bos", "kl"),
            Recovered = Metric("splices", "sae/keep_bos", "loss_recovered", "default"),
            Uniformity = Metric("r_L0"),
            Firing = [.. firing.Counts.Select(c => (double)c)],
            Never = firing.Never,
            FvuByPosition = [.. sae.ByPositionFvu.Select(Finite)],
            DeltaByPosition = [.. sae.ByPositionDelta.Select(Finite)],
        };
    }

    public static SuiteFidelity Parse(RunField root) => new()
    {
        Sequences = root["sequences"].Int(0, int.MaxValue),
        Positions = root["positions"].Long(0, long.MaxValue),
        DeltaLoss = SuiteResult.Real(root, "delta_loss"),
        DeltaLow = SuiteResult.Real(root, "delta_low"),
        DeltaHigh = SuiteResult.Real(root, "delta_high"),
        CleanLoss = SuiteResult.Real(root, "ce_clean"),
        Kl = SuiteResult.Real(root, "kl"),
        Recovered = SuiteResult.Real(root, "loss_recovered"),
        Uniformity = SuiteResult.Real(root, "r_L0"),
        Firing = root["firing"].Count == FiringHistogram.Edges.Count - 1 ? [.. root["firing"].Items.Select(v => v.Double)]
            : throw root["firing"].Bad($"{FiringHistogram.Edges.Count - 1} numbers"),
        Never = root["never"].Long(0, long.MaxValue),
        FvuByPosition = [.. root["fvu_by_position"].Items.Select(v => v.DoubleOrNull)],
        DeltaByPosition = [.. root["delta_by_position"].Items.Select(v => v.DoubleOrNull)],
    };

    public JsonObject ToJson() => new()
    {
        ["sequences"] = Sequences,
        ["positions"] = Positions,
        ["delta_loss"] = DeltaLoss,
        ["delta_low"] = DeltaLow,
        ["delta_high"] = DeltaHigh,
        ["ce_clean"] = CleanLoss,
        ["kl"] = Kl,
        ["loss_recovered"] = Recovered,
        ["r_L0"] = Uniformity,
        ["firing"] = CanonicalJson.Numbers([.. Firing]),
        ["never"] = Never,
        ["fvu_by_position"] = Nullable(FvuByPosition),
        ["delta_by_position"] = Nullable(DeltaByPosition),
    };

    private static double? Finite(double value) => double.IsFinite(value) ? value : null;

    private static JsonArray Nullable(IReadOnlyList<double?> values) =>
        new([.. values.Select(v => v is double number ? (JsonNode)number : null)]);
}

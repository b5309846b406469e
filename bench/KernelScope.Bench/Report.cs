using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Measuring;

namespace KernelScope.Bench;

/// <summary>Outcomes on the console and as JSON; <see cref="ReportTable"/> makes the table of the JSON.</summary>
internal static class Report
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    /// <summary>Prints a case: ours with its share of the limit, then each peer with its seconds over ours.</summary>
    public static void Print(Outcome outcome, Machine machine)
    {
        Console.WriteLine(
            string.Create(CultureInfo.InvariantCulture,
                $"{outcome.Case.Name,-44} {outcome.Ours.Seconds.Median * 1e3,10:f3} ms{Share(outcome)}{Rate(outcome)}   "
                    + $"[{machine.Path(outcome.Case.Precision)}]"));
        foreach (Reading reading in outcome.Readings)
            Console.WriteLine(FormattableString.Invariant($"    {reading.Name} {reading.Value.Text} {reading.Unit}").TrimEnd());
        foreach (Standing peer in outcome.Peers)
            Console.WriteLine(
                FormattableString.Invariant($"    {peer.Name,-40} {peer.Seconds.Median * 1e3,10:f3} ms   x ours {peer.Ratio.Text}"));
        foreach (string note in outcome.Notes)
            Console.WriteLine($"    {note}");
    }

    /// <summary>Merges outcomes into a JSON file, case by case, and writes the table of all its cases beside it.</summary>
    public static void Write(string path, Machine machine, IEnumerable<Outcome> outcomes)
    {
        JsonObject cases = Kept(path);
        foreach (Outcome outcome in outcomes)
            cases[outcome.Case.Name] = Json(outcome, machine);
        var root = new JsonObject
        {
            ["ratio"] = "seconds of the peer over seconds of KernelScope in the same round: above 1, KernelScope is faster",
            ["share"] = "work over seconds over the limit of the same round",
            ["cases"] = cases,
        };
        Replace(path, root.ToJsonString(Indented) + "\n");
        Replace(Path.ChangeExtension(path, ".md"), ReportTable.Of(cases));
    }

    private static JsonObject Kept(string path)
    {
        if (!File.Exists(path))
            return [];
        try
        {
            return JsonNode.Parse(File.ReadAllText(path)) is JsonObject old && old["cases"] is JsonObject kept
                ? (JsonObject)kept.DeepClone() : [];
        }
        catch (JsonException)
        {
            throw new InvalidDataException($"{path} is not JSON: it holds no results to add to.");
        }
    }

    private static string Share(Outcome outcome) => outcome is { Share: { } share, Limit: { } limit, Case.Bound: { } bound }
        ? FormattableString.Invariant($"   of {CpuDeviceLimits.Name(bound)} {share.Text}   ({limit.Median / 1e9:f1} G/s)")
        : "";

    private static string Rate(Outcome outcome) =>
        outcome.Case.Tokens > 0 ? FormattableString.Invariant($"   {outcome.Case.Tokens / outcome.Ours.Seconds.Median:f2} tokens/s") : "";

    private static JsonObject Json(Outcome outcome, Machine machine)
    {
        var peers = new JsonObject();
        foreach (Standing peer in outcome.Peers)
            peers[peer.Name] = new JsonObject { ["seconds"] = Json(peer.Seconds), ["ratio"] = Json(peer.Ratio) };
        var readings = new JsonObject();
        foreach (Reading reading in outcome.Readings)
            readings[reading.Name] = new JsonObject { ["unit"] = reading.Unit, ["value"] = Json(reading.Value) };
        return new JsonObject
        {
            ["instruction_set"] = machine.Exact.InstructionSet,
            ["path"] = machine.Path(outcome.Case.Precision),
            ["threads"] = machine.Options.Threads,
            ["rounds"] = outcome.Rounds,
            ["work"] = outcome.Case.Work,
            ["tokens"] = outcome.Case.Tokens,
            ["limit"] = outcome is { Limit: { } limit, Case.Bound: { } bound }
                ? new JsonObject { ["name"] = CpuDeviceLimits.Name(bound), ["per_second"] = Json(limit) } : null,
            ["seconds"] = Json(outcome.Ours.Seconds),
            ["share"] = outcome.Share is { } share ? Json(share) : null,
            ["readings"] = readings,
            ["peers"] = peers,
            ["notes"] = new JsonArray([.. outcome.Notes.Select(m => (JsonNode)m)]),
        };
    }

    private static JsonObject Json(Spread spread) =>
        new() { ["min"] = Rounded(spread.Min), ["median"] = Rounded(spread.Median), ["max"] = Rounded(spread.Max) };

    private static double Rounded(double value) =>
        double.Parse(value.ToString("g4", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);

    private static void Replace(string path, string text)
    {
        File.WriteAllText(path + ".new", text);
        File.Move(path + ".new", path, overwrite: true);
    }
}

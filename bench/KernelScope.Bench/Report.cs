using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace KernelScope.Bench;

/// <summary>Outcomes on the console, as JSON and as a table.</summary>
internal static class Report
{
    /// <summary>Prints a case: ours with its share of the limit, then each peer with its seconds over ours.</summary>
    public static void Print(Outcome outcome)
    {
        Console.WriteLine(Invariant($"{outcome.Case.Name,-44} {outcome.Ours.Seconds.Median * 1e3,10:f3} ms{Share(outcome)}"));
        foreach (Standing peer in outcome.Peers)
            Console.WriteLine(Invariant($"    {peer.Name,-40} {peer.Seconds.Median * 1e3,10:f3} ms   x ours {Text(peer.Ratio)}"));
        foreach (string missing in outcome.Missing)
            Console.WriteLine($"    {missing}");
    }

    /// <summary>Merges outcomes into a JSON file, case by case, and writes the table of all its cases beside it.</summary>
    public static void Write(string path, Machine machine, IEnumerable<Outcome> outcomes)
    {
        JsonObject cases = File.Exists(path) && JsonNode.Parse(File.ReadAllText(path)) is JsonObject old && old["cases"] is JsonObject kept ? (JsonObject)kept.DeepClone() : [];
        foreach (Outcome outcome in outcomes)
            cases[outcome.Case.Name] = Json(outcome, machine);
        var root = new JsonObject
        {
            ["ratio"] = "seconds of the peer over seconds of KernelScope in the same round: above 1, KernelScope is faster",
            ["share"] = "work over seconds over the limit of the same round",
            ["cases"] = cases,
        };
        Replace(path, root.ToJsonString(new System.Text.Json.JsonSerializerOptions { WriteIndented = true }) + "\n");
        Replace(Path.ChangeExtension(path, ".md"), Table(cases));
    }

    private static string Share(Outcome outcome) => outcome is { Share: { } share, Limit: { } limit }
        ? Invariant($"   of {Limits.Name(outcome.Case.Bound)} {Text(share)}   ({limit.Median / 1e9:f1} G/s)")
        : "";

    private static string Text(Spread spread) => Invariant($"{spread.Median:f2} ({spread.Min:f2} to {spread.Max:f2})");

    private static JsonObject Json(Outcome outcome, Machine machine)
    {
        var peers = new JsonObject();
        foreach (Standing peer in outcome.Peers)
            peers[peer.Name] = new JsonObject { ["seconds"] = Json(peer.Seconds), ["ratio"] = Json(peer.Ratio) };
        return new JsonObject
        {
            ["instruction_set"] = machine.Exact.InstructionSet,
            ["threads"] = machine.Options.Threads,
            ["rounds"] = machine.Options.Rounds,
            ["work"] = outcome.Case.Work,
            ["limit"] = outcome.Limit is { } limit ? new JsonObject { ["name"] = Limits.Name(outcome.Case.Bound), ["per_second"] = Json(limit) } : null,
            ["seconds"] = Json(outcome.Ours.Seconds),
            ["share"] = outcome.Share is { } share ? Json(share) : null,
            ["peers"] = peers,
            ["missing"] = new JsonArray([.. outcome.Missing.Select(m => (JsonNode)m)]),
        };
    }

    private static JsonObject Json(Spread spread) => new() { ["min"] = Rounded(spread.Min), ["median"] = Rounded(spread.Median), ["max"] = Rounded(spread.Max) };

    private static double Rounded(double value) => double.Parse(value.ToString("g4", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);

    private static string Table(JsonObject cases)
    {
        var text = new StringBuilder("| case | ms | share of its limit: median (min to max) | peers: their time over ours, median (min to max) |\n| --- | --- | --- | --- |\n");
        foreach ((string name, JsonNode? one) in cases)
        {
            string share = one!["share"] is JsonObject shares ? Invariant($"{one["limit"]!["name"]} {Text(shares)}") : "";
            string peers = string.Join("; ", one["peers"]!.AsObject().Select(peer => Invariant($"{peer.Key} {Text(peer.Value!["ratio"]!.AsObject())}")));
            text.Append(CultureInfo.InvariantCulture, $"| {name} | {(double)one["seconds"]!["median"]! * 1e3:g4} | {share} | {peers} |\n");
        }

        return text.ToString();
    }

    private static string Text(JsonObject spread) => Text(new Spread((double)spread["min"]!, (double)spread["median"]!, (double)spread["max"]!));

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private static void Replace(string path, string text)
    {
        File.WriteAllText(path + ".new", text);
        File.Move(path + ".new", path, overwrite: true);
    }
}

using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Measuring;

namespace KernelScope.Bench;

/// <summary>The table of a file of results.</summary>
internal static class ReportTable
{
    private const string Head = """
        # Measurements

        `dotnet run --project bench/KernelScope.Bench -c Release -- --out FILE.json` writes this table, case by case, perhaps on different days; the JSON beside it has the rounds, threads and limits of each case. `bench/README.md` says on which machine,
        and what the names mean. Times are medians of rounds in which KernelScope, the limit and the peers take turns. A share is the work a second over the limit of the same round; of a peer, more than 1 means that KernelScope is faster.

        | case | by | ms | tokens/s | share of its limit: median (min to max) | peers: their time over ours, median (min to max) | else |
        | --- | --- | --- | --- | --- | --- | --- |

        """;

    /// <summary>Makes it of the cases of the JSON; files of earlier versions lack some of their members.</summary>
    public static string Of(JsonObject cases)
    {
        var text = new StringBuilder(Head);
        foreach ((string name, JsonNode? one) in cases)
        {
            JsonObject result = one!.AsObject();
            double seconds = (double)result["seconds"]!["median"]!;
            string[] cells =
            [
                name,
                (string)(result["path"] ?? result["instruction_set"])!,
                (seconds * 1e3).ToString("g4", CultureInfo.InvariantCulture),
                result["tokens"] is { } tokens && (int)tokens > 0 ? ((int)tokens / seconds).ToString("g4", CultureInfo.InvariantCulture)
                    : "",
                result["share"] is JsonObject share ? $"{result["limit"]!["name"]} {Text(share)}" : "",
                string.Join("; ", result["peers"]!.AsObject().Select(peer => $"{peer.Key} {Text(peer.Value!["ratio"]!.AsObject())}")),
                result["readings"] is JsonObject readings ? string.Join("; ", readings.Select(Reading)) : "",
            ];
            text.Append("| ").AppendJoin(" | ", cells).Append(" |\n");
        }

        return text.ToString();
    }

    private static string Reading(KeyValuePair<string, JsonNode?> reading) =>
        $"{reading.Key} {Text(reading.Value!["value"]!.AsObject())} {reading.Value["unit"]}".TrimEnd();

    private static string Text(JsonObject spread) =>
        new Spread((double)spread["min"]!, (double)spread["median"]!, (double)spread["max"]!).Text;
}

using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using KernelScope.Evaluation;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>An evaluation on standard output.</summary>
internal static class EvalView
{
    private static readonly (string Label, string[] Path)[] Rows =
    [
        ("L0", ["L0"]), ("L0, median", ["L0_median"]), ("FVU", ["fvu"]), ("FVU, median", ["fvu_median"]), ("cosine", ["cosine"]), ("alive", ["alive"]),
        ("CE clean", ["ce_clean", "default"]), ("CE spliced", ["splices", "sae/keep_bos", "ce", "default"]), ("delta loss", ["splices", "sae/keep_bos", "delta", "default"]),
        ("KL", ["splices", "sae/keep_bos", "kl"]), ("loss recovered", ["splices", "sae/keep_bos", "loss_recovered", "default"]), ("uniformity r_L0", ["r_L0"]),
    ];

    /// <summary>For people: the main numbers, with their intervals.</summary>
    public static void Print(Streams streams, EvaluationResult result)
    {
        IAnsiConsole console = Terminal.Open(streams);
        console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Tokens.Count:N0} sequences of up to {result.Tokens.Length:N0} tokens; {result.Counts["act_mask"]:N0} positions count"));
        // With several SAEs there is room for the numbers only; the intervals are in the JSON and in the report.
        bool intervals = result.Saes.Count == 1;
        var table = new Table().NoBorder();
        table.AddColumn("");
        foreach (SaeResult sae in result.Saes)
            table.AddColumn(new TableColumn(new Paragraph($"{Printable.Escape(sae.Name)}\nat {sae.Site}")));
        if (intervals)
            table.AddColumn(string.Create(CultureInfo.InvariantCulture, $"{100 * result.Bootstrap.Level:0.#} % interval"));
        foreach ((string label, string[] path) in Rows.Where(row => result.Saes.Any(s => s.Metrics.Has(row.Path))))
        {
            List<Paragraph> cells = [new(label), .. result.Saes.Select(s => new Paragraph(s.Metrics.Has(path) ? Number(s.Metrics[path]) : "not defined"))];
            if (intervals)
                cells.Add(new(Interval(result.Saes[0], path)));
            table.AddRow(cells);
        }

        console.Write(table);
    }

    /// <summary>For programs: one JSON document.</summary>
    /// <param name="streams">Where.</param>
    /// <param name="result">What.</param>
    /// <param name="model">How the model is named.</param>
    /// <param name="source">Where the rows come from, if not from the model.</param>
    public static void WriteJson(Streams streams, EvaluationResult result, string model, IReadOnlyList<(string Name, string Value)>? source = null)
    {
        streams.Output.Flush();
        using (var json = new Utf8JsonWriter(streams.OutputBytes, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            EvaluationJson.Write(json, result, model, source ?? []);
        streams.OutputBytes.Write("\n"u8);
        streams.OutputBytes.Flush();
    }

    private static string Interval(SaeResult sae, string[] path) =>
        sae.ConfidenceLow.Has(path) && double.IsFinite(sae.ConfidenceLow[path]) ? $"{Number(sae.ConfidenceLow[path])} to {Number(sae.ConfidenceHigh[path])}" : "";

    private static string Number(double value) => double.IsFinite(value) ? value.ToString(Math.Abs(value) >= 100 ? "0.0" : "0.####", CultureInfo.InvariantCulture) : "not defined";
}

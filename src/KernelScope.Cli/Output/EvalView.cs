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
        ("L0", ["L0"]), ("L0, median", ["L0_median"]), ("FVU", ["fvu"]), ("FVU, median", ["fvu_median"]), ("cosine", ["cosine"]),
        ("alive", ["alive"]),
        ("CE clean", ["ce_clean", "default"]), ("CE spliced", ["splices", "sae/keep_bos", "ce", "default"]),
            ("delta loss", ["splices", "sae/keep_bos", "delta", "default"]),
        ("KL", ["splices", "sae/keep_bos", "kl"]), ("loss recovered", ["splices", "sae/keep_bos", "loss_recovered", "default"]),
            ("uniformity r_L0", ["r_L0"]),
    ];

    /// <summary>Which numbers are shown first where there is no room for all.</summary>
    private static readonly string[] First = ["L0", "FVU", "delta loss", "KL", "loss recovered", "alive"];

    /// <summary>For people: the main numbers, with their intervals.</summary>
    public static void Print(Streams streams, EvaluationResult result)
    {
        IAnsiConsole console = Terminal.Open(streams);
        console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Tokens.Count:N0} sequences of up " +
            $"to {result.Tokens.Length:N0} tokens; {result.Counts["act_mask"]:N0} positions count"));
        if (result.Saes.Count > 1)
        {
            PrintSeveral(console, result);
            return;
        }

        SaeResult sae = result.Saes[0];
        var table = new Table().NoBorder();
        table.AddColumn("");
        table.AddColumn(new TableColumn(new Paragraph(Name(sae))));
        table.AddColumn(string.Create(CultureInfo.InvariantCulture, $"{100 * result.Bootstrap.Level:0.#} % interval"));
        foreach ((string label, string[] path) in Rows.Where(row => sae.Metrics.Has(row.Path)))
            table.AddRow(new Paragraph(label), new Paragraph(Number(sae.Metrics[path])), new Paragraph(Interval(sae, path)));
        console.Write(table);
    }

    /// <summary>An SAE a row, and as many numbers as fit into the width, the most telling first; the intervals are in the JSON and in the report.</summary>
    private static void PrintSeveral(IAnsiConsole console, EvaluationResult result)
    {
        const int Gap = 2, LeastName = 20, LeastShown = 3;
        (string Label, string[] Path)[] there = [.. Rows.Where(row => result.Saes.Any(s => s.Metrics.Has(row.Path)))];
        (string Label, string[] Path)[] ordered =
            [.. there.OrderBy(row => Array.IndexOf(First, row.Label) is int at and >= 0 ? at : First.Length)];
        int names = result.Saes.Max(s => Math.Max(Printable.Escape(s.Name).Length, s.Site.ToString().Length + 3));
        names = Math.Min(names, Math.Max(console.Profile.Width / 3, LeastName));
        int left = console.Profile.Width - names - Gap;
        var table = new Table().NoBorder();
        table.AddColumn(new TableColumn("") { Width = names });
        var shown = new List<string[]>();
        foreach ((string label, string[] path) in ordered)
        {
            left -= Math.Max(label.Length, result.Saes.Max(s => Cell(s, path).Length)) + Gap;
            if (left < 0 && shown.Count >= LeastShown)
                break;
            table.AddColumn(new TableColumn(label).RightAligned().NoWrap());
            shown.Add(path);
        }

        foreach (SaeResult sae in result.Saes)
            table.AddRow([new Paragraph(Name(sae)), .. shown.Select(path => new Paragraph(Cell(sae, path)))]);
        console.Write(table);
        if (shown.Count < ordered.Length)
            console.WriteLine("A wider terminal, --report and --json also " +
                $"show {string.Join(", ", ordered.Skip(shown.Count).Select(o => o.Label))}.");
    }

    private static string Name(SaeResult sae) => $"{Printable.Escape(sae.Name)}\nat {sae.Site}";

    private static string Cell(SaeResult sae, string[] path) => sae.Metrics.Has(path) ? Number(sae.Metrics[path]) : "not defined";

    /// <summary>For programs: one JSON document.</summary>
    /// <param name="streams">Where.</param>
    /// <param name="result">What.</param>
    /// <param name="model">How the model is named.</param>
    /// <param name="source">Where the rows come from, if not from the model.</param>
    public static void WriteJson(Streams streams, EvaluationResult result, string model,
        IReadOnlyList<(string Name, string Value)>? source = null)
    {
        streams.Output.Flush();
        WriteJson(streams.OutputBytes, result, model, source ?? []);
        streams.OutputBytes.Flush();
    }

    /// <summary>The same document to any stream.</summary>
    public static void WriteJson(Stream destination, EvaluationResult result, string model,
        IReadOnlyList<(string Name, string Value)> source)
    {
        using (var json = new Utf8JsonWriter(destination,
            new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            EvaluationJson.Write(json, result, model, source);
        destination.Write("\n"u8);
    }

    private static string Interval(SaeResult sae, string[] path) =>
        sae.ConfidenceLow.Has(path) && double.IsFinite(sae.ConfidenceLow[path])
        ? $"{Number(sae.ConfidenceLow[path])} to {Number(sae.ConfidenceHigh[path])}" : "";

    private static string Number(double value) => double.IsFinite(value)
        ? value.ToString(Math.Abs(value) >= 100 ? "0.0" : "0.####", CultureInfo.InvariantCulture) : "not defined";
}

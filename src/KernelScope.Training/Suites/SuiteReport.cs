using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Suites;

/// <summary>
/// The figures of the Gemma Scope paper for a suite, as one HTML file that needs nothing else, with the same table as JSON and CSV
/// beside it. A suite that is not finished is shown as far as it is, and what is missing is said.
/// </summary>
internal sealed class SuiteReport
{
    private static readonly string[] Columns = ["id", "name", "site", "site_out", "layer", "width", "activation", "sparsity", "k", "seed",
        "state", "steps", "l0", "fvu", "delta_loss", "delta_low", "delta_high", "ce_clean", "kl", "loss_recovered", "r_L0", "dead",
            "never_fires",
        "on_frontier", "path", "target_l0"];

    /// <summary>Beside that of the report of an evaluation.</summary>
    private const string Style =
        """

        .beaten-row>*{color:var(--dim)}.best-row>*{font-weight:650}caption{text-align:left;padding:8px 9px;color:var(--dim)}
        """;

    private readonly SuitePlan _plan;
    private readonly List<Row> _rows;

    /// <param name="plan">The suite.</param>
    /// <param name="results">By item; null where it is not done.</param>
    /// <param name="states">By item: done, failed or missing.</param>
    public SuiteReport(SuitePlan plan, IReadOnlyList<SuiteResult?> results, IReadOnlyList<string> states)
    {
        _plan = plan;
        _rows = [.. plan.Items.Select((item, i) => new Row(item, results[i], states[i]))];
    }

    /// <summary>One item with its result.</summary>
    private sealed record Row(SuiteItem Item, SuiteResult? Result, string State)
    {
        public string Place => Item.SiteOut is HookPoint target ? $"{Item.Site} → {target}" : $"{Item.Site}";

        public string Kind => Item.SiteOut is HookPoint target ? $"{HookPoint.NameOf(Item.Site.Site)} → {HookPoint.NameOf(target.Site)}"
            : HookPoint.NameOf(Item.Site.Site);

        public double L0 => Result?.L0 ?? double.NaN;

        public double Fvu => Result?.Fvu ?? double.NaN;

        public double Delta => Result?.Fidelity?.DeltaLoss ?? double.NaN;

        /// <summary>What it was trained with, and its seed.</summary>
        public string Label => string.Create(CultureInfo.InvariantCulture,
            $"{(Item.Options.K > 0 ? $"k {Item.Options.K}" : $"λ {(IsUnknown ? "–" : Html.Number(Sparsity))}")}, s{Item.Options.Seed}");

        public double Sparsity => Result?.Sparsity ?? Item.Options.Sparsity;

        /// <summary>Whether λ is found by a pilot or a target, and is not yet.</summary>
        public bool IsUnknown => Result is null && (Item.NeedsPilot || Item.Options.TargetL0 > 0);

        public string Text => string.Create(CultureInfo.InvariantCulture,
            $"{Place}, width {Item.Options.Width}, {Label}: L0 {Html.Number(L0)}, FVU {Html.Number(Fvu)}, " +
            $"delta loss {Html.Number(Delta)}, {DeadShare} dead, {NeverShare} fire nowhere in the evaluation");

        /// <summary>Features that fired on none of the last rows of training.</summary>
        public string DeadShare => Share(Result?.Dead);

        /// <summary>Features that fire nowhere in the evaluation.</summary>
        public string NeverShare => Share(Result?.Fidelity?.Never);

        private string Share(long? count) => count is long some
            ? ((double)some / Item.Options.Width).ToString("P1", CultureInfo.InvariantCulture) : "–";
    }

    /// <summary>Writes the report, and the table beside it.</summary>
    /// <returns>The files.</returns>
    /// <exception cref="IOException">One cannot be written.</exception>
    public string[] Write(string path)
    {
        string[] files = FilesOf(path);
        WriteFile(files[0], Encoding.UTF8.GetBytes(ToHtml()));
        WriteFile(files[1], CanonicalJson.Write(ToJson()));
        WriteFile(files[2], Encoding.UTF8.GetBytes(ToCsv()));
        return files;
    }

    /// <summary>What a report at a path writes: the page, and its table as JSON and as CSV.</summary>
    public static string[] FilesOf(string path) => [path, Path.ChangeExtension(path, ".json"), Path.ChangeExtension(path, ".csv")];

    /// <summary>The report as text.</summary>
    public string ToHtml()
    {
        string title = $"A suite of sparse autoencoders of {_plan.Run.Model.Name}";
        var html = new StringBuilder();
        html.Append("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" ")
            .Append("content=\"width=device-width\"><title>").Append(Html.Escape(title)).Append("</title><style>").Append(HtmlReport.Style)
            .Append(Style).Append("</style></head><body><main>\n<h1>")
            .Append(Html.Escape(title)).Append("</h1>\n<p>").Append(Html.Escape(Setting())).Append("</p>\n");
        AppendMissing(html);
        foreach (IGrouping<string, Row> kind in _rows.GroupBy(r => r.Kind))
            AppendKind(html, kind.Key, [.. kind]);
        AppendTable(html);
        return html.Append("</main></body></html>\n").ToString();
    }

    private string Setting()
    {
        SuiteFidelity? one = _rows.Select(r => r.Result?.Fidelity).FirstOrDefault(f => f is not null);
        RunPlan run = _plan.Run;
        string excluded = run.ExcludedIds.Count == 0 ? "no token" : $"the ids {string.Join(", ", run.ExcludedIds)}";
        long rows = _rows.Max(r => r.Result?.Rows ?? 0);
        string trained = FormattableString.Invariant(
            $"Trained on the run {run.Id[..12]}: {run.Rows:N0} rows of {run.Sequences:N0} sequences of up to {run.Context:N0} tokens, ") +
            $"stored as {RunPlan.NameOf(run.RowType)}; BOS is the {RunPlan.BosPolicy}; {excluded} left out. " +
            FormattableString.Invariant($"L0 and FVU are over {rows:N0} rows of sequences that were kept back from training, ") +
            "FVU with their own mean. ";
        string spliced = one is null ? "Delta loss was not measured. "
            : "Delta loss is the growth of the mean next-token loss, in nats, when the reconstruction replaces the activation at every " +
                "position but BOS, over " + FormattableString.Invariant($"{one.Sequences:N0} of those sequences ({one.Positions:N0} ") +
                "positions; those whose own token is left out, and padding as a target, do not count). ";
        return trained + spliced +
            "A point is bold where no SAE of its site and layer has both a smaller L0 and a smaller loss, and grey where one has.";
    }

    private void AppendMissing(StringBuilder html)
    {
        Row[] left = [.. _rows.Where(r => r.Result is null)];
        if (left.Length == 0)
            return;
        int failed = left.Count(r => r.State == "failed");
        html.Append(CultureInfo.InvariantCulture, $"<p class=\"note\">{left.Length} of {_rows.Count} SAEs are not here yet")
            .Append(CultureInfo.InvariantCulture, $"{(failed > 0 ? $", {failed} of them because training failed" : "")}: ")
            .Append(Html.Escape(string.Join(", ", left.Take(20).Select(r => r.Item.Name)))).Append(left.Length > 20 ? " …" : ".")
            .Append("</p>\n");
    }

    private static void AppendKind(StringBuilder html, string kind, Row[] rows)
    {
        int[] widths = [.. rows.Select(r => r.Item.Options.Width).Distinct().Order()];
        html.Append("<h2>").Append(Html.Escape(kind)).Append("</h2>\n<section class=\"plots\">");
        foreach (IGrouping<string, Row> place in rows.GroupBy(r => r.Place))
        {
            html.Append(Frontier($"{place.Key}: delta loss", "delta loss, nats", [.. place], widths, r => r.Delta));
            html.Append(Frontier($"{place.Key}: FVU", "FVU", [.. place], widths, r => r.Fvu));
        }

        if (widths.Length > 1)
        {
            html.Append(ByWidth($"{kind}: FVU by width", "FVU", rows, r => r.Fvu));
            html.Append(ByWidth($"{kind}: delta loss by width", "delta loss, nats", rows, r => r.Delta));
        }

        Row[] chosen = Typical(rows);
        html.Append(ByPosition($"{kind}: FVU by position", "FVU", chosen, f => f.FvuByPosition));
        html.Append(ByPosition($"{kind}: delta loss by position", "delta loss, nats", chosen, f => f.DeltaByPosition));
        html.Append(Density($"{kind}: how often features fire", chosen));
        html.Append(Frontier($"{kind}: uniformity of importance", "r_L0", rows, widths,
            r => r.Result?.Fidelity?.Uniformity ?? double.NaN, compares: false));
        html.Append("</section>\n");
    }

    private static string Frontier(string title, string label, Row[] rows, int[] widths, Func<Row, double> value, bool compares = true)
    {
        Row[] shown = [.. rows.Where(r => r.L0 > 0 && double.IsFinite(value(r)))];
        var plot = new SvgPlot(title, "L0 (mean number of active features)", label)
        {
            LogX = true,
            Description = $"{shown.Length} SAEs as points, L0 on a logarithmic axis against {label}; the table below has the numbers.",
        };
        HashSet<Row> beaten = compares ? Beaten(shown, value) : [];
        foreach (Row row in shown)
            plot.Add(new Dot(row.L0, value(row), Array.IndexOf(widths, row.Item.Options.Width), beaten.Contains(row), row.Label, row.Text));
        foreach (Row[] line in shown.GroupBy(r => (r.Place, r.Item.Options.Width, r.Item.Options.Seed))
            .Select(g => g.OrderBy(r => r.L0).ToArray()).Where(g => g.Length > 1))
            plot.Add(new("", [.. line.Select(r => r.L0)], [.. line.Select(value)]), Mark.Thread);
        for (int i = 0; i < widths.Length; i++)
            plot.AddKey(i, FormattableString.Invariant($"width {widths[i]:N0}"));
        return plot.Draw();
    }

    /// <summary>Those for which another of the same site and layer has both less L0 and less of the other.</summary>
    private static HashSet<Row> Beaten(IReadOnlyCollection<Row> rows, Func<Row, double> value) =>
        [.. rows.Where(r => rows.Any(o => o.L0 < r.L0 && value(o) < value(r)))];

    /// <summary>Means over layers and seeds, a line for each sparsity that all widths share.</summary>
    private static string ByWidth(string title, string label, Row[] rows, Func<Row, double> value)
    {
        var plot = new SvgPlot(title, "width (number of features)", label)
        {
            LogX = true,
            Description = $"Means of {label} over layers and seeds by width, a line for each sparsity.",
        };
        foreach (IGrouping<string, Row> line in rows.Where(r => double.IsFinite(value(r))).GroupBy(r => r.Item.Options.K > 0
            ? FormattableString.Invariant($"k {r.Item.Options.K}")
            : r.Item.Options.TargetL0 > 0 ? $"target L0 {Html.Number(r.Item.Options.TargetL0)}"
            : $"λ {Html.Number(r.Item.Options.Sparsity)}{(r.Item.NeedsPilot ? " × pilot" : "")}"))
        {
            (int Width, double Mean)[] points = [.. line.GroupBy(r => r.Item.Options.Width).OrderBy(g => g.Key)
                .Select(g => (g.Key, g.Average(value)))];
            plot.Add(new(line.Key, [.. points.Select(p => (double)p.Width)], [.. points.Select(p => p.Mean)]), Mark.Line);
        }

        return plot.Draw();
    }

    /// <summary>One item of each layer, near the median L0 of its kind and of the least width: what curves are shown of.</summary>
    private static Row[] Typical(Row[] rows)
    {
        Row[] measured = [.. rows.Where(r => r.Result?.Fidelity is not null && r.L0 > 0)];
        if (measured.Length == 0)
            return [];
        double[] sorted = [.. measured.Select(r => r.L0).Order()];
        double median = sorted[sorted.Length / 2];
        return [.. measured.GroupBy(r => r.Place).Select(g => g.OrderBy(r => r.Item.Options.Width)
            .ThenBy(r => Math.Abs(Math.Log(r.L0 / median))).First())];
    }

    private static string NameOf(Row row) => FormattableString.Invariant($"{row.Item.Site}, L0 {row.L0:0}");

    private static string ByPosition(string title, string label, Row[] rows, Func<SuiteFidelity, IReadOnlyList<double?>> values)
    {
        const int Points = 32;
        if (rows.Length == 0)
            return "";
        int length = rows.Max(r => values(r.Result!.Fidelity!).Count), together = Math.Max(1, length / Points);
        var plot = new SvgPlot(title, together == 1 ? "position" : $"position (means of {together})", label)
        {
            Description = $"{label} by position in the sequence, a line for each of {rows.Length} layers.",
        };
        foreach (Row row in rows)
        {
            double?[][] groups = [.. values(row.Result!.Fidelity!).Chunk(together)];
            plot.Add(new(NameOf(row), [.. groups.Select((g, i) => (i * together) + ((g.Length - 1) / 2.0))],
                [.. groups.Select(g => g.Average() ?? double.NaN)]), Mark.Line);
        }

        return plot.Draw();
    }

    private static string Density(string title, Row[] rows)
    {
        var plot = new SvgPlot(title, "log10 of the share of positions at which a feature fires", "number of features")
        {
            Description = $"Histograms of firing frequencies of {rows.Length} SAEs.",
        };
        foreach (Row row in rows)
        {
            SuiteFidelity fidelity = row.Result!.Fidelity!;
            string name = FormattableString.Invariant($"{NameOf(row)} ({fidelity.Never:N0} never)");
            plot.Add(new(name, [.. FiringHistogram.Edges], fidelity.Firing), rows.Length == 1 ? Mark.Bars : Mark.Steps);
        }

        return plot.Draw();
    }

    /// <summary>Whether an item is on its frontier, by delta loss, or by FVU where that was not measured; null where it is not done.</summary>
    private Dictionary<Row, bool> OnFrontier()
    {
        var found = new Dictionary<Row, bool>();
        foreach (Row[] place in _rows.Where(r => r.Result is not null && double.IsFinite(r.L0)).GroupBy(r => r.Place)
            .Select(g => g.ToArray()))
        {
            bool spliced = place.All(r => double.IsFinite(r.Delta));
            HashSet<Row> beaten = Beaten(place, r => spliced ? r.Delta : r.Fvu);
            foreach (Row row in place)
                found[row] = !beaten.Contains(row);
        }

        return found;
    }

    private void AppendTable(StringBuilder html)
    {
        string[] heads = ["SAE", "layer", "width", "λ or k", "target L0", "seed", "L0", "FVU", "delta loss", "KL", "loss recovered", "r_L0",
            "dead", "never fires"];
        Dictionary<Row, bool> frontier = OnFrontier();
        html.Append("<h2>Table</h2>\n<div class=\"scroll\"><table><caption>").Append(Html.Escape(Setting()))
            .Append("</caption><thead><tr>");
        foreach (string head in heads)
            html.Append("<th scope=\"col\">").Append(Html.Escape(head)).Append("</th>");
        html.Append("</tr></thead><tbody>");
        foreach (Row row in _rows)
        {
            SuiteFidelity? fidelity = row.Result?.Fidelity;
            string style = !frontier.TryGetValue(row, out bool best) ? "" : best ? " class=\"best-row\"" : " class=\"beaten-row\"";
            TrainingOptions options = row.Item.Options;
            string sparsity = options.K > 0 ? Html.Number(options.K) : row.IsUnknown ? "–" : Html.Number(row.Sparsity);
            string target = options.TargetL0 > 0 ? Html.Number(options.TargetL0) : "–";
            html.Append(CultureInfo.InvariantCulture, $"<tr{style}><th scope=\"row\">{Html.Escape(row.Place)}</th>")
                .Append(CultureInfo.InvariantCulture, $"<td>{row.Item.Site.Layer}</td><td>{options.Width}</td>")
                .Append(CultureInfo.InvariantCulture, $"<td>{sparsity}</td><td>{target}</td><td>{options.Seed}</td>");
            if (row.Result is null)
            {
                html.Append(CultureInfo.InvariantCulture, $"<td colspan=\"8\">{row.State}</td></tr>");
                continue;
            }

            foreach (double? value in (double?[])[row.L0, row.Fvu, row.Delta, fidelity?.Kl, fidelity?.Recovered, fidelity?.Uniformity])
                html.Append("<td>").Append(Html.Number(value ?? double.NaN)).Append("</td>");
            html.Append("<td>").Append(row.DeadShare).Append("</td><td>").Append(row.NeverShare).Append("</td></tr>");
        }

        html.Append("</tbody></table></div>\n");
    }

    private JsonObject ToJson()
    {
        Dictionary<Row, bool> frontier = OnFrontier();
        return new JsonObject
        {
            ["suite"] = _plan.Id,
            ["run"] = _plan.Run.Id,
            ["model"] = _plan.Run.Model.Name,
            ["setting"] = Setting(),
            ["done"] = _rows.Count(r => r.Result is not null),
            ["items"] = new JsonArray([.. _rows.Select(r => ToJson(r, frontier))]),
        };
    }

    private static JsonObject ToJson(Row row, Dictionary<Row, bool> frontier)
    {
        SuiteFidelity? fidelity = row.Result?.Fidelity;
        TrainingOptions options = row.Item.Options;
        bool counts = options.K > 0;
        return new JsonObject
        {
            ["id"] = row.Item.Id,
            ["name"] = row.Item.Name,
            ["site"] = row.Item.Site.ToString(),
            ["site_out"] = row.Item.SiteOut?.ToString(),
            ["layer"] = row.Item.Site.Layer,
            ["width"] = options.Width,
            ["activation"] = OptionsJson.NameOf(options.Activation),
            ["sparsity"] = counts || row.IsUnknown ? null : row.Sparsity,
            ["target_l0"] = options.TargetL0 > 0 ? options.TargetL0 : null,
            ["k"] = counts ? options.K : null,
            ["seed"] = options.Seed,
            ["state"] = row.State,
            ["steps"] = row.Result?.Steps,
            ["l0"] = row.Result?.L0,
            ["fvu"] = row.Result?.Fvu,
            ["delta_loss"] = fidelity?.DeltaLoss,
            ["delta_low"] = fidelity?.DeltaLow,
            ["delta_high"] = fidelity?.DeltaHigh,
            ["ce_clean"] = fidelity?.CleanLoss,
            ["kl"] = fidelity?.Kl,
            ["loss_recovered"] = fidelity?.Recovered,
            ["r_L0"] = fidelity?.Uniformity,
            ["dead"] = row.Result?.Dead,
            ["never_fires"] = fidelity?.Never,
            ["on_frontier"] = frontier.TryGetValue(row, out bool best) ? best : null,
            ["path"] = row.Result?.Path,
        };
    }

    private string ToCsv()
    {
        Dictionary<Row, bool> frontier = OnFrontier();
        var csv = new StringBuilder(string.Join(',', Columns)).Append('\n');
        foreach (Row row in _rows)
        {
            JsonObject json = ToJson(row, frontier);
            // No name here holds a comma or a quote: they are made of hook points and numbers.
            csv.AppendJoin(',', Columns.Select(c => json[c]?.ToString() ?? "")).Append('\n');
        }

        return csv.ToString();
    }

    private static void WriteFile(string path, byte[] content)
    {
        using AtomicFile file = AtomicFile.Create(path);
        file.Stream.Write(content);
        file.Commit();
    }
}

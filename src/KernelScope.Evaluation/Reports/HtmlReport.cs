using System.Globalization;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Evaluation;

/// <summary>An evaluation as one HTML file that needs nothing else: plots as inline SVG, numbers with confidence intervals, definitions. Light and dark as the reader's system is.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class HtmlReport
{
    private static readonly (string Label, string[] Path)[] Columns =
    [
        ("L0", ["L0"]), ("delta loss", ["splices", "sae/keep_bos", "delta", "default"]), ("FVU", ["fvu"]), ("FVU, median", ["fvu_median"]),
            ("KL", ["splices", "sae/keep_bos", "kl"]),
        ("loss recovered", ["splices", "sae/keep_bos", "loss_recovered", "default"]), ("CE clean", ["ce_clean", "default"]),
            ("CE spliced", ["splices", "sae/keep_bos", "ce", "default"]),
        ("cosine", ["cosine"]), ("alive", ["alive"]), ("uniformity r_L0", ["r_L0"]),
    ];

    /// <summary>Writes the report; the file appears whole or not at all.</summary>
    /// <param name="path">Where.</param>
    /// <param name="result">What.</param>
    /// <param name="model">How the model is named.</param>
    /// <param name="notes">Sentences to show at the top, such as doubts.</param>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Write(string path, EvaluationResult result, string model, IReadOnlyList<string> notes) =>
        Write(path, result, model, notes, [], _ => null);

    /// <summary>The same with where it comes from.</summary>
    /// <param name="path">Where.</param>
    /// <param name="result">What.</param>
    /// <param name="model">How the model is named.</param>
    /// <param name="notes">Sentences to show at the top.</param>
    /// <param name="provenance">Names and values: corpus, seed, version, date.</param>
    /// <param name="pageOf">The page of an SAE on Neuronpedia, <c>gemma-2-2b/20-gemmascope-res-16k</c>, or null.</param>
    internal static void Write(
        string path, EvaluationResult result, string model, IReadOnlyList<string> notes,
        IReadOnlyList<(string Name, string Value)> provenance, Func<string, string?> pageOf)
    {
        using AtomicFile file = AtomicFile.Create(path);
        file.Stream.Write(Encoding.UTF8.GetBytes(Render(result, model, notes, provenance, pageOf)));
        file.Commit();
    }

    /// <summary>The report as text.</summary>
    public static string Render(EvaluationResult result, string model, IReadOnlyList<string> notes) =>
        Render(result, model, notes, [], _ => null);

    private static string Render(
        EvaluationResult result, string model, IReadOnlyList<string> notes, IReadOnlyList<(string Name, string Value)> provenance,
        Func<string, string?> pageOf)
    {
        ArgumentNullException.ThrowIfNull(result);
        ArgumentNullException.ThrowIfNull(notes);
        var html = new StringBuilder();
        string title = $"Sparse autoencoders of {model}";
        html.Append("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
            + "content=\"width=device-width\"><title>").Append(Html.Escape(title))
            .Append("</title><style>").Append(Style).Append("</style></head><body><main>\n<h1>").Append(Html.Escape(title))
            .Append("</h1>\n");
        html.Append(CultureInfo.InvariantCulture,
            $"<p>{result.Tokens.Count:N0} sequences of up to {result.Tokens.Length:N0} tokens; {result.Counts["act_mask"]:N0} "
                + $"positions count. ");
        html.Append(CultureInfo.InvariantCulture,
            $"Small print under a number: {100 * result.Bootstrap.Level:0.#} % interval, {result.Bootstrap.Resamples:N0} resamples of "
                + $"sequences. Losses and KL are in nats a token.</p>\n");
        foreach (string note in notes)
            html.Append("<p class=\"note\">").Append(Html.Escape(note)).Append("</p>\n");
        AppendSummary(html, result);
        html.Append("<section class=\"plots\">");
        AppendPlots(html, result);
        html.Append("</section>\n");
        foreach (SaeResult sae in result.Saes)
        {
            AppendFeatures(html, sae, pageOf(sae.Name));
            AppendSplices(html, sae);
        }

        if (provenance.Count > 0)
            AppendList(html, "Where this comes from", provenance);
        AppendDefinitions(html);
        return html.Append("</main></body></html>\n").ToString();
    }

    private static void AppendSummary(StringBuilder html, EvaluationResult result)
    {
        html.Append("<div class=\"scroll summary\"><table><thead><tr><th>SAE</th><th>site</th><th>features</th>");
        foreach ((string label, _) in Columns)
            html.Append("<th>").Append(label).Append("</th>");
        html.Append("</tr></thead><tbody>");
        foreach (SaeResult sae in result.Saes)
        {
            string site = sae.Site == sae.SiteOut ? sae.Site.ToString() : $"{sae.Site} → {sae.SiteOut}";
            html.Append(CultureInfo.InvariantCulture,
                $"<tr><th title=\"{Html.Escape(sae.Name)}\">{Html.Escape(Html.ShortName(sae.Name))}</th>"
                    + $"<td>{site}</td><td>{sae.FeatureCount:N0}</td>");
            foreach ((_, string[] path) in Columns)
                AppendCell(html, sae, path);
            html.Append("</tr>");
        }

        html.Append("</tbody></table></div>\n");
    }

    private static void AppendCell(StringBuilder html, SaeResult sae, string[] path)
    {
        // Only what needs gradients may be missing.
        html.Append("<td>").Append(Html.Number(sae.Metrics.Has(path) ? sae.Metrics[path] : double.NaN));
        if (sae.ConfidenceLow.Has(path) && double.IsFinite(sae.ConfidenceLow[path]))
            html.Append("<small>").Append(Html.Number(sae.ConfidenceLow[path])).Append(" to ").Append(Html.Number(sae.ConfidenceHigh[path]))
                .Append("</small>");
        html.Append("</td>");
    }

    private static void AppendPlots(StringBuilder html, EvaluationResult result)
    {
        if (result.Saes.Count > 1)
        {
            html.Append(Frontier(result, "Sparsity and fidelity: delta loss", "delta loss, nats",
                ["splices", "sae/keep_bos", "delta", "default"]));
            html.Append(Frontier(result, "Sparsity and reconstruction: FVU", "FVU", ["fvu"]));
        }

        html.Append(Density(result));
        html.Append(ByPosition(result, "FVU by position", "FVU", s => s.ByPositionFvu));
        html.Append(ByPosition(result, "Active features by position", "L0", s => s.ByPositionL0));
        html.Append(ByPosition(result, "Delta loss by position", "delta loss, nats", s => s.ByPositionDelta));
        html.Append(ByPosition(result, "KL by position", "KL, nats", s => s.ByPositionKl));
    }

    private static string Density(EvaluationResult result)
    {
        var plot = new SvgPlot("How often features fire", "log10 of the share of positions at which a feature fires", "number of features");
        FiringHistogram[] histograms = [.. result.Saes.Select(s => new FiringHistogram(s.FiringFrequency))];
        // Below one firing in all positions there is nothing to see.
        int first = histograms.Min(h => Array.FindIndex(h.Counts, c => c > 0) is int at and >= 0 ? at : h.Counts.Length - 1);
        double[] edges = [.. FiringHistogram.Edges.Skip(first)];
        for (int s = 0; s < histograms.Length; s++)
        {
            string name =
                string.Create(CultureInfo.InvariantCulture, $"{Html.ShortName(result.Saes[s].Name)} ({histograms[s].Never:N0} never)");
            plot.Add(new(name, edges, [.. histograms[s].Counts.Skip(first).Select(c => (double)c)]), histograms.Length == 1 ? Mark.Bars
                : Mark.Steps);
        }

        return plot.Draw();
    }

    /// <summary>The SAEs by sparsity; those of one site and width, which differ in sparsity alone, are joined.</summary>
    private static string Frontier(EvaluationResult result, string title, string label, string[] path)
    {
        var plot = new SvgPlot(title, "L0 (mean number of active features)", label) { LogX = true };
        SaeResult[] saes = [.. result.Saes.Where(s => s.L0 > 0)];
        foreach (SaeResult sae in saes)
            plot.Add(new(Html.ShortName(sae.Name), [sae.L0], [sae.Metrics[path]]), Mark.Points, [sae.ConfidenceLow[path]],
                [sae.ConfidenceHigh[path]]);
        foreach (SaeResult[] family in saes.GroupBy(s => (s.Site, s.SiteOut, s.FeatureCount)).Select(g => g.OrderBy(s => s.L0).ToArray())
            .Where(g => g.Length > 1))
            plot.Add(new("", [.. family.Select(s => s.L0)], [.. family.Select(s => s.Metrics[path])]), Mark.Thread);
        return plot.Draw();
    }

    /// <summary>A curve over positions. Few sequences make it jagged, so that neighbouring positions are then averaged.</summary>
    private static string ByPosition(EvaluationResult result, string title, string label, Func<SaeResult, double[]> values)
    {
        const int TokensAPoint = 64, LeastPoints = 16;
        int length = result.Tokens.Length,
            together = Math.Max(1, Math.Min((TokensAPoint + result.Tokens.Count - 1) / result.Tokens.Count, length / LeastPoints));
        var plot = new SvgPlot(title, together == 1 ? "position" : $"position (means of {together})", label);
        foreach (SaeResult sae in result.Saes)
        {
            // What is averaged is the curve: a position counts once, however many sequences reach it.
            double[][] groups = [.. values(sae).Chunk(together)];
            double[] at = [.. groups.Select((group, i) => (i * together) + ((group.Length - 1) / 2.0))];
            plot.Add(new(Html.ShortName(sae.Name), at,
                [.. groups.Select(g => g.Any(double.IsFinite) ? g.Where(double.IsFinite).Average() : double.NaN)]), Mark.Line);
        }

        return plot.Draw();
    }

    private static void AppendSplices(StringBuilder html, SaeResult sae)
    {
        html.Append("<details><summary>").Append(Html.Escape(sae.Name))
            .Append(": every splice and mask</summary><div class=\"scroll\"><table><thead><tr><th>splice</th>");
        string[] masks = [.. Enumerable.Range(0, Total.Masks).Select(m => TokenSet.NameOf((LossMask)m))];
        foreach (string mask in masks)
            html.Append("<th>delta, ").Append(mask).Append("</th>");
        html.Append("<th>KL</th></tr></thead><tbody>");
        foreach (SpliceRun run in SpliceRun.Every)
        {
            html.Append("<tr><th>").Append(run.Name).Append("</th>");
            foreach (string mask in masks)
                AppendCell(html, sae, ["splices", run.Name, "delta", mask]);
            AppendCell(html, sae, ["splices", run.Name, "kl"]);
            html.Append("</tr>");
        }

        html.Append("</tbody></table></div></details>\n");
    }

    /// <summary>The features that fire most often.</summary>
    private static void AppendFeatures(StringBuilder html, SaeResult sae, string? page)
    {
        const int Listed = 20;
        html.Append("<details><summary>").Append(Html.Escape(sae.Name)).Append(": features that fire most often</summary><p>");
        int[] most = LargestValues.Of([.. sae.FiringFrequency.Select(f => (float)f)], Listed);
        for (int i = 0; i < most.Length; i++)
        {
            string share = string.Create(CultureInfo.InvariantCulture, $"{sae.FiringFrequency[most[i]] * 100:0.##} %");
            string name = string.Create(CultureInfo.InvariantCulture, $"{most[i]}");
            string link = $"<a href=\"https://www.neuronpedia.org/{Html.Escape(page ?? "")}/{name}\" rel=\"noreferrer\">{name}</a>";
            html.Append(i == 0 ? "" : " · ").Append(page is null ? name : link).Append(" (").Append(share).Append(')');
        }

        html.Append("</p></details>\n");
    }

    private static void AppendDefinitions(StringBuilder html) => AppendList(html, "Definitions", Definitions.All);

    private static void AppendList(StringBuilder html, string title, IEnumerable<(string Name, string Text)> entries)
    {
        html.Append("<h2>").Append(title).Append("</h2><dl>");
        foreach ((string name, string text) in entries)
            html.Append("<dt>").Append(Html.Escape(name)).Append("</dt><dd>").Append(Html.Escape(text)).Append("</dd>");
        html.Append("</dl>\n");
    }

    internal const string Style =
        """
        :root{color-scheme:light dark;--bg:#fcfcfa;--fg:#1d2226;--dim:#5c666e;--line:#dfe2e0;--card:#fff;--note:#fff3d6;
        --c0:#2166ac;--c1:#d6604d;--c2:#1b7837;--c3:#9970ab;--c4:#b8860b;--c5:#117a8b;--c6:#a6446f;--c7:#5d5d5d}
        @media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e4e7e8;--dim:#98a2a9;--line:#2c3237;--card:#1b1f23;--note:#3b3113;
        --c0:#6baed6;--c1:#f4876f;--c2:#74c476;--c3:#c2a5cf;--c4:#e6b84c;--c5:#5bc8d8;--c6:#e58fb8;--c7:#b0b0b0}}
        body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
        main{max-width:1240px;margin:0 auto;padding:28px 20px 60px}
        h1{font-size:24px;font-weight:650;margin:0 0 4px}h2{font-size:18px;margin:34px 0 8px}
        p{color:var(--dim);margin:4px 0 16px}.note{background:var(--note);color:var(--fg);padding:9px 13px;border-radius:7px}
        .scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:9px}
        table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
        th,td{padding:7px 9px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);vertical-align:top}
        tbody tr:last-child>*{border-bottom:0}th{font-weight:600}th:first-child,.summary :is(th,td):nth-child(2){text-align:left}
        thead th{color:var(--dim);font-size:12.5px;white-space:normal;vertical-align:bottom}small{display:block;color:var(--dim);font-size:11.5px}
        .plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:16px;margin:22px 0}
        figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:9px;padding:12px 14px}
        figcaption{font-weight:600;margin-bottom:4px}svg{width:100%;height:auto;display:block}
        svg text{fill:var(--dim);font-size:11.5px}svg .label{font-size:12px}svg .mark{fill:var(--fg)}.grid{stroke:var(--line)}
        .stroke{fill:none;stroke-width:1.8;stroke-linejoin:round}.thread{stroke:var(--dim);fill:none;stroke-width:1.2;stroke-dasharray:4 4}
        .c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}.c7{color:var(--c7)}
        .stroke{stroke:currentColor}.fill{fill:currentColor}.beaten{color:var(--dim);opacity:.55}svg .dim{fill:var(--dim)}svg .best{font-weight:650}
        .legend{margin:6px 0 0;font-size:12.5px;display:flex;flex-wrap:wrap;gap:4px 16px}.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;background:currentColor;margin-right:6px}
        details{margin:12px 0}summary{cursor:pointer;font-weight:600;padding:4px 0}
        dl{display:grid;grid-template-columns:minmax(130px,auto) 1fr;gap:6px 18px}dt{font-weight:600}dd{margin:0;color:var(--dim);overflow-wrap:anywhere}
        @media(max-width:640px){dl{grid-template-columns:1fr;gap:0 0}dd{margin-bottom:8px}}
        """;
}

using System.Globalization;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Evaluation;

/// <summary>
/// Features as one HTML file that needs nothing else: labels, density, histograms, logits, examples with shaded tokens, neighbours. Light
/// and dark as the reader's system is; no script.
/// </summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class FeaturePages
{
    private const int Around = 16, MostSources = 3;

    /// <summary>Writes the file; it appears whole or not at all.</summary>
    /// <param name="path">Where.</param>
    /// <param name="source">What they share.</param>
    /// <param name="pages">The features.</param>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Write(string path, FeaturePageSource source, IReadOnlyList<FeaturePage> pages)
    {
        using AtomicFile file = AtomicFile.Create(path);
        file.Stream.Write(Encoding.UTF8.GetBytes(Render(source, pages)));
        file.Commit();
    }

    /// <summary>The HTML file as text.</summary>
    /// <param name="source">What they share.</param>
    /// <param name="pages">The features.</param>
    /// <returns>HTML.</returns>
    public static string Render(FeaturePageSource source, IReadOnlyList<FeaturePage> pages)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(pages);
        string title = pages.Count == 1 ? Invariant($"Feature {pages[0].Statistics.Feature} of {Html.ShortName(source.Sae)}")
            : $"Features of {Html.ShortName(source.Sae)}";
        var html = new StringBuilder();
        html.Append("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" " +
            "content=\"width=device-width\">")
            .Append("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"><title>")
            .Append(Html.Escape(title))
            .Append("</title><style>").Append(HtmlReport.Style).Append(Style).Append("</style></head><body><main>\n<h1>")
            .Append(Html.Escape(title)).Append("</h1>\n");
        AppendSource(html, source);
        if (pages.Count > 1)
            AppendIndex(html, pages);
        foreach (FeaturePage page in pages)
            AppendPage(html, source, page, isAlone: pages.Count == 1);
        return html.Append("</main></body></html>\n").ToString();
    }

    private static void AppendSource(StringBuilder html, FeaturePageSource source)
    {
        string site = source.SiteOut is null || source.SiteOut == source.Site ? source.Site : $"{source.Site} → {source.SiteOut}";
        html.Append(CultureInfo.InvariantCulture, $"<p>{Html.Escape(source.Model)} · {Html.Escape(source.Sae)} · {Html.Escape(site)} · " +
            $"corpus {Html.Escape(source.Corpus)}: {source.Tokens.Count:N0} windows of up to {source.Tokens.Length:N0} tokens, ")
            .Append(CultureInfo.InvariantCulture, $"{source.Tokens.TokenCount:N0} in all; " +
            $"ids {string.Join(", ", source.Tokens.SpecialIds)} do not count. Seed of the examples: {source.Seed}.</p>\n");
    }

    private static void AppendIndex(StringBuilder html, IReadOnlyList<FeaturePage> pages)
    {
        html.Append("<div class=\"scroll\"><table class=\"index\"><thead><tr><th>feature</th><th class=\"text\">label</th><th>fires " +
            "on</th><th>largest</th></tr></thead><tbody>");
        foreach (FeaturePage page in pages)
        {
            FeatureStatistics s = page.Statistics;
            string label = Html.Escape(page.Labels is [string first, ..] ? first : "");
            html.Append(CultureInfo.InvariantCulture, $"<tr><th><a href=\"#f{s.Feature}\">{s.Feature}</a></th>");
            html.Append(CultureInfo.InvariantCulture, $"<td class=\"text\">{label}</td><td>{Percent(s.Density)}</td>");
            html.Append(CultureInfo.InvariantCulture, $"<td>{Html.Number(s.Max)}</td></tr>");
        }

        html.Append("</tbody></table></div>\n");
    }

    private static void AppendPage(StringBuilder html, FeaturePageSource source, FeaturePage page, bool isAlone)
    {
        FeatureStatistics s = page.Statistics;
        html.Append(CultureInfo.InvariantCulture, $"<section class=\"feature\" id=\"f{s.Feature}\">");
        if (!isAlone)
            html.Append(CultureInfo.InvariantCulture, $"<h2>Feature {s.Feature}</h2>");
        foreach (string label in page.Labels)
            html.Append("<p class=\"label\">").Append(Html.Escape(label)).Append("</p>");
        if (page.Labels.Count > 0)
            html.Append("<p><small>Labels are guesses.</small></p>");
        if (page.Link is string link)
            html.Append(CultureInfo.InvariantCulture, $"<p><a href=\"https://www.neuronpedia.org/{Html.Escape(link)}\" " +
                $"rel=\"noreferrer\">{Html.Escape(link)} on Neuronpedia</a></p>");
        AppendFacts(html, s);
        html.Append("<div class=\"plots\">");
        AppendHistogram(html, s.Activations, "Activations where it fires", "activation");
        if (page.Logits is not null)
            AppendHistogram(html, page.Logits.Histogram, "Logits of its direction", "logit");
        html.Append("</div><div class=\"lists\">");
        if (page.Logits is FeatureLogits logits)
        {
            AppendTokens(html, source, "Promotes", logits.Top);
            AppendTokens(html, source, "Suppresses", logits.Bottom);
        }

        AppendFiringTokens(html, source, s);
        AppendRelated(html, "Nearest directions", "cosine", page.Nearest);
        AppendRelated(html, "Fires together with", "common rows", s.CoFiring);
        html.Append("</div>");
        AppendExamples(html, source, "Your own text", page.OwnTexts, s.Max);
        AppendExamples(html, source, "Strongest", s.Top, s.Max);
        foreach (ExampleGroup group in s.Groups.OrderByDescending(g => g.To))
        {
            string all = s.Binning == ExampleBinning.Quantile ? "those where it fires" : "all positions";
            string title = $"Activations {Html.Number(group.From)} to {Html.Number(group.To)}: {Percent(group.Contains)} of {all}";
            AppendExamples(html, source, title, group.Examples, s.Max);
        }

        html.Append("</section>\n");
    }

    private static void AppendFacts(StringBuilder html, FeatureStatistics s)
    {
        if (s.Firing == 0)
        {
            html.Append(CultureInfo.InvariantCulture, $"<p class=\"note\">It did not fire in {s.Counted:N0} positions.</p>");
            return;
        }

        string quantiles = string.Join(", ", s.Quantiles.OrderBy(q => q.Key)
            .Select(q => Invariant($"{q.Key * 100:0.#} %: {Html.Number(q.Value)}")));
        html.Append(CultureInfo.InvariantCulture, $"<p>Fires on {s.Firing:N0} of {s.Counted:N0} positions ({Percent(s.Density)}), " +
            $"on {s.DistinctTokens:N0} different tokens; mean {Html.Number(s.Mean)}; {quantiles}.</p>");
        if (s.Density > 0.1)
            html.Append("<p class=\"note\">It fires on more than a tenth of all positions: a dense feature seldom has a simple " +
                "meaning.</p>");
    }

    private static void AppendHistogram(StringBuilder html, FeatureHistogram histogram, string title, string label)
    {
        if (histogram.Centres.Count == 0)
            return;
        double half = (histogram.Centres[1] - histogram.Centres[0]) / 2;
        double[] edges = [histogram.Centres[0] - half, .. histogram.Centres.Select(c => c + half)];
        var plot = new SvgPlot(title, label, "number");
        plot.Add(new(title, edges, [.. histogram.Counts.Select(c => (double)c)]), Mark.Bars);
        html.Append(half > 0 ? plot.Draw() : "");
    }

    private static void AppendTokens(StringBuilder html, FeaturePageSource source, string title, IReadOnlyList<PromotedToken> tokens)
    {
        html.Append("<div><h3>").Append(title).Append("</h3><table>");
        foreach (PromotedToken token in tokens)
            html.Append("<tr><td class=\"text\"><code>").Append(Html.Escape(source.Piece(token.Id))).Append("</code></td><td>")
                .Append(Html.Number(token.Value)).Append("</td></tr>");
        html.Append("</table></div>");
    }

    private static void AppendFiringTokens(StringBuilder html, FeaturePageSource source, FeatureStatistics s)
    {
        if (s.TopTokens.Count == 0)
            return;
        html.Append("<div><h3>Fires most often on</h3><table>");
        foreach (FiringToken token in s.TopTokens)
            html.Append(CultureInfo.InvariantCulture,
                $"<tr><td class=\"text\"><code>{Html.Escape(source.Piece(token.Id))}</code></td><td>{token.Count:N0} " +
                $"times</td><td>mean {Html.Number(token.Mean)}</td></tr>");
        html.Append("</table></div>");
    }

    private static void AppendRelated(StringBuilder html, string title, string unit, IReadOnlyList<RelatedFeature> features)
    {
        if (features.Count == 0)
            return;
        html.Append("<div><h3>").Append(title).Append("</h3><table>");
        foreach (RelatedFeature feature in features)
        {
            string count = feature.Count > 0 ? Invariant($" ({feature.Count:N0})") : "";
            html.Append(CultureInfo.InvariantCulture,
                $"<tr><td class=\"name\">{feature.Feature}</td><td>{unit} {Html.Number(feature.Value)}{count}</td></tr>");
        }

        html.Append("</table></div>");
    }

    private static void AppendExamples(StringBuilder html, FeaturePageSource source, string title,
        IReadOnlyList<FeatureExample> examples, float max)
    {
        if (examples.Count == 0)
            return;
        html.Append("<h3>").Append(Html.Escape(title)).Append("</h3><ol class=\"examples\">");
        foreach (FeatureExample example in examples)
        {
            int peak = example.Position - example.FirstPosition;
            int first = Math.Max(0, peak - Around), end = Math.Min(example.Tokens.Count, peak + Around + 1);
            html.Append("<li><span class=\"value\">").Append(Html.Number(example.Activation)).Append("</span> ");
            AppendWindow(html, source, example, first, end, max);
            if (first > 0 || end < example.Tokens.Count)
            {
                html.Append(CultureInfo.InvariantCulture, $"<details><summary>all {example.Tokens.Count} tokens</summary>");
                AppendWindow(html, source, example, 0, example.Tokens.Count, max);
                html.Append("</details>");
            }

            if (example.Sources is DirectAttribution from)
                AppendSources(html, source, example, from);
            html.Append("</li>");
        }

        html.Append("</ol>");
    }

    /// <summary>The tokens that gave most to the strongest, the earlier first among equals.</summary>
    private static void AppendSources(StringBuilder html, FeaturePageSource source, FeatureExample example, DirectAttribution from)
    {
        string tokens = string.Join(", ", Enumerable.Range(0, from.Values.Count).Where(s => from.Values[s] > 0)
            .OrderByDescending(s => from.Values[s]).Take(MostSources)
            .Select(s => $"<code>{Html.Escape(source.Piece(example.Tokens[example.Skipped + s]))}</code> {Html.Number(from.Values[s])}"));
        if (tokens.Length > 0)
            html.Append("<br><small>from ").Append(tokens).Append("</small>");
    }

    private static void AppendWindow(StringBuilder html, FeaturePageSource source, FeatureExample example, int first, int end, float max)
    {
        html.Append("<span class=\"tokens\">");
        for (int t = first; t < end; t++)
        {
            string text = Html.Escape(source.Text(example.Tokens[t])).Replace("\n", "↵", StringComparison.Ordinal);
            float value = example.Values[t];
            if (value > 0)
                html.Append(CultureInfo.InvariantCulture,
                    $"<span{(t == example.Position - example.FirstPosition ? " class=\"peak\"" : "")} " +
                    $"style=\"--a:{Math.Min(1, max > 0 ? value / max : 0):0.##}\" title=\"{Html.Number(value)}\">{text}</span>");
            else
                html.Append(text);
        }

        html.Append("</span>");
    }

    private static string Percent(double share) => Invariant($"{share * 100:0.####} %");

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);

    private const string Style =
        """

        .feature{margin:26px 0 44px;border-top:1px solid var(--line);padding-top:4px}h3{font-size:15px;margin:20px 0 6px}
        .label{color:var(--fg);font-size:17px;margin:6px 0}.lists{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(210px,100%),1fr));gap:0 22px}
        .text{text-align:left;white-space:normal;overflow-wrap:anywhere}.index th.text{text-align:left}.index td.text{width:60%}.name{text-align:left}code{font-size:13.5px}
        .examples{list-style:none;padding:0;margin:0}.examples li{padding:7px 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
        .value{display:inline-block;min-width:3.4em;color:var(--dim);font-variant-numeric:tabular-nums}.tokens{white-space:pre-wrap}
        .tokens span{background:color-mix(in srgb,#e08a00 calc(var(--a)*78%),transparent);border-radius:3px}
        .peak{outline:1.5px solid currentColor}details summary{font-weight:400;color:var(--dim);font-size:13px}details{margin:2px 0 0}a{color:var(--c0)}
        """;
}

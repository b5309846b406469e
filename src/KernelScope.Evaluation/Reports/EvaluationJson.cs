using System.Text.Json;

namespace KernelScope.Evaluation;

/// <summary>The result of an evaluation as JSON.</summary>
/// <remarks>
/// One SAE: <c>{model, sae, site, site_out, special_ids, sequences, length, counts, definitions, metrics, confidence, firing_frequency_histogram}</c>. Several: what belongs to each
/// (<c>sae, site, site_out, metrics, confidence, firing_frequency_histogram</c>) is in a list <c>saes</c>. A number that is not defined is null.
/// Any number of threads may call it.
/// </remarks>
public static class EvaluationJson
{
    /// <summary>Writes the document.</summary>
    /// <param name="json">Where.</param>
    /// <param name="result">What.</param>
    /// <param name="model">How the model is named.</param>
    public static void Write(Utf8JsonWriter json, EvaluationResult result, string model) => Write(json, result, model, []);

    /// <summary>The same with where the rows come from.</summary>
    internal static void Write(Utf8JsonWriter json, EvaluationResult result, string model,
        IReadOnlyList<(string Name, string Value)> source)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(result);
        json.WriteStartObject();
        json.WriteString("model", model);
        foreach ((string name, string value) in source)
            json.WriteString(name, value);
        if (result.Saes.Count == 1)
            WriteName(json, result.Saes[0]);
        WriteSet(json, result.Tokens, result.Counts);
        Definitions.Write(json);
        if (result.Saes.Count == 1)
        {
            WriteNumbers(json, result.Saes[0], result.Bootstrap);
        }
        else
        {
            json.WriteStartArray("saes");
            foreach (SaeResult sae in result.Saes)
            {
                json.WriteStartObject();
                WriteName(json, sae);
                WriteNumbers(json, sae, result.Bootstrap);
                json.WriteEndObject();
            }

            json.WriteEndArray();
        }

        json.WriteEndObject();
    }

    private static void WriteName(Utf8JsonWriter json, SaeResult sae)
    {
        json.WriteString("sae", sae.Name);
        json.WriteString("site", sae.Site.ToString());
        json.WriteString("site_out", sae.SiteOut == sae.Site ? null : sae.SiteOut.ToString());
    }

    internal static void WriteSet(Utf8JsonWriter json, TokenSet tokens, IReadOnlyDictionary<string, long> counts)
    {
        json.WriteStartArray("special_ids");
        foreach (int id in tokens.SpecialIds)
            json.WriteNumberValue(id);
        json.WriteEndArray();
        json.WriteNumber("sequences", tokens.Count);
        json.WriteNumber("length", tokens.Length);
        json.WriteStartObject("counts");
        foreach ((string name, long count) in counts)
            json.WriteNumber(name, count);
        json.WriteEndObject();
    }

    private static void WriteNumbers(Utf8JsonWriter json, SaeResult sae, Bootstrap bootstrap)
    {
        json.WriteStartObject("metrics");
        WriteTree(json, sae.Metrics.Paths, 0, sae.Metrics.Paths.Count, 0, i => WriteNumber(json, sae.Metrics.Values[i]));
        json.WriteEndObject();

        json.WriteStartObject("confidence");
        json.WriteString("method", "bootstrap over sequences, percentiles");
        json.WriteNumber("level", bootstrap.Level);
        json.WriteNumber("resamples", bootstrap.Resamples);
        json.WriteNumber("seed", bootstrap.Seed);
        json.WriteStartObject("intervals");
        WriteTree(json, sae.ConfidenceLow.Paths, 0, sae.ConfidenceLow.Paths.Count, 0, i =>
        {
            json.WriteStartArray();
            WriteNumber(json, sae.ConfidenceLow.Values[i]);
            WriteNumber(json, sae.ConfidenceHigh.Values[i]);
            json.WriteEndArray();
        });
        json.WriteEndObject();
        json.WriteEndObject();

        var histogram = new FiringHistogram(sae.FiringFrequency);
        json.WriteStartObject("firing_frequency_histogram");
        json.WriteStartArray("log10_edges");
        foreach (double edge in FiringHistogram.Edges)
            json.WriteNumberValue(edge);
        json.WriteEndArray();
        json.WriteStartArray("counts");
        foreach (long count in histogram.Counts)
            json.WriteNumberValue(count);
        json.WriteEndArray();
        json.WriteNumber("never", histogram.Never);
        json.WriteEndObject();
    }

    /// <summary>Writes paths that share their first <paramref name="depth"/> names; equal names are next to each other.</summary>
    private static void WriteTree(Utf8JsonWriter json, IReadOnlyList<string[]> paths, int from, int to, int depth, Action<int> value)
    {
        for (int i = from; i < to;)
        {
            string name = paths[i][depth];
            json.WritePropertyName(name);
            if (paths[i].Length == depth + 1)
            {
                value(i++);
                continue;
            }

            int end = i;
            while (end < to && paths[end].Length > depth + 1 && paths[end][depth] == name)
                end++;
            json.WriteStartObject();
            WriteTree(json, paths, i, end, depth + 1, value);
            json.WriteEndObject();
            i = end;
        }
    }

    internal static void WriteNumber(Utf8JsonWriter json, string name, double value)
    {
        json.WritePropertyName(name);
        WriteNumber(json, value);
    }

    internal static void WriteNumber(Utf8JsonWriter json, double value)
    {
        if (double.IsFinite(value))
            json.WriteNumberValue(value);
        else
            json.WriteNullValue();
    }
}

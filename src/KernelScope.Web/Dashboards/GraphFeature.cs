using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Web.Endpoints;

namespace KernelScope.Web.Dashboards;

/// <summary>
/// A feature as viewers of attribution graphs read it: one JSON file each, named by the Cantor pairing of layer and feature,
/// (l + f)(l + f + 1) / 2 + f, as circuit-tracer's.
/// </summary>
internal static class GraphFeature
{
    private const char WordMark = '▁';

    /// <summary>The name of its file.</summary>
    public static string NameOf(int layer, int feature)
    {
        long sum = (long)layer + feature;
        return string.Create(CultureInfo.InvariantCulture, $"{(sum * (sum + 1) / 2) + feature}.json");
    }

    /// <summary>Its file: tokens as texts, examples by group, the strongest first.</summary>
    public static byte[] Bytes(FeatureRow row)
    {
        var groups = new JsonArray();
        foreach (IGrouping<double?, ActivationRow> group in row.Activations.GroupBy(a => a.BinContains < 0 ? null : a.BinMax))
        {
            string name = group.Key is null ? "Top activations"
                : string.Create(CultureInfo.InvariantCulture, $"Activations up to {group.Key:0.###}");
            var node = new JsonObject { ["quantile_name"] = name, ["examples"] = new JsonArray([.. group.Select(Example)]) };
            if (group.Key is null)
                groups.Insert(0, node);
            else
                groups.Add((JsonNode)node);
        }

        double half = row.FreqHistValues.Count > 1 ? (row.FreqHistValues[1] - row.FreqHistValues[0]) / 2 : 0;
        return Encoding.UTF8.GetBytes(new JsonObject
        {
            ["transcoder_id"] = row.Source,
            ["index"] = int.Parse(row.Index, CultureInfo.InvariantCulture),
            ["examples_quantiles"] = groups,
            ["top_logits"] = Texts(row.PosStr),
            ["bottom_logits"] = Texts(row.NegStr),
            ["act_min"] = row.FreqHistValues.Count > 0 ? row.FreqHistValues[0] - half : 0,
            ["act_max"] = row.MaxActApprox ?? 0,
            ["quantile_values"] = new JsonArray([.. row.Kernelscope!.Quantiles.Select(q => (JsonNode?)q.Value)]),
            ["histogram"] = new JsonArray([.. row.FreqHistHeights.Select(h => (JsonNode?)h)]),
            ["activation_frequency"] = row.FracNonzero ?? 0,
        }.ToJsonString());
    }

    private static JsonNode Example(ActivationRow example) => new JsonObject
    {
        ["tokens_acts_list"] = new JsonArray([.. example.Values.Select(v => (JsonNode?)v)]),
        ["train_token_ind"] = example.QualifyingTokenIndex,
        ["is_repeated_datapoint"] = false,
        ["tokens"] = Texts(example.Tokens),
    };

    private static JsonArray Texts(IEnumerable<string> pieces) => new([.. pieces.Select(p => (JsonNode?)p.Replace(WordMark, ' '))]);
}

using System.Text.Json;
using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Tests.Attribution;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Evaluation;

/// <summary>
/// Every number under "metrics" and every array of fixtures/sae/evaluation against the float64 evaluation by transformers, and SAELens' own evaluation functions, within the tolerances of fixtures/README.md.
/// </summary>
public sealed class EvaluationGoldenTests
{
    // Edits have their own tests; the rest says how the reference's own float32 run differs.
    private static readonly HashSet<string> NotMeans =
        ["edits", "generation", "float32_noise", "sae_plus_error_max_logit_difference", "source"];

    public static TheoryData<string, string> Cases()
    {
        var data = new TheoryData<string, string>();
        foreach (string device in TestDevices.All)
        {
            foreach (string name in EvaluationCase.Names)
                data.Add(device, name);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Every_metric_and_array_equals_the_float64_reference(string deviceName, string name)
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase(deviceName, name);
        string path = folder.At("arrays.npz");
        EvaluationResult result = evaluation.Run(new() { ArraysPath = path });
        using var expected = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(EvaluationCase.Folder(name), "expected.json")));
        JsonElement root = expected.RootElement;

        Assert.Equal(root.GetProperty("special_ids").EnumerateArray().Select(e => e.GetInt32()), result.Tokens.SpecialIds);
        Assert.Equal(root.GetProperty("counts").EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetInt64()), result.Counts);
        int compared = CheckMetrics(root.GetProperty("metrics"), root.GetProperty("metrics"), result.Saes[0].Metrics, []);
        Assert.Equal(result.Saes[0].Metrics.Paths.Count - 1, compared);
        Assert.InRange(result.Saes[0].Metrics["sae_plus_error_max_logit_difference"], 0, 5e-5);
        CheckArrays(Path.Combine(EvaluationCase.Folder(name), "expected.npz"), path);
        CheckUniformity(evaluation, Path.Combine(EvaluationCase.Folder(name), "expected.npz"), path);
    }

    private static int CheckMetrics(JsonElement metrics, JsonElement expected, MetricTable actual, string[] prefix)
    {
        int compared = 0;
        foreach (JsonProperty property in expected.EnumerateObject())
        {
            if (NotMeans.Contains(property.Name))
                continue;
            string[] path = [.. prefix, property.Name];
            if (property.Value.ValueKind == JsonValueKind.Object)
            {
                compared += CheckMetrics(metrics, property.Value, actual, path);
                continue;
            }

            double wanted = property.Value.GetDouble(), error = Math.Abs(actual[path] - wanted);
            Assert.True(error <= Tolerance(path, wanted) * Magnification(metrics, path, wanted),
                $"{string.Join('.', path)}: {actual[path]:r} instead of {wanted:r}");
            compared++;
        }

        return compared;
    }

    /// <summary>CE and deltas 2e-6 nats, KL 1e-6, FVU and cosine 1e-6; counts exact; sums of activations 1e-6 of their size; quotients of losses as their parts.</summary>
    private static double Tolerance(string[] path, double value) => path[^1] switch
    {
        "L0" or "L0_median" or "L0_all_but_pad" or "alive" or "r_L0_skipped" or "r_L0_summed_skipped" => 1e-12,
        "r_L0" or "r_L0_summed" => 1e-5,
        "l0" => 1e-6, // SAELens sums it in float32.
        "mse" or "mse_per_element" or "l1" or "l2_norm_in" or "l2_norm_out" or "l2_ratio" or "relative_reconstruction_bias" =>
            1e-6 * Math.Abs(value),
        "fvu" or "fvu_median" or "fvu_all_but_pad" or "cosine" or "cossim" or "explained_variance" or "explained_variance_legacy" => 1e-6,
        "kl" or "kl_ce_default" or "kl_div_with_sae" or "kl_div_with_ablation" or "kl_div_score" => 1e-6,
        _ => 2e-6,
    };

    /// <summary>(z − s)/(z − c) moves by about (1 + |value|)/|z − c| times what the losses move by; on attention sites z − c is a few thousandths of a nat.</summary>
    private static double Magnification(JsonElement metrics, string[] path, double value)
    {
        if (path.Length < 2 || path[^2..] is not [("loss_recovered" or "loss_recovered_mean"), _])
            return 1;
        string baseline = (path[^2] == "loss_recovered" ? "zero/" : "mean/") + path[1].Split('/')[1];
        double margin = metrics.GetProperty("splices").GetProperty(baseline).GetProperty("delta").GetProperty(path[^1]).GetDouble();
        return Math.Max(1, (1 + Math.Abs(value)) / Math.Abs(margin));
    }

    private static void CheckArrays(string expectedPath, string actualPath)
    {
        using var expected = new NpzArrays(expectedPath);
        using var actual = new NpzArrays(actualPath);
        foreach (string name in expected.Names)
        {
            if (name is "r_L0" or "r_L0_summed" || name.StartsWith("edit_logits_", StringComparison.Ordinal))
                continue;
            Assert.True(actual.Has(name), $"the array {name} is missing");
            Assert.Equal(expected.Shape(name), actual.Shape(name));
            double[] wanted = expected.Any(name), got = actual.Any(name);
            double largest = wanted.Where(double.IsFinite).Select(Math.Abs).DefaultIfEmpty().Max();
            for (int i = 0; i < wanted.Length; i++)
            {
                bool same = double.IsNaN(wanted[i]) ? double.IsNaN(got[i]) : Math.Abs(got[i] - wanted[i]) <= ArrayTolerance(name, largest);
                Assert.True(same, $"{name}[{i}]: {got[i]:r} instead of {wanted[i]:r}");
            }
        }
    }

    /// <summary>r_L0 by position, within what the cancellation in y allows: the gradients that say how much are taken again here.</summary>
    private static void CheckUniformity(EvaluationCase evaluation, string expectedPath, string actualPath)
    {
        using var expected = new NpzArrays(expectedPath);
        using var actual = new NpzArrays(actualPath);
        TokenSet set = evaluation.Tokens;
        SaeTarget target = evaluation.Targets[0];
        int width = target.Sae.Config.OutputDim;
        var attribution = new FeatureAttribution(target.Sae);
        using var gradient = new StreamGradient(evaluation.Model, set.Length);
        foreach ((string name, bool isOwn) in (ReadOnlySpan<(string, bool)>)[("r_L0", true), ("r_L0_summed", false)])
        {
            double[] wanted = expected.Doubles(name), got = actual.Doubles(name);
            Assert.Equal(expected.Shape(name), actual.Shape(name));
            for (int b = 0; b < set.Count; b++)
            {
                int[] tokens = set.Padded(b);
                CodeList codes = GradientTests.Codes(evaluation.Model, target.Sae, target.Site, tokens);
                gradient.Forward(tokens, target.SiteOut.Layer);
                float[] gradients = gradient.Backward([target.SiteOut], (t, _, seed) =>
                {
                    if (isOwn || (t + 1 < tokens.Length && set.Counts(LossMask.Default, tokens[t], tokens[t + 1])))
                        GradientTests.CentredLogit(tokens, t, seed);
                }, isOwn)[target.SiteOut];
                double[] y = attribution.Of(codes, gradients);
                for (int t = 0; t < tokens.Length; t++)
                {
                    int i = (b * set.Length) + t;
                    Assert.Equal(double.IsNaN(wanted[i]), double.IsNaN(got[i]));
                    if (double.IsNaN(wanted[i]))
                        continue;
                    double limit =
                        GradientTests.UniformityLimit(y.AsSpan((int)codes.RowStart[t]..(int)codes.RowStart[t + 1]), codes.ValuesOf(t),
                            gradients.AsSpan(t * width, width));
                    Assert.True(Math.Abs(got[i] - wanted[i]) <= limit,
                        $"{name}[{b},{t}]: {got[i]:r} instead of {wanted[i]:r}, allowed {limit:g3}");
                }
            }
        }
    }

    private static double ArrayTolerance(string name, double largest) => name switch
    {
        "ids" or "row_ptr" or "feature" or "l0" or "by_position_count" => 0,
        "firing_frequency" => 1e-12,
        "x" or "y" or "xbar" or "recon" or "value" or "squared_error" or "squared_deviation" => 5e-6 * largest,
        "by_position_fvu" => 1e-6,
        "grad_own" => 1e-5 * largest,
        _ => 5e-5, // logits, and the losses and divergences of single positions, which are as exact as their logits
    };
}

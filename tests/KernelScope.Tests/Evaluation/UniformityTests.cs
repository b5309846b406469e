using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Evaluation;

/// <summary>Uniformity of importance inside an evaluation, beside the golden numbers.</summary>
public sealed class UniformityTests
{
    [Fact]
    public void An_evaluation_without_gradients_measures_everything_else_alike()
    {
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Residual);
        MetricTable with = evaluation.Run().Saes[0].Metrics, without = evaluation.Run(new() { Gradients = false }).Saes[0].Metrics;
        Assert.Equal(["r_L0", "r_L0_summed", "r_L0_skipped", "r_L0_summed_skipped"], with.Paths.Where(p => !without.Has(p))
            .Select(p => p.Single()));
        foreach (string[] path in without.Paths)
            Assert.Equal(with[path], without[path]);
    }

    [Fact]
    public void Several_SAEs_share_passes_and_keep_the_numbers_of_each_alone()
    {
        using var all = new EvaluationCase("cpu", EvaluationCase.Names);
        EvaluationResult together = all.Run();
        for (int s = 0; s < all.Targets.Length; s++)
        {
            using var alone = new EvaluationCase("cpu", EvaluationCase.Names[s]);
            MetricTable wanted = alone.Run().Saes[0].Metrics;
            foreach (string name in (ReadOnlySpan<string>)["r_L0", "r_L0_summed"])
                Assert.Equal(wanted[name], together.Saes[s].Metrics[name], 1e-12);
        }
    }

    [Fact]
    public void A_site_without_a_gradient_goes_without_uniformity_and_takes_it_from_no_other()
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Residual);
        SaeTarget target = evaluation.Targets[0];
        SaeTarget[] targets = [target with { Site = new(Site.FinalNorm), SiteOut = new(Site.FinalNorm) }, target];
        EvaluationResult result =
            new SaeEvaluation(evaluation.Model, targets, evaluation.Tokens, new() { ArraysPath = folder.At("a.npz") }).Run();
        Assert.False(result.Saes[0].Metrics.Has("r_L0"));
        Assert.Equal(evaluation.Run().Saes[0].Metrics["r_L0"], result.Saes[1].Metrics["r_L0"], 1e-12);
        using var arrays = new NpzArrays(folder.At("a.npz"));
        Assert.Equal(["site1/grad_own"], arrays.Names.Where(n => n.EndsWith("grad_own", StringComparison.Ordinal)));
        Assert.Contains("r_L0", HtmlReport.Render(result, "model", []), StringComparison.Ordinal);

        // Only such sites: nothing runs backwards at all.
        Assert.False(new SaeEvaluation(evaluation.Model, targets[..1], evaluation.Tokens).Run().Saes[0].Metrics.Has("r_L0"));
    }

    /// <summary>At embed, which is the stream before layer 0, with an SAE that is elsewhere at home.</summary>
    [Fact]
    public void Positions_without_an_active_feature_are_skipped_and_counted()
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Residual);
        SaeTarget[] targets = [evaluation.Targets[0] with { Site = new(Site.Embed), SiteOut = new(Site.Embed) }];
        EvaluationResult result =
            new SaeEvaluation(evaluation.Model, targets, evaluation.Tokens, new() { ArraysPath = folder.At("a.npz") }).Run();
        using var arrays = new NpzArrays(folder.At("a.npz"));
        double[] uniformity = arrays.Doubles("r_L0");
        int[] active = arrays.Int32("l0");
        int skipped = 0;
        for (int i = 0; i < active.Length; i++)
        {
            int[] tokens = evaluation.Tokens.Padded(i / evaluation.Tokens.Length);
            int t = i % evaluation.Tokens.Length;
            bool counts = t + 1 < tokens.Length && evaluation.Tokens.Counts(LossMask.Default, tokens[t], tokens[t + 1]);
            Assert.Equal(counts && active[i] > 0, !double.IsNaN(uniformity[i]));
            skipped += counts && active[i] == 0 ? 1 : 0;
        }

        Assert.InRange(skipped, 1, int.MaxValue);
        Assert.Equal(skipped, result.Saes[0].Metrics["r_L0_skipped"]);
        Assert.Equal(skipped, result.Saes[0].Metrics["r_L0_summed_skipped"]);
        Assert.Equal(uniformity.Where(u => !double.IsNaN(u)).DefaultIfEmpty(double.NaN).Average(), result.Saes[0].Metrics["r_L0"], 1e-12);
    }
}

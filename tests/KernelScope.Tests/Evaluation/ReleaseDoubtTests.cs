using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Evaluation;

/// <summary>The demo's SAEs put where they do not belong are noticed, and where they belong is found; at home nothing is said.</summary>
public sealed class ReleaseDoubtTests
{
    [Theory]
    [InlineData("res/layer_3/width_2k/average_l0_19", "resid_post.3", "resid_post.3", null)]
    [InlineData("res/layer_3/width_2k/average_l0_57", "resid_post.3", "resid_post.3", null)]
    [InlineData("res/layer_5/width_1k/average_l0_37", "resid_post.5", "resid_post.5", null)]
    [InlineData("att/layer_3/width_1k/average_l0_42", "z.3", "z.3", null)]
    [InlineData("mlp/layer_3/width_1k/average_l0_37", "mlp_out_post.3", "mlp_out_post.3", null)]
    [InlineData("transcoder/layer_3/width_1k/average_l0_20", "mlp_in_unit.3", "mlp_out_post.3", null)]
    [InlineData("mlp/layer_3/width_1k/average_l0_37", "mlp_out.3", "mlp_out.3", "at mlp_out_post.3")]
    [InlineData("res/layer_1/width_1k/average_l0_26", "resid_post.2", "resid_post.2", "at resid_post.1")]
    [InlineData("res/layer_3/width_2k/average_l0_19", "resid_post.4", "resid_post.4", "at resid_post.3")]
    [InlineData("res/layer_1/width_1k/average_l0_26", "resid_post.3", "resid_post.3", "at resid_post.1")]
    [InlineData("att/layer_3/width_1k/average_l0_42", "z.1", "z.1", "at z.3")]
    public void A_wrong_site_is_noticed_and_the_right_one_found(string path, string site, string siteOut, string? named)
    {
        using Device device = TestDevices.Open("cpu");
        using Gemma2Model model = Gemma2Model.Open(device, Content("model"));
        using JumpReluSae sae = JumpReluSae.Open(device, Content("saes", path));
        var tokens = TokenSet.Create([.. EvaluationCase.Sequences(Fixtures.Path("demo", "goldens", "tokens.json")).Take(4)], model.Config);
        var target = new SaeTarget(path, sae, HookPoint.Parse(site), HookPoint.Parse(siteOut));
        double? released = ReleaseDoubt.ReleasedL0(path);
        SiteFit used = SiteSearch.Used(model, target, tokens);
        string? sentence = ReleaseDoubt.Sentence(path, released, used, named is null ? [] : SiteSearch.Run(model, target, tokens));
        if (named is null)
            Assert.Null(sentence);
        else
            Assert.Contains($"it fits better {named} (L0", sentence, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz", 71.0)]
    [InlineData("res.3.2k.l0_19", 19.0)]
    [InlineData("gemma-scope-2b-pt-res/layer_20/width_16k/canonical", 71.0)]
    [InlineData("model0_5", null)]
    public void The_released_L0_is_in_the_path(string path, double? expected) => Assert.Equal(expected, ReleaseDoubt.ReleasedL0(path));

    [Fact]
    public void Without_a_better_site_the_usual_cause_is_named()
    {
        SiteFit At(string site, bool bos) => new(HookPoint.Parse(site), bos, 300, 1.2, 400);
        Assert.Contains("raw mlp_out instead of mlp_out_post.7", ReleaseDoubt.Sentence("s", 30, At("mlp_out.7", true), []),
            StringComparison.Ordinal);
        Assert.Contains("mlp_in with its gain instead of mlp_in_unit.7", ReleaseDoubt.Sentence("s", 30, At("mlp_in.7", true), []),
            StringComparison.Ordinal);
        Assert.Contains("do not begin with BOS", ReleaseDoubt.Sentence("s", 30, At("resid_post.7", false), []), StringComparison.Ordinal);
        Assert.Contains("a wrong layer, another model", ReleaseDoubt.Sentence("s", 30, At("resid_post.7", true), []),
            StringComparison.Ordinal);
        Assert.Null(ReleaseDoubt.Sentence("s", 30, new(HookPoint.Parse("resid_post.7"), true, 60, 0.3, 400), []));
    }

    private static string Content(params string[] parts) => Path.Combine([Fixtures.Root, "src", "KernelScope.Demo", "content", .. parts]);
}

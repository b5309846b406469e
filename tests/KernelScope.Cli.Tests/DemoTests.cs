using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli.Tests;

/// <summary>The content of KernelScope.Demo.</summary>
public sealed class DemoTests
{
    [Theory]
    [InlineData("att.3.1k.l0_42", "z.3", "z.3", 256)]
    [InlineData("mlp.3.1k.l0_37", "mlp_out_post.3", "mlp_out_post.3", 224)]
    [InlineData("res.1.1k.l0_26", "resid_post.1", "resid_post.1", 224)]
    [InlineData("res.3.2k.l0_19", "resid_post.3", "resid_post.3", 224)]
    [InlineData("res.3.2k.l0_57", "resid_post.3", "resid_post.3", 224)]
    [InlineData("res.5.1k.l0_37", "resid_post.5", "resid_post.5", 224)]
    [InlineData("transcoder.3.1k.l0_20", "mlp_in_unit.3", "mlp_out_post.3", 224)]
    public void Every_SAE_says_where_it_belongs(string name, string site, string siteOut, int width)
    {
        using SaeCheckpoint sae = Demo.OpenSae(name);
        Assert.Equal((site, siteOut, width), (sae.Config.Site, sae.Config.SiteOut, sae.Config.InputDim));
        sae.Verify();
        Assert.All(Demo.Meanings(name).Keys, feature => Assert.InRange(feature, 0, sae.Config.FeatureCount - 1));
        Assert.Contains(name, Demo.SaeNames);
    }

    [Fact]
    public void Its_parts_fit_and_its_origin_is_told()
    {
        Assert.Equal(7, Demo.SaeNames.Count);
        Assert.Equal(14, Demo.Meanings(Demo.DefaultSae).Count);
        using Gemma2Checkpoint model = Demo.OpenCheckpoint();
        Assert.Equal(model.Config.VocabSize, Demo.OpenTokenizer().PieceCount);
        Assert.Contains("WordNet 3.0", Demo.Notice, StringComparison.Ordinal);
        Assert.Contains(Demo.DefaultSae, Assert.Throws<ArgumentException>(() => Demo.OpenSae("res.9.1k.l0_1")).Message,
            StringComparison.Ordinal);
    }
}

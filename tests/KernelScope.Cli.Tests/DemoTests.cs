using System.Text.Json;
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
    [InlineData("transcoder.0.1k.l0_21", "mlp_in_unit.0", "mlp_out_post.0", 224)]
    [InlineData("transcoder.1.1k.l0_20", "mlp_in_unit.1", "mlp_out_post.1", 224)]
    [InlineData("transcoder.2.1k.l0_24", "mlp_in_unit.2", "mlp_out_post.2", 224)]
    [InlineData("transcoder.4.1k.l0_19", "mlp_in_unit.4", "mlp_out_post.4", 224)]
    [InlineData("transcoder.5.1k.l0_20", "mlp_in_unit.5", "mlp_out_post.5", 224)]
    public void Every_SAE_says_where_it_belongs(string name, string site, string siteOut, int width)
    {
        using SaeCheckpoint sae = Demo.OpenSae(name);
        Assert.Equal((site, siteOut, width), (sae.Config.Site, sae.Config.SiteOut, sae.Config.InputDim));
        sae.Verify();
        Assert.All(Demo.Meanings(name).Keys, feature => Assert.InRange(feature, 0, sae.Config.FeatureCount - 1));
        Assert.Contains(name, Demo.SaeNames);
    }

    /// <summary>Over the built-in text, which is unlike most of the corpus, the one that PyTorch trained has FVU 0.46 and ours 0.16 to 0.57.</summary>
    [Fact]
    public void Its_transcoders_explain_the_MLP_of_their_layers()
    {
        string[] names = [.. Demo.SaeNames.Where(n => n.StartsWith("transcoder.", StringComparison.Ordinal))];
        Assert.Equal(6, names.Length);
        JsonElement result = Program.Json(["eval", .. names.SelectMany(n => (string[])["--sae", n]), "--text-file", "demo", "--length",
            "128", "--no-gradients", "--resamples", "1"]);
        JsonElement[] measured = [.. result.GetProperty("saes").EnumerateArray()];
        Assert.Equal(6, measured.Length);
        Assert.All(measured, m => Assert.InRange(m.GetProperty("metrics").GetProperty("fvu").GetDouble(), 0.05, 0.65));
        Assert.All(measured, m => Assert.InRange(m.GetProperty("metrics").GetProperty("L0").GetDouble(), 10, 40));
    }

    [Fact]
    public void Its_parts_fit_and_its_origin_is_told()
    {
        Assert.Equal(12, Demo.SaeNames.Count);
        Assert.InRange(Demo.Meanings(Demo.DefaultSae).Count, 300, 2048);
        using Gemma2Checkpoint model = Demo.OpenCheckpoint();
        Assert.Equal(model.Config.VocabSize, Demo.OpenTokenizer().PieceCount);
        Assert.Contains("WordNet 3.0", Demo.Notice, StringComparison.Ordinal);
        Assert.Contains(Demo.DefaultSae, Assert.Throws<ArgumentException>(() => Demo.OpenSae("res.9.1k.l0_1")).Message,
            StringComparison.Ordinal);
    }

    /// <summary>bench/results/demo-labels.jsonl has 40 judged places for each label; tools/reference/demo/judge_labels.py says how they were drawn.</summary>
    [Fact]
    public void Labels_of_300_features_name_tokens_on_which_they_fire()
    {
        IReadOnlyDictionary<int, string> labels = Demo.Meanings(Demo.DefaultSae);
        IReadOnlySet<int> dense = Demo.DenseFeatures(Demo.DefaultSae);
        int judged = 0;
        foreach (string line in File.ReadLines(Path.Combine(Fixtures.Root, "bench", "results", "demo-labels.jsonl")))
        {
            using JsonDocument document = JsonDocument.Parse(line);
            JsonElement entry = document.RootElement;
            int feature = entry.GetProperty("feature").GetInt32();
            Assert.Equal(labels[feature], entry.GetProperty("label").GetString());
            Assert.InRange(entry.GetProperty("density").GetDouble(), 0, 0.2);
            Assert.DoesNotContain(feature, dense);
            JsonElement[] named = [.. entry.GetProperty("named").EnumerateArray()],
                firing = [.. entry.GetProperty("firing").EnumerateArray()];
            Assert.Equal((20, 20), (named.Length, firing.Length));
            Assert.All(named, place => Assert.True(place[2].GetBoolean()));
            Assert.All(firing, place => Assert.True(place[1].GetDouble() > 0));
            Assert.True(named.Count(place => place[1].GetDouble() > 0) >= 16, $"The label of feature {feature} is right less than 16 " +
                "times of 20.");
            judged++;
        }

        Assert.InRange(judged, 300, labels.Count);
    }

    [Fact]
    public void Half_of_the_cells_of_the_first_picture_have_labels()
    {
        JsonElement result = Program.Json("features", "And the king said unto his servants, Go.", "--top", "40");
        IReadOnlySet<int> dense = Demo.DenseFeatures(Demo.DefaultSae);
        JsonElement[] cells = [.. result.GetProperty("tokens").EnumerateArray().Skip(1)
            .SelectMany(t => t.GetProperty("features").EnumerateArray().Where(f => !dense.Contains(f.GetProperty("index").GetInt32()))
                .Take(5))];
        Assert.InRange(cells.Count(c => c.TryGetProperty("meaning", out _)), (cells.Length + 1) / 2, cells.Length);
    }
}

using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>lens</c>, <c>diff</c> and <c>top</c>: what they print, and their complaints. That the numbers are right is held in KernelScope.Tests.</summary>
public sealed class LensDiffTopTests
{
    [Fact]
    public void The_lens_at_the_last_layer_shows_what_run_expects_next()
    {
        const string Text = "Once upon a time there lived a miller who had a child called";
        JsonElement lens = Program.Json("lens", Text, "--site", "blocks.5.hook_resid_post", "--top", "4");
        Assert.Equal("resid_post.5", lens.GetProperty("site").GetString());
        JsonElement[] tokens = [.. lens.GetProperty("tokens").EnumerateArray()];
        JsonElement run = Program.Json("run", Text, "--top", "4");
        Assert.Equal(run.Ints("tokens"), tokens.Select(t => t.GetProperty("id").GetInt32()));
        Assert.Equal(run.GetProperty("top").EnumerateArray().Select(t => t.GetProperty("text").GetString()),
            tokens[^1].GetProperty("top").EnumerateArray().Select(t => t.GetProperty("text").GetString()));
        Assert.Contains("points to", Program.Run("lens", Text, "--site", "embed").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_feature_shows_what_it_promotes_with_the_gain_and_without()
    {
        JsonElement lens = Program.Json("lens", "--feature", "1738", "--top", "12");
        foreach (string which in new[] { "with_gain", "without_gain" })
        {
            double[] top = Values(lens.GetProperty(which).GetProperty("top")),
                bottom = Values(lens.GetProperty(which).GetProperty("bottom"));
            Assert.Equal(12, top.Length);
            Assert.Equal(top.OrderDescending(), top);
            Assert.Equal(bottom.Order(), bottom);
        }

        Outcome shown = Program.Run("lens", "--feature", "1738");
        Assert.Contains("without the gain", shown.Output, StringComparison.Ordinal);
        Assert.Contains("tales whose hero is a girl", shown.Output, StringComparison.Ordinal);
        static double[] Values(JsonElement list) => [.. list.EnumerateArray().Select(e => e.GetProperty("value").GetDouble())];
    }

    [Fact]
    public void Two_runs_that_differ_by_an_edit_part_where_the_edit_is()
    {
        using var folder = new TempFolder();
        string[] common = ["run", "She loved the river", "--capture", "all"];
        Program.Json([.. common, "--out", folder.At("a.npz")]);
        Program.Json([.. common, "--out", folder.At("b.npz"), "--steer", "1738=+20"]);
        JsonElement diff = Program.Json("diff", folder.At("a.npz"), folder.At("b.npz"), "--no-fail");
        JsonElement first = diff.GetProperty("first");
        Assert.True(diff.GetProperty("parts").GetBoolean());
        Assert.Equal(("resid_post.3", 1), (first.GetProperty("name").GetString(), first.GetProperty("position").GetInt32()));
        Assert.Equal("tokens", diff.GetProperty("arrays")[0].GetProperty("name").GetString());
        Assert.Equal(0, diff.GetProperty("arrays")[1].GetProperty("nmse").GetDouble());
        Outcome different = Program.Run("diff", folder.At("a.npz"), folder.At("b.npz"));
        Assert.Equal((1, ""), (different.ExitCode, different.Error));
        Assert.StartsWith("Different: they part at resid_post.3, position 1, element ", different.Output, StringComparison.Ordinal);
        Assert.Equal(0, Program.Run("diff", folder.At("a.npz"), folder.At("b.npz"), "--no-fail").ExitCode);
        Assert.Equal(0, Program.Run("diff", folder.At("a.npz"), folder.At("b.npz"), "--json").ExitCode);
        Assert.Equal(1, Program.Run("diff", folder.At("a.npz"), folder.At("b.npz"), "--fail", "--json").ExitCode);
        Outcome same = Program.Run("diff", folder.At("a.npz"), folder.At("a.npz"), "--fail");
        Assert.Equal(0, same.ExitCode);
        Assert.StartsWith("Same: the ", same.Output, StringComparison.Ordinal);
        Assert.Contains("agree", same.Output, StringComparison.Ordinal);
        Program.Json([.. common[..2], "--capture", "resid_post.3", "--out", folder.At("c.npz")]);
        Outcome fewer = Program.Run("diff", folder.At("a.npz"), folder.At("c.npz"));
        Assert.Equal(1, fewer.ExitCode);
        Assert.StartsWith("Different: the 2 arrays in common agree, and ", fewer.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Several_features_are_searched_in_one_pass_and_found_as_each_alone()
    {
        JsonElement both = Program.Json("top", "1738", "562", "--text-file", "demo", "--contexts", "2");
        Assert.Equal(("demo", "res.3.2k.l0_19", "resid_post.3"),
            (both.GetProperty("model").GetString(), both.GetProperty("sae").GetString(), both.GetProperty("site").GetString()));
        JsonElement[] features = [.. both.GetProperty("features").EnumerateArray()];
        Assert.Equal(2, features.Length);
        foreach ((JsonElement found, string feature) in features.Zip(["1738", "562"]))
            Assert.Equal(Program.Json("top", feature, "--text-file", "demo", "--contexts", "2").GetRawText(), found.GetRawText());
        Program.Run("top", "1738", "2048", "--text-file", "demo").AssertFailed(1, "feature 2048", "0 to 2047");
    }

    [Fact]
    public void Contexts_hold_the_token_and_its_neighbours()
    {
        using var folder = new TempFolder();
        File.WriteAllText(folder.At("text.txt"), "More than anything she wished for a river. More than anything he wished for a key.");
        JsonElement top = Program.Json("top", "1738", "--text-file", folder.At("text.txt"), "--contexts", "2", "--window", "3");
        JsonElement[] contexts = [.. top.GetProperty("contexts").EnumerateArray()];
        Assert.Equal(2, contexts.Length);
        Assert.True(contexts[0].GetProperty("activation").GetDouble() >= contexts[1].GetProperty("activation").GetDouble());
        Assert.Equal(contexts[0].GetProperty("activation").GetDouble(), top.GetProperty("quantiles").EnumerateArray().Last()
            .GetProperty("activation").GetDouble(), contexts[0].GetProperty("activation").GetDouble() * 1e-3);
        JsonElement[] tokens = [.. contexts[0].GetProperty("tokens").EnumerateArray()];
        Assert.InRange(tokens.Length, 4, 7);
        Assert.InRange(contexts[0].GetProperty("focus").GetInt32(), 0, 3);
        Assert.Contains("[", Program.Run("top", "1738", "--text-file", folder.At("text.txt")).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Bad_input_gets_a_sentence()
    {
        using var folder = new TempFolder();
        string text = folder.At("text.txt"), empty = folder.At("empty.npz");
        File.WriteAllText(text, "the king");
        File.WriteAllText(empty, "no zip");
        Program.Run("lens", "x").AssertFailed(2, "--site");
        Program.Run("lens", "x", "--feature", "5").AssertFailed(2, "hang on no text");
        Program.Run("lens", "x", "--site", "z.1").AssertFailed(1, "z.1", "not a point of the stream");
        Program.Run("lens", "x", "--site", "resid_post.6").AssertFailed(1, "layers 0 to 5");
        Program.Run("lens", "--feature", "2048").AssertFailed(1, "0 to 2047");
        Program.Run("lens", "--feature", "5", "--sae", "att.3.1k.l0_42").AssertFailed(1, "not a direction of the stream");
        Program.Run("diff", empty, empty).AssertFailed(1, "empty.npz");
        Program.Run("diff", folder.At("none.npz"), empty).AssertFailed(1, "none.npz");
        Program.Run("diff", empty, empty, "--tolerance", "-1").AssertFailed(2, "--tolerance is -1");
        Program.Run("top", "x", "--text-file", text).AssertFailed(2, "FEATURE");
        Program.Run("top", "2048", "--text-file", text).AssertFailed(1, "0 to 2047");
        Program.Run("top", "5").AssertFailed(2, "--text-file");
        Program.Run("top", "5", "--text-file", text, "--contexts", "0").AssertFailed(2, "--contexts is 0");
    }
}

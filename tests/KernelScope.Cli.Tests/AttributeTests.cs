using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>attribute</c>: what it prints. That the numbers are right is held in KernelScope.Tests.</summary>
public sealed class AttributeTests
{
    private const string Text = "She loved the river more than anything. More than anything";

    [Fact]
    public void A_logit_difference_is_attributed_to_features_of_tokens()
    {
        JsonElement result = Program.Json("attribute", Text, "--target", " she", "--against", " he", "--top", "100000");
        Assert.Equal("demo", result.GetProperty("model").GetString());
        Assert.Equal("resid_post.3", result.GetProperty("site").GetString());
        Assert.Equal("logit_difference", result.GetProperty("metric").GetString());
        Assert.Equal(" she", result.GetProperty("target").GetProperty("text").GetString());
        JsonElement[] tokens = [.. result.GetProperty("tokens").EnumerateArray()];
        JsonElement codes = Program.Json("features", Text, "--top", "100000").GetProperty("tokens");
        foreach ((JsonElement token, JsonElement expected) in tokens.Zip(codes.EnumerateArray()))
        {
            Assert.Equal(Ordered(expected), Ordered(token));
            Assert.Equal(Sizes(token).OrderDescending(), Sizes(token));
        }

        Assert.Equal(Sizes(result).OrderDescending(), Sizes(result));
        JsonElement first = result.GetProperty("features")[0];
        double sum = tokens.Skip(1).SelectMany(t => t.GetProperty("features").EnumerateArray())
            .Where(f => f.GetProperty("index").GetInt32() == first.GetProperty("index").GetInt32())
            .Sum(f => f.GetProperty("attribution").GetDouble());
        Assert.Equal(sum, first.GetProperty("attribution").GetDouble(), 1e-9);

        JsonElement top = Program.Json("run", Text, "--top", "4096").GetProperty("top");
        Dictionary<string, double> logits = top.EnumerateArray().Where(t => t.GetProperty("text").GetString() is " she" or " he")
            .ToDictionary(t => t.GetProperty("text").GetString()!, t => t.GetProperty("logit").GetDouble());
        Assert.Equal(logits[" she"] - logits[" he"], result.GetProperty("value").GetDouble(), 1e-4);
    }

    [Fact]
    public void The_loss_is_the_sum_of_what_run_gives()
    {
        JsonElement result = Program.Json("attribute", Text, "--loss", "--sae", "transcoder.3.1k.l0_20");
        Assert.Equal("next_token_loss", result.GetProperty("metric").GetString());
        Assert.Equal("mlp_out_post.3", result.GetProperty("site_out").GetString());
        Assert.Equal(Program.Json("run", Text).GetProperty("next_token_loss").EnumerateArray().Sum(e => e.GetDouble()),
            result.GetProperty("value").GetDouble(), 1e-3);
        Outcome shown = Program.Run("attribute", Text, "--loss");
        Assert.Equal((0, ""), (shown.ExitCode, shown.Error));
        Assert.Contains("sum of the next-token losses", shown.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Bad_input_gets_a_sentence()
    {
        Program.Run("attribute", Text).AssertFailed(2, "--target TOKEN or --loss");
        Program.Run("attribute", Text, "--loss", "--target", "5").AssertFailed(2, "both");
        Program.Run("attribute", Text, "--loss", "--at", "1").AssertFailed(2, "--at");
        Program.Run("attribute", Text, "--target", " she said").AssertFailed(1, "2 tokens", "it must be one");
        Program.Run("attribute", Text, "--target", "4096").AssertFailed(1, "4096", "0 to 4095");
        Program.Run("attribute", Text, "--target", "5", "--at", "500").AssertFailed(1, "--at is 500");
        Program.Run("attribute", "--tokens", "2", "--loss").AssertFailed(1, "one token");
        string sae = Path.Combine(Fixtures.DemoSaes, "res", "layer_3", "width_2k", "average_l0_19", "params.npz");
        Program.Run("attribute", Text, "--target", "5", "--sae", sae, "--site", "embed").AssertFailed(1, "embed", "resid_post");
    }

    private static (int Index, float Activation)[] Ordered(JsonElement token) =>
        [.. token.GetProperty("features").EnumerateArray()
            .Select(f => (f.GetProperty("index").GetInt32(), f.GetProperty("activation").GetSingle())).Order()];

    private static double[] Sizes(JsonElement element) =>
        [.. element.GetProperty("features").EnumerateArray().Select(f => Math.Abs(f.GetProperty("attribution").GetDouble()))];
}

using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary><c>run</c> against transformers: activations, losses and logits.</summary>
public sealed class RunTests
{
    [Theory]
    [InlineData("tale", "cpu")]
    [InlineData("languages", "reference")]
    public void Activations_and_losses_of_the_demo_equal_transformers(string text, string device)
    {
        using var folder = new TempFolder();
        JsonElement result =
            Program.Json("run", Fixtures.DemoText(text), "--capture", "resid_post.3,logits", "--out", folder.At("acts.npz"),
                "--device", device, "--top", "5");
        using var golden = new Arrays(Fixtures.Path("demo", "goldens", $"text-{text}.npz"));
        using var acts = new Arrays(folder.At("acts.npz"));
        Assert.Equal(["resid_post.3", "logits", "tokens"], acts.Names);
        Assert.Equal(golden.Ints("tokens"), acts.Ints("tokens"));
        Assert.Equal(golden.Shape("resid_post.3"), acts.Shape("resid_post.3"));
        Assert.Equal(DType.F32, acts.Type("resid_post.3"));
        Close.Assert(golden.Floats("resid_post.3"), acts.Floats("resid_post.3"), 2e-5);
        float[] last = golden.Floats("logits_last");
        Close.Assert(last, acts.Floats("logits").AsSpan()[^last.Length..], 2e-5);

        double[] losses = [.. result.GetProperty("next_token_loss").EnumerateArray().Select(e => e.GetDouble())];
        Assert.All(golden.Doubles("next_token_loss").Zip(losses), p => Assert.InRange(p.Second, p.First - 1e-4, p.First + 1e-4));
        Assert.Equal(golden.Ints("tokens").Length - 1, losses.Length);
        int[] likeliest = [.. Enumerable.Range(0, last.Length).OrderByDescending(i => last[i]).Take(5)];
        Assert.Equal(likeliest, result.GetProperty("top").EnumerateArray().Select(t => t.GetProperty("id").GetInt32()));
        Assert.All(result.GetProperty("top").EnumerateArray(),
            t => Assert.InRange(t.GetProperty("logit").GetDouble(), last[t.GetProperty("id").GetInt32()] - 2e-4,
                last[t.GetProperty("id").GetInt32()] + 2e-4));
    }

    [Theory]
    [InlineData("base")]
    [InlineData("sharded")]
    [InlineData("hd128")]
    public void Every_hook_point_of_a_model_folder_is_captured(string name)
    {
        using var folder = new TempFolder();
        string model = Fixtures.Path("gemma2", "models", name);
        using var golden = new Arrays(Path.Combine(model, "expected.npz"));
        Program.Json("run", "--model", model, "--tokens", string.Join(',', golden.Ints("tokens")), "--capture", "all", "--out",
            folder.At("acts.npz"));
        using var acts = new Arrays(folder.At("acts.npz"));
        string[] points =
            [.. golden.Names.Where(n => n is "embed" or "logits" or "final_norm"
                || (n.Contains('.', StringComparison.Ordinal) && !n.StartsWith("greedy", StringComparison.Ordinal)))];
        Assert.Equal(points.Append("tokens").Order(), acts.Names.Order());
        foreach (string point in points)
        {
            Assert.Equal(golden.Shape(point), acts.Shape(point));
            Close.Assert(golden.Floats(point), acts.Floats(point), 1e-4);
        }
    }

    [Fact]
    public void The_pieces_of_a_prompt_do_not_matter()
    {
        using var folder = new TempFolder();
        string[] common = ["run", Fixtures.DemoText("tale"), "--capture", "z.2,final_norm"];
        JsonElement whole = Program.Json([.. common, "--out", folder.At("whole.npz")]);
        using var expected = new Arrays(folder.At("whole.npz"));
        foreach (string chunk in new[] { "1", "7", "100000" })
        {
            JsonElement pieces = Program.Json([.. common, "--out", folder.At("pieces.npz"), "--chunk", chunk]);
            using var actual = new Arrays(folder.At("pieces.npz"));
            foreach (string point in new[] { "z.2", "final_norm" })
                Close.Assert(expected.Floats(point), actual.Floats(point), 2e-5);
            Assert.Equal(whole.Ints("tokens"), pieces.Ints("tokens"));
            Assert.All(Losses(whole).Zip(Losses(pieces)), p => Assert.InRange(p.Second, p.First - 1e-4, p.First + 1e-4));
        }
    }

    [Fact]
    public void Captures_see_what_edits_at_the_same_point_made()
    {
        using var folder = new TempFolder();
        string[] common = ["run", "She loved the river", "--capture", "blocks.3.hook_resid_post"];
        Program.Json([.. common, "--out", folder.At("plain.npz")]);
        Program.Json([.. common, "--out", folder.At("zero.npz"), "--splice", "zero"]);
        using var plain = new Arrays(folder.At("plain.npz"));
        using var zero = new Arrays(folder.At("zero.npz"));
        Assert.Equal(["resid_post.3", "tokens"], zero.Names);
        Assert.Equal(plain.Floats("resid_post.3")[..224], zero.Floats("resid_post.3")[..224]);
        Assert.All(zero.Floats("resid_post.3")[224..], v => Assert.Equal(0f, v));
    }

    [Fact]
    public void One_token_has_no_loss()
    {
        JsonElement result = Program.Json("run", "--tokens", "2");
        Assert.Equal(0, result.GetProperty("next_token_loss").GetArrayLength());
        Assert.Equal(10, result.GetProperty("top").GetArrayLength());
        Assert.Contains("nats", Program.Run("run", "a river").Output, StringComparison.Ordinal);
    }

    private static IEnumerable<double> Losses(JsonElement result) =>
        result.GetProperty("next_token_loss").EnumerateArray().Select(e => e.GetDouble());

    [Fact]
    public void Layers_come_as_ranges_and_attention_by_its_names()
    {
        using var folder = new TempFolder();
        string[] common = ["run", "And the king said", "--out", folder.At("a.npz"), "--capture"];
        Program.Json([.. common, "resid_post.*,z.1-2,attn_pattern.3,blocks.0.attn.hook_attn_scores,q_pre_rope.1,attn_in_unit.5"]);
        using (var acts = new Arrays(folder.At("a.npz")))
        {
            Assert.Equal(
                [.. Enumerable.Range(0, 6).Select(l => $"resid_post.{l}"), "z.1", "z.2", "attn_pattern.3", "attn_scores.0",
                    "q_pre_rope.1", "attn_in_unit.5", "tokens"], acts.Names);
            Assert.Equal([4L, 5, 5], acts.Shape("attn_pattern.3"));
            Assert.Equal([5L, 4, 64], acts.Shape("q_pre_rope.1"));
            float[] pattern = acts.Floats("attn_pattern.3");
            for (int row = 0; row < 20; row++)
                Assert.Equal(1, pattern.AsSpan(row * 5, 5).ToArray().Sum(v => (double)v), 1e-5);
        }

        Program.Json([.. common, "all"]);
        using (var acts = new Arrays(folder.At("a.npz")))
            Assert.DoesNotContain(acts.Names, n => n.StartsWith("attn_pattern", StringComparison.Ordinal)
                || n.StartsWith("q_pre_rope", StringComparison.Ordinal));
        Program.Json([.. common, "blocks.*.hook_resid_post,blocks.1-2.attn.hook_z"]);
        using (var acts = new Arrays(folder.At("a.npz")))
            Assert.Equal([.. Enumerable.Range(0, 6).Select(l => $"resid_post.{l}"), "z.1", "z.2", "tokens"], acts.Names);
        Program.Run([.. common, "blocks.4-6.hook_resid_post"]).AssertFailed(1, "resid_post.6");
        Program.Run([.. common, "resid_post.4-6"]).AssertFailed(1, "resid_post.6");
        Program.Run([.. common, "resid_post.0-2000000000"]).AssertFailed(1, "resid_post.6");
        Program.Run([.. common, "resid_post.3-2"]).AssertFailed(2, "resid_post.3-2");
        Program.Run([.. common, "logits.*"]).AssertFailed(2, "logits");
    }

    [Fact]
    public void Probabilities_of_the_next_tokens_sum_to_one()
    {
        JsonElement[] top = [.. Program.Json("run", "And the king said", "--top", "100000").GetProperty("top").EnumerateArray()];
        Assert.Equal(4096, top.Length);
        Assert.Equal(1, top.Sum(t => t.GetProperty("probability").GetDouble()), 1e-9);
        double first = top[0].GetProperty("logit").GetDouble();
        Assert.All(top[..50],
            t => Assert.Equal(top[0].GetProperty("probability").GetDouble() * Math.Exp(t.GetProperty("logit").GetDouble() - first),
                t.GetProperty("probability").GetDouble(), 1e-6));
    }
}

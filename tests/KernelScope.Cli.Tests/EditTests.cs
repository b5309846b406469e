using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>Splices and edits on several SAEs and layers, by position, in <c>run</c>, <c>generate</c> and <c>features</c>.</summary>
public sealed class EditTests
{
    private const string Text = "She loved the river more than anything.";
    private const string Lower = "res.1.1k.l0_26";
    private const string Upper = "res.3.2k.l0_19";
    private const int Width = 224;

    [Fact]
    public void An_edit_of_strength_0_changes_no_bit_and_the_identity_splice_nothing_beyond_rounding()
    {
        using var folder = new TempFolder();
        float[] plain = Logits(folder),
            again = Logits(folder, "--sae", Lower, "--steer", "7=0", "--steer", "8=-0", "--edit-at", "all", "--sae", Upper,
                "--steer", "69=0", "--edit-at", "from_last");
        Assert.True(plain.AsSpan().SequenceEqual(again));
        float[] identity =
            Logits(folder, "--sae", Lower, "--splice", "sae+error", "--edit-at", "all", "--sae", Upper, "--splice", "sae+error",
                "--sae", "transcoder.3.1k.l0_20", "--splice", "sae+error");
        Close.Assert(plain, identity, 1e-5);
        Assert.False(plain.AsSpan().SequenceEqual(Logits(folder, "--splice", "sae")));
    }

    [Fact]
    public void Splices_of_two_layers_act_one_after_the_other()
    {
        using var folder = new TempFolder();
        float[] below = Capture(folder, "resid_post.3", "--sae", Lower, "--splice", "zero", "--edit-at", "2-4");
        File.Copy(folder.At("acts.npz"), folder.At("below.npz"));
        Program.Json("encode", folder.At("below.npz"), "--key", "resid_post.3", "--sae", Upper, "--out", folder.At("codes.npz"));
        float[] both =
            Capture(folder, "resid_post.3", "--sae", Lower, "--splice", "zero", "--edit-at", "2-4", "--sae", Upper, "--splice", "sae");
        using var codes = new Arrays(folder.At("codes.npz"));
        float[] reconstruction = codes.Floats("reconstruction");
        Assert.Equal(below[..Width], both[..Width]);
        Close.Assert(reconstruction.AsSpan(Width), both.AsSpan(Width), 1e-6);
        Assert.NotEqual(below, Capture(folder, "resid_post.3"));
    }

    [Fact]
    public void Features_are_those_after_the_edits_below()
    {
        using var folder = new TempFolder();
        string[] edited = ["--sae", Lower, "--steer", "7=40", "--edit-at", "3,5-"];
        Capture(folder, "resid_post.3", edited);
        Program.Json("encode", folder.At("acts.npz"), "--key", "resid_post.3", "--sae", Upper, "--out", folder.At("codes.npz"));
        using var codes = new Arrays(folder.At("codes.npz"));
        JsonElement saes = Program.Json(["features", Text, .. edited, "--sae", Upper, "--top", "100000"]).GetProperty("saes");
        Assert.Equal(["resid_post.1", "resid_post.3"], saes.EnumerateArray().Select(s => s.GetProperty("site").GetString()));
        int[] start = codes.Ints("row_ptr"), features = codes.Ints("feature");
        JsonElement[] tokens = [.. saes[1].GetProperty("tokens").EnumerateArray()];
        for (int t = 0; t < tokens.Length; t++)
            Assert.Equal(features[start[t]..start[t + 1]], tokens[t].GetProperty("features")
                .EnumerateArray().Select(f => f.GetProperty("index").GetInt32()).Order());
        // A feature that is steered far enough fires where it is shown, after the edit.
        Assert.Contains(saes[0].GetProperty("tokens")[5].GetProperty("features").EnumerateArray(),
            f => f.GetProperty("index").GetInt32() == 7);
    }

    [Fact]
    public void A_list_of_positions_is_edited_and_nothing_else()
    {
        using var folder = new TempFolder();
        float[] plain = Capture(folder, "resid_post.3"),
            edited = Capture(folder, "resid_post.3", "--splice", "zero", "--edit-at", "0,3,5-6");
        for (int t = 0; t < plain.Length / Width; t++)
        {
            float[] row = edited[(t * Width)..((t + 1) * Width)];
            if (t is 0 or 3 or 5 or 6)
                Assert.All(row, v => Assert.Equal(0f, v));
            else
                Assert.Equal(plain[(t * Width)..((t + 1) * Width)], row);
        }
    }

    [Fact]
    public void The_mean_of_a_file_of_tokens_or_of_stored_activations_takes_the_activations_place()
    {
        using var folder = new TempFolder();
        string tokens =
            folder.Write("tokens.json", System.Text.Encoding.UTF8.GetBytes($"[[{string.Join(',', Ids().Prepend(2))}],[2,1588,580,1536]]"));
        Program.Json("eval", "--sae", Upper, "--tokens-file", tokens, "--no-gradients", "--out", folder.At("eval.npz"),
            "--arrays", "summary");
        using var evaluation = new Arrays(folder.At("eval.npz"));
        float[] mean = Array.ConvertAll(evaluation.Doubles("xbar"), v => (float)v);
        float[] ofTokens = Capture(folder, "resid_post.3", "--splice", "mean", "--mean-from", tokens);
        float[] ofEvaluation = Capture(folder, "resid_post.3", "--splice", "mean", "--mean-from", folder.At("eval.npz"));
        for (int t = 1; t < ofTokens.Length / Width; t++)
        {
            Close.Assert(mean, ofTokens.AsSpan(t * Width, Width), 1e-6);
            Assert.Equal(mean, ofEvaluation[(t * Width)..((t + 1) * Width)]);
        }

        // Activations of a run: the mean over its rows, of which <bos> does not count.
        float[] plain = Capture(folder, "resid_post.3");
        float[] ofRows =
            [.. Enumerable.Range(0, Width)
                .Select(j => (float)Enumerable.Range(1, (plain.Length / Width) - 1).Average(t => (double)plain[(t * Width) + j]))];
        File.Copy(folder.At("acts.npz"), folder.At("stored.npz"));
        Close.Assert(ofRows, Capture(folder, "resid_post.3", "--splice", "mean", "--mean-from", folder.At("stored.npz"))
            .AsSpan(Width, Width), 1e-6);
        string text = folder.Write("text.txt", System.Text.Encoding.UTF8.GetBytes(Text));
        Close.Assert(ofRows, Capture(folder, "resid_post.3", "--splice", "mean", "--mean-from", text).AsSpan(Width, Width), 1e-5);
    }

    [Fact]
    public void Edits_of_several_SAEs_act_in_cached_steps_as_in_one_pass()
    {
        string[] edits =
            ["--sae", Lower, "--clamp", "447=20", "--sae", Upper, "--steer", "1652=+10", "--edit-at", "3-", "--sae", Upper,
                "--ablate", "562"];
        JsonElement generated = Program.Json(["generate", "There was once a", "--max-new-tokens", "6", "--ignore-eos", .. edits]);
        int[] prompt = generated.Ints("prompt_tokens"), tokens = generated.Ints("tokens");
        for (int n = 0; n < tokens.Length; n += 2)
        {
            JsonElement whole = Program.Json(["run", "--tokens", string.Join(',', prompt.Concat(tokens[..n])), "--top", "1", .. edits]);
            Assert.Equal(tokens[n], whole.GetProperty("top")[0].GetProperty("id").GetInt32());
        }

        Assert.NotEqual(tokens, Program.Json("generate", "There was once a", "--max-new-tokens", "6", "--ignore-eos").Ints("tokens"));
    }

    [Fact]
    public void With_one_SAE_the_order_of_options_does_not_matter_and_with_several_an_edit_needs_its_SAE()
    {
        string[] generate = ["generate", "There was once a", "--max-new-tokens", "12"];
        string before = Program.Run([.. generate, "--edit-at", "all", "--steer", "1652=+10", "--sae", Upper]).Output;
        Assert.Equal(before, Program.Run([.. generate, "--sae", Upper, "--steer", "1652=+10", "--edit-at", "all"]).Output);
        Assert.Equal(before, Program.Run([.. generate, "--edit-at", "all", "--sae", Lower, "--sae", Upper, "--steer=1652=+10"]).Output);
        Program.Run([.. generate, "--steer", "1652=+10", "--sae", Upper, "--sae", Lower])
            .AssertFailed(2, "--steer 1652=+10 stands before the first of several --sae");
        Program.Run([.. generate, "--sae", Upper, "--site", "resid_post.3", "--site", "resid_post.2"])
            .AssertFailed(2, "--site is given twice for res.3.2k.l0_19");
        Program.Run([.. generate, "--splice", "sae", "--splice", "zero"]).AssertFailed(2, "--splice is given twice");
    }

    [Fact]
    public void Bad_edits_are_one_sentence()
    {
        using var folder = new TempFolder();
        Program.Run("run", Text, "--splice", "mean").AssertFailed(2, "--splice mean needs --mean-from");
        Program.Run("run", Text, "--splice", "sae", "--mean-from", "f").AssertFailed(2, "--mean-from belongs to --splice mean");
        Program.Run("run", Text, "--splice", "mean", "--mean-from", folder.At("none.npz")).AssertFailed(1, "none.npz");
        Program.Run("run", Text, "--splice", "mean", "--mean-from", folder.At("none.txt")).AssertFailed(1, "none.txt");
        Capture(folder, "z.3");
        Program.Run("run", Text, "--splice", "mean", "--mean-from", folder.At("acts.npz"))
            .AssertFailed(1, "there is no array 'resid_post.3'", "z.3");
        Program.Run("run", Text, "--splice", "median").AssertFailed(2, "'median' is not a splice");
        Program.Run("run", Text, "--splice", "zero", "--edit-at", "5-3").AssertFailed(2, "'5-3' is not a place for edits");
        Program.Run("run", Text, "--splice", "zero", "--edit-at", "1,99").AssertFailed(1, "position 99", "0 to 8");
        Program.Run("features", Text, "--ablate", "2048").AssertFailed(1, "feature 2048 is outside the width");
        Program.Run("run", Text, "--sae", folder.At("none")).AssertFailed(1, "none");
        Program.Run("run", Text, "--sae", Upper, "--site", "resid_post.6").AssertFailed(1, "layers 0 to 5");
    }

    [Fact]
    public void A_use_that_looks_wrong_is_warned_of_on_standard_error()
    {
        Assert.Contains("includes <bos>", Program.Run("run", Text, "--splice", "sae", "--edit-at", "all").Error, StringComparison.Ordinal);
        Assert.Contains("times as long as the activations", Program.Run("run", Text, "--steer", "69=1000").Error, StringComparison.Ordinal);
        Assert.Contains("fires nowhere in this text", Program.Run("run", Text, "--ablate", "1652").Error, StringComparison.Ordinal);
        Assert.Contains("includes no position", Program.Run("run", "--tokens", "2", "--splice", "zero").Error, StringComparison.Ordinal);
        Assert.Equal("", Program.Run("run", Text, "--sae", Lower, "--steer", "7=10", "--sae", Upper, "--splice", "sae+error").Error);
        // All tokens are bytes of emoji, of which each is like the others: nothing is wrong with the place.
        Assert.Equal("", Program.Run("features", "\U0001F600\U0001F601\U0001F602\U0001F603").Error);
        Outcome misplaced = Program.Run("features", Text, "--sae", Lower, "--site", "resid_post.3", "--json");
        misplaced.Json();
        string warning = Assert.Single(misplaced.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains("it fits better at resid_post.1", warning, StringComparison.Ordinal);
    }

    [Fact]
    public void Values_that_are_no_numbers_are_no_answer()
    {
        string[] edits = [.. Enumerable.Repeat(new[] { "--steer", "69=3e38" }, 20).SelectMany(e => e)];
        foreach (string verb in new[] { "run", "features", "generate" })
        {
            Outcome outcome = Program.Run([verb, "a b", .. edits]);
            Assert.Equal(1, outcome.ExitCode);
            Assert.Matches("(no|not) finite numbers", outcome.Error);
            Assert.DoesNotContain("   at ", outcome.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_feature_that_cannot_fire_is_called_dead()
    {
        string sae = Fixtures.Path("sae", "saes", "gs-thresholds-48x96");
        using var parameters = NpzFile.Open(Path.Combine(sae, "params.npz"));
        int dead = Array.FindIndex(parameters["threshold"].ToFloats(), v => v > 1e29);
        string[] arguments =
            ["run", "--model", Fixtures.Path("sae", "evaluation", "model"), "--tokens", "2,17,44,9,100,23", "--sae", sae,
                "--site", "resid_post.2"];
        foreach (string edit in new[] { "--clamp", "--steer" })
            Assert.Contains($"feature {dead} of {sae} is dead", Program.Run([.. arguments, edit, $"{dead}=3"]).Error,
                StringComparison.Ordinal);
    }

    private static int[] Ids() => Program.Json("tokenize", Text).Ints("ids");

    private static float[] Logits(TempFolder folder, params string[] edits) => Capture(folder, "logits", edits);

    private static float[] Capture(TempFolder folder, string point, params string[] edits)
    {
        Program.Json(["run", Text, "--capture", point, "--out", folder.At("acts.npz"), .. edits]);
        using var acts = new Arrays(folder.At("acts.npz"));
        return acts.Floats(point);
    }
}

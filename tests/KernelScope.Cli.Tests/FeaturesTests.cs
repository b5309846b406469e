using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>features</c> against SAELens' codes of transformers' activations (fixtures/demo/goldens).</summary>
public sealed class FeaturesTests
{
    private const string EveryFeature = "100000";

    public static TheoryData<string, string> Goldens() => new()
    {
        { "tale", "res.3.2k.l0_19" }, { "scripture", "res.3.2k.l0_19" }, { "question", "res.3.2k.l0_19" }, { "csharp", "res.3.2k.l0_19" },
            { "numbers", "res.3.2k.l0_57" }, { "languages", "res.1.1k.l0_26" },
        { "tale", "res.5.1k.l0_37" }, { "tale", "att.3.1k.l0_42" }, { "tale", "mlp.3.1k.l0_37" }, { "tale", "transcoder.3.1k.l0_20" },
    };

    [Theory]
    [MemberData(nameof(Goldens))]
    public void Codes_equal_SAELens(string text, string sae)
    {
        JsonElement result = Program.Json("features", Fixtures.DemoText(text), "--sae", sae, "--top", EveryFeature);
        Assert.Equal("demo", result.GetProperty("model").GetString());
        Assert.Equal(sae, result.GetProperty("sae").GetString());
        CheckCodes(result, text, sae);
    }

    [Fact]
    public void The_emulated_GPU_gives_the_same_codes() =>
        CheckCodes(Program.Json("features", Fixtures.DemoText("numbers"), "--sae", "res.3.2k.l0_57", "--top", EveryFeature,
            "--device", "emulated"), "numbers", "res.3.2k.l0_57");

    [Fact]
    public void A_model_folder_and_an_SAE_file_give_what_the_embedded_ones_give()
    {
        string sae = Path.Combine(Fixtures.DemoSaes, "transcoder", "layer_3", "width_1k", "average_l0_20", "params.npz");
        JsonElement result =
            Program.Json("features", Fixtures.DemoText("tale"), "--model", Fixtures.DemoModel, "--sae", sae, "--top", EveryFeature,
                "--device", "reference");
        Assert.Equal(Fixtures.DemoModel, result.GetProperty("model").GetString());
        Assert.Equal("mlp_in_unit.3", result.GetProperty("site").GetString());
        CheckCodes(result, "tale", "transcoder.3.1k.l0_20");
    }

    [Fact]
    public void The_site_of_an_SAE_that_does_not_name_one_comes_from_the_option()
    {
        using var folder = new TempFolder();
        string sae = folder.At("moved.npz");
        File.Copy(Path.Combine(Fixtures.DemoSaes, "att", "layer_3", "width_1k", "average_l0_42", "params.npz"), sae);
        CheckCodes(Program.Json("features", Fixtures.DemoText("tale"), "--sae", sae, "--site", "blocks.3.attn.hook_z", "--top",
            EveryFeature), "tale", "att.3.1k.l0_42");
        Program.Run("features", "--sae", sae).AssertFailed(1, "--site", "256 values", "z.0-5");
    }

    [Fact]
    public void Token_ids_and_standard_input_give_what_the_text_gives()
    {
        string text = "And the king said, Let there be light.";
        string expected = Program.Run("features", text, "--json").Output;
        string ids =
            string.Join(',', JsonElement.Parse(expected).GetProperty("tokens").EnumerateArray()
                .Select(t => t.GetProperty("id").GetInt32()));
        Assert.Equal(expected, Program.Run("features", "--tokens", ids, "--json").Output);
        Assert.Equal(expected, Program.RunWith(text + "\n", null, "features", "-", "--json").Output);
        Assert.Equal(expected, Program.Run("--threads", "1", "features", text, "--json").Output);
    }

    [Fact]
    public void Top_and_minimum_cut_the_list_of_the_strongest()
    {
        JsonElement.ArrayEnumerator all = Program.Json("features", "the river", "--top", EveryFeature).GetProperty("tokens")
            .EnumerateArray();
        JsonElement.ArrayEnumerator cut = Program.Json("features", "the river", "--top", "3", "--min-activation", "10.5")
            .GetProperty("tokens").EnumerateArray();
        foreach ((JsonElement whole, JsonElement part) in all.Zip(cut))
            Assert.Equal(Pairs(whole).Where(p => p.Value >= 10.5).Take(3), Pairs(part));
    }

    [Fact]
    public void Tokens_are_shown_as_what_they_say()
    {
        JsonElement result = Program.Json("features", "the king\t☃\n");
        Assert.Equal(["<bos>", "the", " king", "\t", "<0xE2>", "<0x98>", "<0x83>", "\n"],
            result.GetProperty("tokens").EnumerateArray().Select(t => t.GetProperty("text").GetString()!));
    }

    [Fact]
    public void On_a_terminal_or_in_a_file_known_features_are_explained()
    {
        Outcome outcome = Program.Run("features", "More than anything she wished for a river. \u001B[31m");
        Assert.Equal(0, outcome.ExitCode);
        Assert.Contains("1738", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("tales whose hero is a girl", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("█", outcome.Output, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001B', outcome.Output);
        Assert.Equal("", outcome.Error);
    }

    [Fact]
    public void Without_a_text_there_is_an_example() => Assert.True(Program.Json("features").GetProperty("tokens").GetArrayLength() > 10);

    private static void CheckCodes(JsonElement result, string text, string sae)
    {
        using var run = new Arrays(Fixtures.Path("demo", "goldens", $"text-{text}.npz"));
        using var codes = new Arrays(Fixtures.Path("demo", "goldens", $"sae-{sae}.npz"));
        JsonElement[] tokens = [.. result.GetProperty("tokens").EnumerateArray()];
        Assert.Equal(run.Ints("tokens"), tokens.Select(t => t.GetProperty("id").GetInt32()));
        int[] starts = codes.Ints($"row_ptr_{text}"), features = codes.Ints($"feature_{text}"), near = codes.Ints($"near_{text}");
        float[] values = codes.Floats($"value_{text}");
        double allowed = 1e-5 * values.Max();
        for (int t = 0; t < tokens.Length; t++)
        {
            (int Feature, double Value)[] actual = [.. Pairs(tokens[t])];
            Assert.Equal(actual.OrderByDescending(p => p.Value).ThenBy(p => p.Feature), actual);
            Dictionary<int, double> got = actual.ToDictionary(p => p.Feature, p => p.Value);
            Dictionary<int, float> wanted = Enumerable.Range(starts[t], starts[t + 1] - starts[t])
                .ToDictionary(i => features[i], i => values[i]);
            HashSet<int> free = [.. Enumerable.Range(0, near.Length / 2).Where(i => near[2 * i] == t).Select(i => near[(2 * i) + 1])];
            Assert.Empty(wanted.Keys.Except(got.Keys).Concat(got.Keys.Except(wanted.Keys)).Except(free));
            foreach (int feature in wanted.Keys.Intersect(got.Keys))
                Assert.True(Math.Abs(wanted[feature] - got[feature]) <= allowed,
                    $"token {t}, feature {feature}: {got[feature]} instead of {wanted[feature]}");
        }
    }

    private static IEnumerable<(int Feature, double Value)> Pairs(JsonElement token) =>
        token.GetProperty("features").EnumerateArray()
            .Select(f => (f.GetProperty("index").GetInt32(), f.GetProperty("activation").GetDouble()));

    [Fact]
    public void A_feature_of_which_something_is_known_carries_its_meaning()
    {
        JsonElement tokens = Program.Json("features", "More than anything she wished for a river.", "--top", "100").GetProperty("tokens");
        JsonElement[] features = [.. tokens.EnumerateArray().SelectMany(t => t.GetProperty("features").EnumerateArray())];
        Assert.Contains(features, f => f.GetProperty("index").GetInt32() == 1738);
        foreach (JsonElement feature in features)
        {
            bool known = feature.TryGetProperty("meaning", out JsonElement meaning);
            if (feature.GetProperty("index").GetInt32() == 1738)
                Assert.StartsWith("tales whose hero is a girl", meaning.GetString(), StringComparison.Ordinal);
            else if (feature.GetProperty("index").GetInt32() == 562)
                Assert.False(known);
        }
    }

    [Fact]
    public void The_run_before_a_profile_which_the_compiler_needs_is_not_in_it()
    {
        string profile = Program.Run("features", "the king", "--profile").Error;
        Assert.Matches(@"(?m)^Embed +1 ", profile);
    }
}

using System.Globalization;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>generate</c> against transformers' greedy continuations, with and without steering (fixtures/demo/goldens).</summary>
public sealed class GenerateTests
{
    [Theory]
    [InlineData("tale", "cpu")]
    [InlineData("scripture", "cpu")]
    [InlineData("question", "cpu")]
    [InlineData("csharp", "cpu")]
    [InlineData("numbers", "cpu")]
    [InlineData("languages", "cpu")]
    [InlineData("tale", "reference")]
    public void Greedy_tokens_equal_transformers(string text, string device)
    {
        JsonElement result =
            Program.Json("generate", Fixtures.DemoText(text), "--max-new-tokens", "40", "--ignore-eos", "--device", device);
        using var golden = new Arrays(Fixtures.Path("demo", "goldens", $"text-{text}.npz"));
        Assert.Equal(golden.Ints("tokens"), result.Ints("prompt_tokens"));
        Assert.Equal(golden.Ints("greedy_tokens"), result.Ints("tokens"));
        Assert.Equal("max_new_tokens", result.GetProperty("stop").GetString());
    }

    public static TheoryData<int> SteeringCases() =>
        [.. Enumerable.Range(0, Fixtures.Json("demo", "goldens", "steering.json").GetArrayLength())];

    [Theory]
    [MemberData(nameof(SteeringCases))]
    public void Steered_and_plain_tokens_equal_the_goldens(int index)
    {
        JsonElement golden = Fixtures.Json("demo", "goldens", "steering.json")[index];
        string prompt = golden.GetProperty("prompt").GetString()!;
        string steer =
            string.Create(CultureInfo.InvariantCulture,
                $"{golden.GetProperty("feature").GetInt32()}={golden.GetProperty("strength").GetDouble():+0;-0}");
        string[] common = ["generate", prompt, "--max-new-tokens", "40", "--ignore-eos"];
        JsonElement steered = Program.Json([.. common, "--sae", golden.GetProperty("sae").GetString()!, "--steer", steer]);
        Assert.Equal(golden.Ints("steered"), steered.Ints("tokens"));
        Assert.Equal(golden.GetProperty("steered_text").GetString(), steered.GetProperty("text").GetString());
        Assert.Equal(golden.GetProperty("plain_text").GetString() + "\n", Program.Run(common).Output);
    }

    [Fact]
    public void An_end_of_text_token_stops_unless_it_is_ignored()
    {
        string[] question = ["generate", "What is a harbour?", "--chat", "--max-new-tokens", "60"];
        JsonElement answer = Program.Json(question);
        Assert.Equal("end_of_text", answer.GetProperty("stop").GetString());
        Assert.Equal(1, answer.Ints("tokens")[^1]);
        JsonElement all = Program.Json([.. question, "--ignore-eos"]);
        Assert.Equal(60, all.Ints("tokens").Length);
        Assert.Equal(answer.Ints("tokens"), all.Ints("tokens")[..answer.Ints("tokens").Length]);
    }

    [Fact]
    public void Chat_puts_the_prompt_into_the_template()
    {
        JsonElement row = Fixtures.Rows("chat-cases.jsonl.gz")
            .First(r => r.TryGetProperty("ids", out _) && r.GetProperty("messages").GetArrayLength() == 1
            && r.GetProperty("add_generation_prompt").GetBoolean() && r.GetProperty("messages")[0].GetProperty("role").GetString() == "user"
            && r.GetProperty("messages")[0].GetProperty("content").GetString()!.Length > 10);
        JsonElement result =
            Program.Json("generate", row.GetProperty("messages")[0].GetProperty("content").GetString()!, "--chat", "--max-new-tokens", "1");
        Assert.Equal(row.Ints("ids"), result.Ints("prompt_tokens"));
    }

    [Fact]
    public void The_context_fills_up()
    {
        string ids = string.Join(',', Enumerable.Repeat(1715, 509).Prepend(2));
        JsonElement result = Program.Json("generate", "--tokens", ids, "--max-new-tokens", "40", "--ignore-eos");
        Assert.Equal("context_full", result.GetProperty("stop").GetString());
        Assert.Equal(3, result.Ints("tokens").Length);
    }

    [Fact]
    public void Sampling_repeats_with_its_seed()
    {
        string[] sampled =
            ["generate", "Once upon a time", "--temperature", "1.1", "--top-k", "50", "--top-p", "0.9", "--max-new-tokens", "16", "--json"];
        string first = Program.Run([.. sampled, "--seed", "7"]).Output;
        Assert.Equal(first, Program.Run([.. sampled, "--seed", "7"]).Output);
        Assert.NotEqual(first, Program.Run([.. sampled, "--seed", "8"]).Output);
    }

    [Fact]
    public void Features_come_with_each_token_and_show_what_edits_did()
    {
        string[] common = ["generate", "There was once a", "--max-new-tokens", "6", "--features", "--top", "100000"];
        JsonElement plain = Program.Json(common);
        Assert.Equal("resid_post.3", plain.GetProperty("site").GetString());
        Assert.Equal(plain.Ints("tokens"), plain.GetProperty("features").EnumerateArray().Select(f => f.GetProperty("id").GetInt32()));
        // What the features verb says of the same tokens, all at once.
        string ids = string.Join(',', plain.Ints("prompt_tokens").Concat(plain.Ints("tokens")));
        JsonElement[] whole = [.. Program.Json("features", "--tokens", ids, "--top", "100000").GetProperty("tokens").EnumerateArray()];
        foreach ((JsonElement step, JsonElement row) in plain.GetProperty("features").EnumerateArray().Zip(whole[^6..]))
            Assert.Equal(Active(row), Active(step));
        JsonElement steered = Program.Json([.. common, "--steer", "1652=+20"]);
        Assert.All(steered.GetProperty("features").EnumerateArray(), f => Assert.Contains(1652, Active(f)));
        Assert.Contains("1652", Program.Run("generate", "There was once a", "--max-new-tokens", "6", "--features", "--steer", "1652=+20")
            .Output, StringComparison.Ordinal);
    }

    [Fact]
    public void An_edit_that_changes_nothing_changes_no_token()
    {
        string[] common = ["generate", "There was once a", "--max-new-tokens", "20"];
        string plain = Program.Run(common).Output;
        Assert.Equal(plain, Program.Run([.. common, "--splice", "sae+error", "--edit-at", "all"]).Output);
        Assert.Equal(plain, Program.Run([.. common, "--steer", "1652=0"]).Output);
        Assert.NotEqual(plain, Program.Run([.. common, "--splice", "zero"]).Output);
    }

    [Fact]
    public void Ablation_is_a_clamp_to_zero()
    {
        string[] common =
            ["generate", "She loved the river", "--max-new-tokens", "20", "--sae", "transcoder.3.1k.l0_20", "--edit-at", "from_last"];
        Assert.Equal(Program.Run([.. common, "--clamp", "3=0", "--clamp", "17=0"]).Output,
            Program.Run([.. common, "--ablate", "3", "--ablate", "17"]).Output);
    }

    [Fact]
    public void A_model_without_a_tokenizer_takes_and_gives_ids()
    {
        string folder = Fixtures.Path("gemma2", "models", "base");
        using var golden = new Arrays(Path.Combine(folder, "expected.npz"));
        string ids = string.Join(',', golden.Ints("tokens"));
        JsonElement result = Program.Json("generate", "--model", folder, "--tokens", ids, "--max-new-tokens", "24", "--ignore-eos");
        Assert.Equal(golden.Ints("greedy_tokens"), result.Ints("tokens"));
        Assert.Equal(JsonValueKind.Null, result.GetProperty("text").ValueKind);
        Program.Run("generate", "--model", folder, "hello").AssertFailed(1, "tokenizer.model", "--tokens");
    }

    [Fact]
    public void A_stop_text_ends_the_text_before_it()
    {
        string[] common = ["generate", "Once upon a time", "--max-new-tokens", "30", "--ignore-eos"];
        string whole = Program.Json(common).GetProperty("text").GetString()!;
        // From the middle of one word to the middle of another.
        string stop = whole[21..29];
        JsonElement result = Program.Json([.. common, "--stop", "nowhere in it", "--stop", stop]);
        Assert.Equal(whole[..whole.IndexOf(stop, StringComparison.Ordinal)], result.GetProperty("text").GetString());
        Assert.Equal("stop_string", result.GetProperty("stop").GetString());
        Assert.Equal(result.GetProperty("text").GetString() + "\n", Program.Run([.. common, "--stop", stop]).Output);
        Program.Run([.. common, "--stop", ""]).AssertFailed(2, "--stop");
        Program.Run("generate", "--model", Fixtures.Path("gemma2", "models", "base"), "--tokens", "2,5", "--stop", "x")
            .AssertFailed(1, "tokenizer");
    }

    /// <summary>The logits of run, which are transformers' (RunTests), make the log-probabilities by arithmetic.</summary>
    [Fact]
    public void Log_probabilities_follow_from_the_logits()
    {
        using var folder = new TempFolder();
        string[] sampled =
            ["generate", "And the king said", "--max-new-tokens", "3", "--temperature", "2", "--seed", "3", "--repetition-penalty",
                "1.5", "--logprobs", "4"];
        JsonElement result = Program.Json(sampled);
        string ids = string.Join(',', result.Ints("prompt_tokens").Concat(result.Ints("tokens")));
        Program.Json("run", "--tokens", ids, "--capture", "logits", "--out", folder.At("a.npz"));
        using var acts = new Arrays(folder.At("a.npz"));
        float[] logits = acts.Floats("logits");
        int first = result.Ints("prompt_tokens").Length - 1, vocabulary = logits.Length / (first + 4);
        JsonElement[] rows = [.. result.GetProperty("logprobs").EnumerateArray()];
        Assert.Equal(3, rows.Length);
        for (int t = 0; t < rows.Length; t++)
        {
            double[] row = [.. logits.AsSpan((first + t) * vocabulary, vocabulary).ToArray().Select(l => (double)l)];
            double sum = Math.Log(row.Sum(l => Math.Exp(l - row.Max()))) + row.Max();
            Assert.Equal(result.Ints("tokens")[t], rows[t].GetProperty("token").GetInt32());
            Assert.Equal(row[rows[t].GetProperty("token").GetInt32()] - sum, rows[t].GetProperty("logprob").GetDouble(), 1e-4);
            JsonElement[] top = [.. rows[t].GetProperty("top").EnumerateArray()];
            Assert.Equal(Enumerable.Range(0, vocabulary).OrderByDescending(i => row[i]).Take(4),
                top.Select(e => e.GetProperty("id").GetInt32()));
            Assert.All(top, e => Assert.Equal(row[e.GetProperty("id").GetInt32()] - sum, e.GetProperty("logprob").GetDouble(), 1e-4));
            Assert.All(top, e => Assert.Equal(JsonValueKind.String, e.GetProperty("text").ValueKind));
        }

        Assert.Equal(3, Program.Run(sampled).Output.TrimEnd().Split('\n').Length);
    }

    [Fact]
    public void No_seed_draws_one_and_says_which()
    {
        string[] sampled = ["generate", "Once upon a time", "--temperature", "1.3", "--max-new-tokens", "8"];
        JsonElement first = Program.Json(sampled);
        ulong seed = first.GetProperty("seed").GetUInt64();
        Assert.Equal(first.Ints("tokens"), Program.Json([.. sampled, "--seed", $"{seed}"]).Ints("tokens"));
        Outcome text = Program.Run(sampled);
        Assert.Matches("--seed [0-9]+", text.Error);
        Assert.Equal("", Program.Run([.. sampled, "--seed", "7"]).Error);
        Assert.False(Program.Json("generate", "Once", "--max-new-tokens", "1").TryGetProperty("seed", out _));
    }

    [Theory]
    [InlineData("--top-k", "5")]
    [InlineData("--top-p", "0.9")]
    [InlineData("--min-p", "0.1")]
    [InlineData("--seed", "7")]
    public void What_needs_chance_is_refused_without_a_temperature(string option, string value) =>
        Program.Run("generate", "Once", "--max-new-tokens", "1", option, value).AssertFailed(2, option, "--temperature");

    [Fact]
    public void Bias_and_penalties_change_the_greedy_text()
    {
        string[] common = ["generate", "Once upon a time", "--max-new-tokens", "12", "--ignore-eos"];
        int[] plain = Program.Json(common).Ints("tokens");
        Assert.All(Program.Json([.. common, "--logit-bias", "700=100"]).Ints("tokens"), id => Assert.Equal(700, id));
        int[] without = Program.Json([.. common, "--logit-bias", $"{plain[0]}=-100", "--logit-bias", $"{plain[3]}=-100"]).Ints("tokens");
        Assert.DoesNotContain(plain[0], without);
        Assert.DoesNotContain(plain[3], without);
        int[] fresh = Program.Json([.. common, "--frequency-penalty", "100"]).Ints("tokens");
        Assert.Equal(fresh.Length, fresh.Distinct().Count());
        JsonElement penalised = Program.Json([.. common, "--repetition-penalty", "1000"]);
        Assert.Empty(penalised.Ints("tokens").Intersect(penalised.Ints("prompt_tokens")));
        Program.Run([.. common, "--logit-bias", "4096=1"]).AssertFailed(1, "4096");
        Program.Run([.. common, "--logit-bias", "x=1"]).AssertFailed(2, "--logit-bias");
        Program.Run([.. common, "--logit-bias", "1=1", "--logit-bias", "1=2"]).AssertFailed(2, "twice");
    }

    [Fact]
    public void A_baseline_is_the_text_without_edits()
    {
        string[] common = ["generate", "There was once a", "--max-new-tokens", "8"];
        JsonElement plain = Program.Json(common), steered = Program.Json([.. common, "--steer", "1652=+20"]),
            both = Program.Json([.. common, "--steer", "1652=+20", "--baseline", "--features"]);
        Assert.Equal(plain.Ints("tokens"), both.GetProperty("baseline").Ints("tokens"));
        Assert.Equal(plain.GetProperty("text").GetString(), both.GetProperty("baseline").GetProperty("text").GetString());
        Assert.Equal(plain.GetProperty("stop").GetString(), both.GetProperty("baseline").GetProperty("stop").GetString());
        Assert.Equal(steered.Ints("tokens"), both.Ints("tokens"));
        Assert.Equal(8, both.GetProperty("features").GetArrayLength());
        string text = Program.Run([.. common, "--steer", "1652=+20", "--baseline"]).Output;
        Assert.Contains(plain.GetProperty("text").GetString()!, text, StringComparison.Ordinal);
        Assert.Contains(steered.GetProperty("text").GetString()!, text, StringComparison.Ordinal);
        Program.Run([.. common, "--baseline"]).AssertFailed(2, "--baseline");
    }

    [Fact]
    public void A_sweep_gives_the_text_of_each_strength()
    {
        string[] common = ["generate", "There was once a", "--max-new-tokens", "8"];
        JsonElement sweep = Program.Json([.. common, "--steer", "1652", "--strengths", "-10:20:10", "--baseline"]);
        JsonElement[] runs = [.. sweep.GetProperty("runs").EnumerateArray()];
        Assert.Equal([-10, 0, 10, 20], runs.Select(r => r.GetProperty("strength").GetDouble()));
        Assert.Equal(sweep.GetProperty("baseline").Ints("tokens"), runs[1].Ints("tokens"));
        foreach (JsonElement run in runs)
        {
            string steer = string.Create(CultureInfo.InvariantCulture, $"1652={run.GetProperty("strength").GetDouble()}");
            JsonElement alone = Program.Json([.. common, "--steer", steer]);
            Assert.Equal(alone.Ints("tokens"), run.Ints("tokens"));
            Assert.Equal(alone.GetProperty("text").GetString(), run.GetProperty("text").GetString());
            Assert.Equal(alone.GetProperty("stop").GetString(), run.GetProperty("stop").GetString());
        }

        Assert.Equal(3, Program.Json([.. common, "--steer", "1652", "--strengths", "0.1:0.3:0.1"]).GetProperty("runs").GetArrayLength());
        Assert.Equal([2, 1], Program.Json([.. common, "--steer", "1652", "--strengths", "2:1:-1"]).GetProperty("runs").EnumerateArray()
            .Select(r => r.GetProperty("strength").GetDouble()));
        foreach (string wrong in (string[])["1:2", "a:2:1", "1:2:0", "1:2:-1", "0:100000:1", "NaN:2:1"])
            Program.Run([.. common, "--steer", "1652", $"--strengths={wrong}"]).AssertFailed(2, "--strengths");
        Program.Run([.. common, "--strengths", "1:2:1"]).AssertFailed(2, "--steer");
        Program.Run([.. common, "--steer", "1652=+3", "--strengths", "1:2:1"]).AssertFailed(2, "--steer");
        Program.Run([.. common, "--steer", "1652", "--strengths", "1:2:1", "--features"]).AssertFailed(2, "--features");
    }

    [Fact]
    public void Features_below_the_minimum_are_nowhere()
    {
        JsonElement all = Program.Json("generate", "There was once a", "--max-new-tokens", "6", "--features", "--top", "100000");
        JsonElement strong =
            Program.Json("generate", "There was once a", "--max-new-tokens", "6", "--features", "--top", "100000", "--min-activation", "5");
        float[] activations = [.. Activations(all)];
        Assert.Contains(activations, a => a < 5);
        Assert.Equal(activations.Where(a => a >= 5), Activations(strong));
    }

    private static IEnumerable<float> Activations(JsonElement result) =>
        result.GetProperty("features").EnumerateArray().SelectMany(t => t.GetProperty("features").EnumerateArray())
            .Select(f => f.GetProperty("activation").GetSingle());

    private static HashSet<int> Active(JsonElement token) =>
        [.. token.GetProperty("features").EnumerateArray().Select(f => f.GetProperty("index").GetInt32())];
}

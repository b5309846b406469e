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
        JsonElement result = Program.Json("generate", Fixtures.DemoText(text), "--max-new-tokens", "40", "--ignore-eos", "--device", device);
        using var golden = new Arrays(Fixtures.Path("demo", "goldens", $"text-{text}.npz"));
        Assert.Equal(golden.Ints("tokens"), result.Ints("prompt_tokens"));
        Assert.Equal(golden.Ints("greedy_tokens"), result.Ints("tokens"));
        Assert.Equal("max_new_tokens", result.GetProperty("stop").GetString());
    }

    public static TheoryData<int> SteeringCases() => [.. Enumerable.Range(0, Fixtures.Json("demo", "goldens", "steering.json").GetArrayLength())];

    [Theory]
    [MemberData(nameof(SteeringCases))]
    public void Steered_and_plain_tokens_equal_the_goldens(int index)
    {
        JsonElement golden = Fixtures.Json("demo", "goldens", "steering.json")[index];
        string prompt = golden.GetProperty("prompt").GetString()!;
        string steer = string.Create(CultureInfo.InvariantCulture, $"{golden.GetProperty("feature").GetInt32()}={golden.GetProperty("strength").GetDouble():+0;-0}");
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
        JsonElement row = Fixtures.Rows("chat-cases.jsonl.gz").First(r => r.TryGetProperty("ids", out _) && r.GetProperty("messages").GetArrayLength() == 1
            && r.GetProperty("add_generation_prompt").GetBoolean() && r.GetProperty("messages")[0].GetProperty("role").GetString() == "user" && r.GetProperty("messages")[0].GetProperty("content").GetString()!.Length > 10);
        JsonElement result = Program.Json("generate", row.GetProperty("messages")[0].GetProperty("content").GetString()!, "--chat", "--max-new-tokens", "1");
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
        string[] sampled = ["generate", "Once upon a time", "--temperature", "1.1", "--top-k", "50", "--top-p", "0.9", "--max-new-tokens", "16", "--json"];
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
        Assert.Contains("1652", Program.Run("generate", "There was once a", "--max-new-tokens", "6", "--features", "--steer", "1652=+20").Output, StringComparison.Ordinal);
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
        string[] common = ["generate", "She loved the river", "--max-new-tokens", "20", "--sae", "transcoder.3.1k.l0_20", "--edit-at", "from_last"];
        Assert.Equal(Program.Run([.. common, "--clamp", "3=0", "--clamp", "17=0"]).Output, Program.Run([.. common, "--ablate", "3", "--ablate", "17"]).Output);
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

    private static HashSet<int> Active(JsonElement token) => [.. token.GetProperty("features").EnumerateArray().Select(f => f.GetProperty("index").GetInt32())];
}

using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace KernelScope.Cli.Tests;

/// <summary>What cannot work says so in one sentence: exit 1 for the work, 2 for the usage.</summary>
public sealed class BadInputTests
{
    public static TheoryData<int, string, string[]> Cases() => new()
    {
        { 2, "a verb is missing", [] },
        { 2, "no verb 'feature'; did you mean 'features'? There are features", ["feature", "x"] },
        { 2, "no option '--tpo'", ["features", "x", "--tpo", "3"] },
        { 2, "no option '--tpo'", ["features", "--tpo"] },
        { 2, "'b' is one word too many", ["features", "a", "b"] },
        { 2, "the text is empty", ["features", ""] },
        { 2, "a text is missing", ["run"] },
        { 2, "a text and --tokens", ["run", "x", "--tokens", "2"] },
        { 2, "a number is missing", ["features", "--tokens", ""] },
        { 2, "'x' is not a number", ["generate", "--tokens", "2,x"] },
        { 2, "--top is 0", ["features", "x", "--top", "0"] },
        { 2, "--top needs a whole number", ["features", "x", "--top", "1.5"] },
        { 2, "--min-activation", ["features", "x", "--min-activation", "nan"] },
        { 2, "'gpu' is not a device", ["features", "x", "--device", "gpu"] },
        { 2, "'cuda:x' is not a device", ["features", "x", "--device", "cuda:x"] },
        { 1, "cuda", ["features", "x", "--device", "cuda:99"] },
        { 2, "'half' is not a precision", ["features", "x", "--precision", "half"] },
        { 1, "exact precision only", ["features", "x", "--precision", "fast", "--device", "reference"] },
        { 2, "--threads is 0", ["features", "x", "--threads", "0"] },
        { 2, "--site: 'resid_posts.3' is not a hook point", ["features", "x", "--site", "resid_posts.3"] },
        { 1, "layers 0 to 5", ["features", "x", "--site", "resid_post.6"] },
        { 1, "sites that would fit: embed, resid_pre.0-5", ["features", "x", "--site", "z.3"] },
        { 1, "cannot write at mlp_out_post.2, which comes before it",
            ["generate", "x", "--sae", "transcoder.3.1k.l0_20", "--site-out", "mlp_out_post.2", "--ablate", "1"] },
        { 1, "no such SAE", ["features", "x", "--sae", "/no/such/sae"] },
        { 1, "no such model", ["features", "x", "--model", "/no/such/model"] },
        { 1, "models--google--gemma-2-99b", ["features", "x", "--model", "google/gemma-2-99b"] },
        { 1, "token id 4096 is outside the vocabulary", ["features", "--tokens", "2,4096"] },
        { 1, "token id -1 is outside the vocabulary", ["run", "--tokens", "-1"] },
        { 1, "token id 99999999999 is outside", ["run", "--tokens", "2,99999999999"] },
        { 1, "token id 4096 does not exist", ["tokenize", "--decode", "4096"] },
        { 2, "exclude each other", ["tokenize", "x", "--decode", "2"] },
        { 1, "/no/such/file", ["tokenize", "--file", "/no/such/file"] },
        { 1, "feature 2048 is outside the width", ["generate", "x", "--steer", "2048=+1"] },
        { 1, "feature -1 is outside the width", ["run", "x", "--clamp", "-1=2"] },
        { 2, "--steer needs a feature and a number", ["generate", "x", "--steer", "5"] },
        { 2, "--clamp needs a feature and a number", ["generate", "x", "--clamp", "5=inf"] },
        { 2, "--ablate needs the index", ["generate", "x", "--ablate", "five"] },
        { 2, "feature 5 is clamped or ablated twice", ["generate", "x", "--clamp", "5=1", "--ablate", "5"] },
        { 2, "'median' is not a splice", ["run", "x", "--splice", "median"] },
        { 2, "'last' is not a place for edits", ["run", "x", "--edit-at", "last", "--ablate", "1"] },
        { 2, "--max-new-tokens is -1", ["generate", "x", "--max-new-tokens", "-1"] },
        { 2, "--temperature is -0.5", ["generate", "x", "--temperature", "-0.5"] },
        { 2, "--top-p is 0", ["generate", "x", "--top-p", "0"] },
        { 2, "--seed needs a whole number", ["generate", "x", "--seed", "-3"] },
        { 2, "--chat needs a text", ["generate", "--tokens", "2", "--chat"] },
        { 2, "--capture needs --out", ["run", "x", "--capture", "all"] },
        { 2, "--out needs --capture", ["run", "x", "--out", "f.npz"] },
        { 2, "--capture: 'foo' is not a hook point", ["run", "x", "--capture", "logits,foo", "--out", "f.npz"] },
        { 1, "there is no z.6", ["run", "x", "--capture", "z.6", "--out", "f.npz"] },
        { 1, "/no/such/folder/f.npz: the file cannot be written", ["run", "x", "--capture", "all", "--out", "/no/such/folder/f.npz"] },
        { 1, "no such file", ["encode", "/no/such.npz", "--key", "x", "--sae", "res.3.2k.l0_19"] },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void One_sentence_says_what_is_wrong(int exitCode, string words, string[] arguments)
    {
        Outcome outcome = Program.Run(arguments);
        outcome.AssertFailed(exitCode, words);
        Assert.Equal("", outcome.Output);
    }

    [Fact]
    public void A_prompt_longer_than_the_context_is_counted()
    {
        string ids = string.Join(',', Enumerable.Repeat(5, 513));
        foreach (string verb in new[] { "features", "generate", "run" })
            Program.Run(verb, "--tokens", ids, "--json").AssertFailed(1, "the prompt has 513 tokens; the context of demo holds 512");
    }

    [Fact]
    public void Another_model_needs_an_SAE_to_be_named() =>
        Program.Run("features", "x", "--model", Fixtures.DemoModel).AssertFailed(2, "an SAE is missing");

    [Fact]
    public void A_broken_model_folder_is_described()
    {
        using var folder = new TempFolder();
        string sharded = folder.Copy(Fixtures.Path("gemma2", "models", "sharded"), "sharded");
        string shard = Directory.GetFiles(sharded, "*.safetensors").Order(StringComparer.Ordinal).Last();
        File.Delete(shard);
        Program.Run("run", "--model", sharded, "--tokens", "2").AssertFailed(1, shard, "no such file");

        string llama = folder.Copy(Fixtures.Path("gemma2", "models", "base"), "llama");
        Change(llama, "model_type", "llama");
        Program.Run("run", "--model", llama, "--tokens", "2").AssertFailed(1, "config.json", "llama");

        string wide = folder.Copy(Fixtures.Path("gemma2", "models", "base"), "wide");
        Change(wide, "intermediate_size", 4096);
        Program.Run("run", "--model", wide, "--tokens", "2").AssertFailed(1, "gate_proj", "4096");
    }

    [Fact]
    public void Too_little_memory_is_known_before_loading()
    {
        using var folder = new TempFolder();
        string model = folder.Copy(Fixtures.Path("gemma2", "models", "base"), "long");
        Change(model, "max_position_embeddings", 2_000_000_000);
        var watch = Stopwatch.StartNew();
        Program.Run("generate", "--model", model, "--tokens", "2", "--max-new-tokens", "1900000000")
            .AssertFailed(1, "MiB of memory", "are available");
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), "it should be known at once");
    }

    [Fact]
    public void Arguments_that_are_not_UTF8_are_refused()
    {
        if (!OperatingSystem.IsLinux())
            return;
        // Only a shell can pass such bytes; .NET would encode them.
        Outcome outcome =
            Program.Finish(
                Program.Start(
                    new ProcessStartInfo(
                        "/bin/sh", ["-c", $"exec '{Program.Host}' exec '{Program.Assembly}' tokenize \"$(printf 'ab\\377c')\""])));
        outcome.AssertFailed(1, "is not valid UTF-8", "0xFF", "offset 2");
        Assert.Equal(0, Program.Run("tokenize", "a real \uFFFD is a character").ExitCode);
    }

    [Fact]
    public void Texts_may_look_like_anything()
    {
        foreach (string text in new[] { "@file", "[directive] x", "- item", "-5", "features", "/?" })
            Assert.True(Program.Json("tokenize", text).GetProperty("ids").GetArrayLength() > 0);
        Assert.Equal(
            "--sae", string.Concat(Program.Run("tokenize", "--json", "--", "--sae").Json().GetProperty("pieces").EnumerateArray()
                .Select(p => p.GetString())));
    }

    [Fact]
    public void A_failure_leaves_no_file_behind_and_the_old_one_alone()
    {
        using var folder = new TempFolder();
        File.WriteAllText(folder.At("acts.npz"), "old");
        Program.Run("run", "x", "--capture", "all", "--out", folder.At("acts.npz"), "--device", "cuda").AssertFailed(1, "cuda");
        Assert.Equal(["acts.npz"], folder.Files);
        Assert.Equal("old", File.ReadAllText(folder.At("acts.npz")));
    }

    private static void Change(string model, string key, JsonValue value)
    {
        string path = Path.Combine(model, "config.json");
        JsonObject config = JsonNode.Parse(File.ReadAllBytes(path))!.AsObject();
        config[key] = value;
        File.WriteAllText(path, config.ToJsonString(new JsonSerializerOptions { WriteIndented = true }));
    }

    private static void Change(string model, string key, string value) => Change(model, key, JsonValue.Create(value));

    private static void Change(string model, string key, int value) => Change(model, key, JsonValue.Create(value));
}

using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary>A model that is not on this machine: what fetches it, how large it is, and whether it would fit.</summary>
public sealed class MissingModelTests : IDisposable
{
    private readonly TempFolder _home = new();

    [Theory]
    [InlineData("google/gemma-2-2b", "google/gemma-2-2b", "10.5 GB in float32")]
    [InlineData("gemma-2-2b", "google/gemma-2-2b", "10.5 GB in float32")]
    [InlineData("gemma-2-2b-it", "google/gemma-2-2b-it", "5.23 GB in bfloat16")]
    [InlineData("Google/Gemma-2-9B", "google/gemma-2-9b", "37.0 GB in float32")]
    [InlineData("27b-it", "google/gemma-2-27b-it", "54.5 GB in bfloat16")]
    [InlineData("google/gema-2-2b", "google/gemma-2-2b", "10.5 GB")]
    [InlineData("someone/finetune", "someone/finetune", "if it is a model of the hub")]
    public void The_sentence_names_the_command_that_fetches_it(string name, string full, string size)
    {
        string[][] commands = [["features", "hi"], ["run", "hi"], ["tokenize", "hi"], ["pack"], ["eval", "--text-file", "demo"]];
        foreach (string[] command in name == "gemma-2-2b" ? commands : commands[..1])
            Run([.. command, "--model", name]).AssertFailed(1, $"kernelscope pull {full}'", size);
    }

    [Fact]
    public void Doctor_answers_whether_it_will_fit_before_any_download()
    {
        string[] doctor = ["doctor", "--model", "gemma-2-2b", "--sae", "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"];
        Outcome outcome = Run([.. doctor, "--device", "cpu", "--json", "--before-download"]);
        JsonElement result = JsonElement.Parse(outcome.Output);
        bool fits = result.GetProperty("before_download")[0].GetProperty("needs")[0].GetProperty("ok").GetBoolean();
        Assert.Equal((fits ? 0 : 1, fits), (outcome.ExitCode, result.GetProperty("would_run").GetBoolean()));
        Outcome plain = Run([.. doctor, "--device", "cpu", "--json"]);
        Assert.Equal((1, fits), (plain.ExitCode, JsonElement.Parse(plain.Output).GetProperty("would_run").GetBoolean()));
        Assert.Equal(4 * 2_614_341_888L, result.GetProperty("model").GetProperty("weight_bytes").GetInt64());
        JsonElement[] before = [.. result.GetProperty("before_download").EnumerateArray()];
        Assert.Equal(
            [("float32", true, 10_457_367_552L), ("bfloat16", false, 5_228_683_776L)],
            before.Select(
                b => (b.GetProperty("dtype").GetString()!, b.GetProperty("is_published").GetBoolean(),
                    b.GetProperty("weight_bytes").GetInt64())));
        JsonElement cpu = before[0].GetProperty("needs")[0];
        Assert.Equal(["weights", "context", "SAE"], cpu.GetProperty("items").EnumerateArray()
            .Select(i => i.GetProperty("what").GetString()));
        Assert.True(cpu.GetProperty("items")[1].GetProperty("bytes").GetInt64() > 8192L * 212_992 / 2);
        Assert.Equal(cpu.GetProperty("needed_bytes").GetInt64() <= cpu.GetProperty("free_bytes").GetInt64(),
            cpu.GetProperty("ok").GetBoolean());

        string text = Run(doctor).Output;
        Assert.Contains("in float32, as it is published, cpu: ", text, StringComparison.Ordinal);
        Assert.Contains("in bfloat16, cpu: ", text, StringComparison.Ordinal);
        string model = text.Split('\n').Single(l => l.StartsWith("model ", StringComparison.Ordinal));
        Assert.Equal(2, model.Split("gemma-2-2b: ").Length);
        Outcome shorter = Run([.. doctor, "--context", "1024", "--json"]);
        Assert.True(JsonElement.Parse(shorter.Output)
            .GetProperty("before_download")[0].GetProperty("needs")[0].GetProperty("items")[1].GetProperty("bytes")
            .GetInt64() < 8192L * 212_992 / 2);
    }

    [Theory]
    [InlineData(0, "2b-it", "--context", "16")]
    [InlineData(1, "2b-it", "--context", "16", "--sae", "nonsense")]
    [InlineData(1, "2b-it", "--context", "16", "--device", "cuda:7")]
    [InlineData(1, "27b")]
    [InlineData(1, "someone/finetune")]
    public void Asked_before_a_download_doctor_ends_with_0_only_where_the_model_would_run(int code, params string[] more)
    {
        // 2B in bfloat16 takes 5.2 GB, 27B in float32 109 GB.
        long free = JsonElement.Parse(Run("doctor", "--json").Output).GetProperty("memory").GetProperty("available_bytes").GetInt64();
        if (free < 7L << 30 || free > 100L << 30)
            return;
        Outcome outcome = Run(["doctor", "--before-download", "--json", "--model", .. more]);
        Assert.Equal((code, code == 0), (outcome.ExitCode, JsonElement.Parse(outcome.Output).GetProperty("would_run").GetBoolean()));
    }

    [Fact]
    public void Doctor_names_a_model_that_is_not_there_once()
    {
        string line = Run("doctor", "--model", "/no/such/model")
            .Output.Split('\n').Single(l => l.StartsWith("model ", StringComparison.Ordinal));
        Assert.StartsWith("model   - /no/such/model: there is no such model", line, StringComparison.Ordinal);
    }

    [Fact]
    public void A_short_name_finds_what_the_cache_has_under_the_whole_one()
    {
        string snapshot = _home.At(Path.Combine("cache", "huggingface", "hub", "models--google--gemma-2-2b", "snapshots", "0123abc"));
        Directory.CreateDirectory(snapshot);
        // What an interrupted download leaves is not the model.
        Run("run", "hi", "--model", "2b").AssertFailed(1, "kernelscope pull google/gemma-2-2b'");
        foreach (string file in Directory.GetFiles(Fixtures.DemoModel))
            File.Copy(file, Path.Combine(snapshot, Path.GetFileName(file)));
        string expected = Run("run", "hi", "--json").Output;
        Assert.NotEqual("", expected);
        foreach (string name in new[] { "google/gemma-2-2b", "gemma-2-2b", "2b" })
            Assert.Equal(expected, Run("run", "hi", "--json", "--model", name).Output);
        Run("doctor", "--context", "513").AssertFailed(2, "--context is 513", "512");
    }

    public void Dispose() => _home.Dispose();

    private Outcome Run(params string[] arguments)
    {
        var environment = new Dictionary<string, string>
        {
            ["HOME"] = _home.Path,
            ["XDG_CACHE_HOME"] = _home.At("cache"),
            ["HF_HOME"] = "",
            ["HF_HUB_CACHE"] = "",
            ["HUGGINGFACE_HUB_CACHE"] = "",
        };
        return Program.RunWith(null, environment, arguments);
    }
}

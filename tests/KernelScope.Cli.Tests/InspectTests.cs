using System.IO.Compression;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary><c>inspect</c> and <c>doctor</c>.</summary>
public sealed class InspectTests
{
    [Fact]
    public void All_hostile_files_get_their_verdict_in_one_run()
    {
        using var folder = new TempFolder();
        ZipFile.ExtractToDirectory(Fixtures.Path("hostile", "hostile.zip"), folder.Path);
        JsonElement[] cases = [.. File.ReadLines(folder.At("cases.jsonl")).Select(line => JsonElement.Parse(line))];
        // Two kinds of cases need links and empty folders, which an archive cannot hold; the readers' own tests make them.
        cases = [.. cases.Where(c => !c.TryGetProperty("links", out _) && Path.Exists(folder.At(c.GetProperty("file").GetString()!)))];
        Assert.True(cases.Length > 300, $"{cases.Length} cases");
        Outcome outcome = Program.Run(["inspect", "--json", .. cases.Select(c => folder.At(c.GetProperty("file").GetString()!))]);
        Assert.Equal((1, ""), (outcome.ExitCode, outcome.Error));
        JsonElement[] results = [.. JsonElement.Parse(outcome.Output).EnumerateArray()];
        Assert.Equal(cases.Length, results.Length);
        foreach ((JsonElement expected, JsonElement result) in cases.Zip(results))
        {
            string file = expected.GetProperty("file").GetString()!, verdict = expected.GetProperty("expect").GetString()!;
            Assert.Equal(folder.At(file), result.GetProperty("path").GetString());
            if (verdict != "either")
                Assert.True(result.GetProperty("ok").GetBoolean() == (verdict == "ok"), $"{file}: {result}");
            Assert.Equal(result.GetProperty("ok").GetBoolean(), result.GetProperty("error").ValueKind == JsonValueKind.Null);
        }
    }

    [Fact]
    public void Tensors_are_listed_with_types_shapes_and_ranges()
    {
        string model = Path.Combine(Fixtures.DemoModel, "model.safetensors");
        JsonElement file = Program.Json("inspect", model, "--ranges")[0];
        Assert.True(file.GetProperty("ok").GetBoolean());
        Assert.Equal("safetensors", file.GetProperty("format").GetString());
        JsonElement embedding = file.GetProperty("tensors").EnumerateArray()
            .Single(t => t.GetProperty("name").GetString() == "model.embed_tokens.weight");
        Assert.Equal("BF16", embedding.GetProperty("dtype").GetString());
        Assert.Equal([4096, 224], embedding.Ints("shape"));
        Assert.True(embedding.GetProperty("range").GetProperty("min").GetDouble() < 0);
        Assert.Contains("BF16  [4096, 224]", Program.Run("inspect", model).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_model_is_summed_up_and_its_tensors_are_listed_on_request()
    {
        foreach (string model in new[] { "demo", Fixtures.DemoModel })
        {
            string summary = Program.Run("inspect", model).Output;
            Assert.Contains("6 layers of width 224: 4 heads of 64 (2 for keys and values), MLPs of 896", summary, StringComparison.Ordinal);
            Assert.Contains("weights 11.1 MB in 68 tensors: 68 BF16", summary, StringComparison.Ordinal);
            Assert.DoesNotContain("model.embed_tokens.weight", summary, StringComparison.Ordinal);
            Assert.Contains("model.embed_tokens.weight", Program.Run("inspect", model, "--all").Output, StringComparison.Ordinal);
            Assert.Contains("mean", Program.Run("inspect", model, "--ranges").Output, StringComparison.Ordinal);
        }

        Assert.Equal(Program.Json("inspect", Fixtures.DemoModel)[0].GetProperty("tensors").GetRawText(),
            Program.Json("inspect", "demo")[0].GetProperty("tensors").GetRawText());
    }

    [Fact]
    public void Names_that_other_verbs_take_are_inspected()
    {
        JsonElement sae = Program.Json("inspect", "res.3.2k.l0_19", "--ranges")[0];
        JsonElement file =
            Program.Json("inspect", Path.Combine(Fixtures.DemoSaes, "res", "layer_3", "width_2k", "average_l0_19"), "--ranges")[0];
        Assert.Equal(file.GetProperty("format").GetString(), sae.GetProperty("format").GetString());
        Assert.Equal(Sorted(file), Sorted(sae));
        Program.Run("inspect", "gemma-2-27b-it").AssertFailed(1, "pull google/gemma-2-27b-it");
        Program.Run("inspect", "gemma-scope-2b-pt-res/layer_3/width_16k/canonical").AssertFailed(1, "kernelscope pull");
        static string[] Sorted(JsonElement result) =>
            [.. result.GetProperty("tensors").EnumerateArray().Select(t => t.GetRawText()).Order(StringComparer.Ordinal)];
    }

    [Fact]
    public void Several_paths_are_answered_and_one_bad_one_makes_it_fail()
    {
        Outcome outcome = Program.Run("inspect", Fixtures.DemoModel, "/no/such/path");
        Assert.Contains("model", outcome.Output, StringComparison.Ordinal);
        outcome.AssertFailed(1, "/no/such/path");
    }

    [Fact]
    public void Doctor_says_what_there_is_and_what_would_run()
    {
        JsonElement result = Program.Json("doctor", "--sae", "res.3.2k.l0_19");
        Assert.All(
            result.GetProperty("kernels").EnumerateArray(),
            k => Assert.Matches("^[A-Z].* from [0-9]+ rows$", k.GetProperty("exact").GetString()));
        Assert.Equal(4, result.GetProperty("kernels").GetArrayLength());
        Assert.Equal(Environment.ProcessorCount, result.GetProperty("cores").GetInt32());
        Assert.True(result.GetProperty("memory").GetProperty("available_bytes").GetInt64() > 0);
        Assert.Contains(result.GetProperty("devices").EnumerateArray(), d => d.GetProperty("name").GetString() == "cpu"
            && d.GetProperty("ok").GetBoolean() && d.GetProperty("detail")
            .GetString()!.Contains("precision fast by", StringComparison.Ordinal));
        Assert.Equal(11_135_936, result.GetProperty("model").GetProperty("weight_bytes").GetInt64());
        Assert.Equal(3_687_296, result.GetProperty("sae").GetProperty("weight_bytes").GetInt64());
        JsonElement cpu = result.GetProperty("needs").EnumerateArray().Single(n => n.GetProperty("device").GetString() == "cpu");
        Assert.True(cpu.GetProperty("ok").GetBoolean());
        Assert.Equal(cpu.GetProperty("needed_bytes").GetInt64(),
            cpu.GetProperty("items").EnumerateArray().Sum(i => i.GetProperty("bytes").GetInt64()));
        Assert.Equal(["weights", "context", "SAE"], cpu.GetProperty("items").EnumerateArray()
            .Select(i => i.GetProperty("what").GetString()));
        Outcome missing = Program.Run("doctor", "--model", "/no/such/model");
        Assert.Equal(1, missing.ExitCode);
        Assert.Contains("/no/such/model", missing.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Doctor_says_what_is_needed_on_the_device_that_was_asked_for()
    {
        Outcome emulated = Program.Run("doctor", "--device", "emulated");
        Assert.Equal((0, ""), (emulated.ExitCode, emulated.Error));
        Assert.Matches(@"needs   \+ emulated: [0-9]+ MiB \(weights 11, context [0-9]+, work space 256\) of [0-9]+ MiB that are free",
            emulated.Output);
        JsonElement nowhere =
            JsonElement.Parse(Program.Run("doctor", "--device", "cuda:999", "--json") is { ExitCode: 1 } outcome ? outcome.Output : "null");
        JsonElement row = nowhere.GetProperty("needs").EnumerateArray()
            .Single(n => n.GetProperty("device").GetString() is "cuda:999" or "cuda");
        Assert.False(row.GetProperty("ok").GetBoolean());
        Assert.Matches("no NVIDIA driver|no device cuda:999|no CUDA device", row.GetProperty("error").GetString());
    }
}

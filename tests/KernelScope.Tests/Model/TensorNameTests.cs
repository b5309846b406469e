using KernelScope.Cli.Inspection;
using KernelScope.Model;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Model;

/// <summary>The names that common writers give Gemma's tensors, each against transformers' goldens of the same tensors.</summary>
public sealed class TensorNameTests : IDisposable
{
    private static readonly Dictionary<string, Func<string, int, string>> Forms = new()
    {
        ["bare model"] = (n, _) => Bare(n),
        ["compiled"] = (n, _) => "_orig_mod." + n,
        ["compiled, bare"] = (n, _) => "_orig_mod." + Bare(n),
        ["inner model compiled"] = (n, _) => "model._orig_mod." + Bare(n),
        ["layers compiled"] = (n, _) => System.Text.RegularExpressions.Regex.Replace(n, @"(layers\.\d+\.)", "$1_orig_mod."),
        ["adapter's wrapper"] = (n, _) => "base_model.model." + n,
        ["adapter's wrapper, bare"] = (n, _) => "base_model.model." + Bare(n),
        ["both"] = (n, _) => "_orig_mod.base_model.model." + n,
        ["both, the other way"] = (n, _) => "base_model.model._orig_mod." + n,
        ["data parallel"] = (n, _) => "module." + n,
        ["each its own"] = (n, i) => (i % 5) switch { 0 => n, 1 => Bare(n), 2 => "_orig_mod." + n, 3 => "base_model.model." + n, _ => "base_model.model." + Bare(n) },
    };

    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, string> FormsAndModels()
    {
        var data = new TheoryData<string, string>();
        foreach (string form in Forms.Keys)
        {
            data.Add(form, "mha");
            data.Add(form, "sharded");
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(FormsAndModels))]
    public void Every_form_of_the_names_is_the_same_model(string form, string name)
    {
        string folder = Renamed(name, Forms[form]);
        using (var run = new GoldenRun(TestDevices.Open("cpu"), name, "", doubles: false, folder))
        {
            foreach ((string array, double error, double limit) in run.Departures())
                Assert.True(error <= limit, $"{array}: departs by {error:g3}, allowed {limit:g3}");
        }

        InspectionResult result = Inspector.Inspect(folder, new InspectOptions());
        Assert.True(result.Ok, result.Error);
        Assert.Contains(result.Remarks, r => r.Contains("names of another form", StringComparison.Ordinal));
    }

    [Fact]
    public void The_hubs_names_need_no_remark() => Assert.Empty(Inspector.Inspect(Fixtures.Path("gemma2", "models", "base"), new InspectOptions()).Remarks);

    [Theory]
    [InlineData("model.layers.0.mlp.up_proj.weight", "_orig_mod.model.layers.0.mlp.up_proj.weight")]
    [InlineData("model.norm.weight", "norm.weight")]
    [InlineData("model.embed_tokens.weight", "base_model.model.model.embed_tokens.weight")]
    public void Two_names_for_one_tensor_must_agree(string name, string other)
    {
        string equal = Altered("mha", t => t[other] = t[name]);
        using (Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(equal))
            Assert.Contains(checkpoint.Remarks, r => r.Contains($"'{name}' and '{other}'", StringComparison.Ordinal));

        string differing = Altered("mha", t => t[other] = t[name] with { Bytes = [.. t[name].Bytes[..^1], (byte)(t[name].Bytes[^1] ^ 1)] });
        string message = Assert.Throws<InvalidDataException>(() => Gemma2Checkpoint.Open(differing)).Message;
        Assert.Contains($"'{name}' and '{other}'", message, StringComparison.Ordinal);
        Assert.False(Inspector.Inspect(differing, new InspectOptions()).Ok);
    }

    [Theory]
    [InlineData("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")]
    [InlineData("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight")]
    [InlineData("model.embed_tokens.lora_embedding_A")]
    public void A_LoRA_adapters_matrices_are_refused_by_name(string name)
    {
        string folder = Altered("mha", t => t[name] = t["model.norm.weight"]);
        string message = Assert.Throws<InvalidDataException>(() => Gemma2Checkpoint.Open(folder)).Message;
        Assert.Contains(name, message, StringComparison.Ordinal);
        Assert.Contains("LoRA", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_with_an_adapter_and_no_model_says_so()
    {
        string folder = _folder.At("adapter");
        Directory.CreateDirectory(folder);
        StoredTensors.Write(Path.Combine(folder, "adapter_model.safetensors"), StoredTensors.Read(Fixtures.Path("gemma2", "models", "mha", "model.safetensors")));
        Assert.Contains("adapter", Assert.Throws<InvalidDataException>(() => Gemma2Checkpoint.Open(folder)).Message, StringComparison.Ordinal);
    }

    private static string Bare(string name) => name.StartsWith("model.", StringComparison.Ordinal) ? name["model.".Length..] : name;

    private string Renamed(string name, Func<string, int, string> rename)
    {
        string folder = _folder.At(Path.GetRandomFileName());
        StoredTensors.CopyModel(Fixtures.Path("gemma2", "models", name), folder, t => t.Select((e, i) => (Name: rename(e.Key, i), e.Value)).ToDictionary(e => e.Name, e => e.Value));
        return folder;
    }

    private string Altered(string name, Action<Dictionary<string, StoredTensor>> change)
    {
        string folder = _folder.At(Path.GetRandomFileName());
        StoredTensors.CopyModel(
            Fixtures.Path("gemma2", "models", name),
            folder,
            t =>
            {
                change(t);
                return t;
            });
        return folder;
    }
}

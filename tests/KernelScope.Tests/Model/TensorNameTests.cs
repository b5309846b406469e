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
        ["language part"] = (n, _) => "language_model." + n,
        ["language part, inside"] = (n, _) => "model.language_model." + Bare(n),
        ["each its own"] = (n, i) => (i % 5) switch
        {
            0 => n,
            1 => Bare(n),
            2 => "_orig_mod." + n,
            3 => "base_model.model." + n,
            _ =>
            "base_model.model." + Bare(n)
        },
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
    public void The_hubs_names_need_no_remark() =>
        Assert.Empty(Inspector.Inspect(Fixtures.Path("gemma2", "models", "base"), new InspectOptions()).Remarks);

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

    /// <summary>What the model has no place for and would change its numbers, with a word of the reason.</summary>
    [Theory]
    [InlineData("model.layers.0.self_attn.q_proj.bias", "biases")]
    [InlineData("base_model.model.model.layers.1.mlp.up_proj.bias", "biases")]
    [InlineData("lm_head.bias", "biases")]
    [InlineData("language_model.lm_head.bias", "biases")]
    [InlineData("model.norm.bias", "biases")]
    [InlineData("model.layers.1.self_attn.q_norm.weight", "another model")]
    [InlineData("model.layers.0.self_attn.k_norm.weight", "another model")]
    [InlineData("model.layers.0.self_attn.q_proj.qweight", "quantized")]
    [InlineData("model.layers.0.mlp.down_proj.scales", "quantized")]
    [InlineData("model.layers.0.mlp.down_proj.weight.absmax", "quantized")]
    [InlineData("model.embed_tokens.weight_scale", "quantized")]
    [InlineData("base_model.model.lm_head.modules_to_save.default.weight", "adapter")]
    [InlineData("policy.lm_head.weight", "lm_head.weight")]
    [InlineData("model.layers.0.mlp.experts.0.up_proj.weight", "no such part")]
    public void A_tensor_that_would_change_the_numbers_is_refused_by_name(string name, string words)
    {
        string folder =
            Altered("mha", t => t[name] = t["model.norm.weight"] with { Bytes = [.. t["model.norm.weight"].Bytes[..^1], 0x3F] });
        string message = Assert.Throws<InvalidDataException>(() => Gemma2Checkpoint.Open(folder)).Message;
        Assert.Contains($"'{name}'", message, StringComparison.Ordinal);
        Assert.Contains(words, message, StringComparison.Ordinal);
        Assert.False(Inspector.Inspect(folder, new InspectOptions()).Ok);
    }

    [Theory]
    [InlineData("model.layers.0.self_attn.rotary_emb.inv_freq")]
    [InlineData("model.rotary_emb.inv_freq")]
    [InlineData("model.layers.0.self_attn._extra_state")]
    [InlineData("v_head.summary.weight")]
    [InlineData("vision_tower.layers.0.self_attn.q_proj.bias")]
    [InlineData("model.layers.40.mlp.up_proj.weight")]
    public void A_tensor_that_changes_nothing_is_told(string name)
    {
        string folder = Altered("mha", t => t[name] = t["model.norm.weight"]);
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(folder);
        Assert.Contains(checkpoint.Remarks, r => r == $"the tensor '{name}' is not read.");
    }

    [Theory]
    [InlineData("lm_head.weight", true)]
    [InlineData("model.layers.0.self_attn.q_proj.bias", true)]
    [InlineData("module.model.norm.weight", false)]
    [InlineData("other.weight", false)]
    public void A_tensor_that_the_index_does_not_name_is_refused_unless_it_changes_nothing(string name, bool isRefused)
    {
        string folder = _folder.At(Path.GetRandomFileName());
        Directory.CreateDirectory(folder);
        foreach (string file in Directory.GetFiles(Fixtures.Path("gemma2", "models", "sharded")))
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        string shard = Directory.GetFiles(folder, "*.safetensors").Order(StringComparer.Ordinal).First();
        Dictionary<string, StoredTensor> tensors = StoredTensors.Read(shard);
        tensors[name] = tensors.Values.First();
        StoredTensors.Write(shard, tensors);
        if (isRefused)
            Assert.Contains($"'{name}' lies in a shard", Assert.Throws<InvalidDataException>(() => Gemma2Checkpoint.Open(folder)).Message,
                StringComparison.Ordinal);
        else
            Gemma2Checkpoint.Open(folder).Dispose();
    }

    [Fact]
    public void Biases_of_zeros_change_nothing_and_are_told_once()
    {
        string[] names =
            [.. Enumerable.Range(0, 2).SelectMany(l => new[] { "q", "k" }.Select(p => $"model.layers.{l}.self_attn.{p}_proj.bias"))];
        string folder = Altered("mha", t =>
        {
            foreach (string name in names)
                t[name] = t["model.norm.weight"] with { Bytes = new byte[t["model.norm.weight"].Bytes.Length] };
        });
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(folder);
        string remark = Assert.Single(checkpoint.Remarks, r => r.Contains("not read", StringComparison.Ordinal));
        Assert.StartsWith($"4 tensors are not read: '{names[1]}'", remark, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("language_model.lm_head.weight")]
    [InlineData("base_model.model.lm_head.weight")]
    [InlineData("module.language_model.lm_head.weight")]
    public void A_head_under_a_wrappers_name_makes_the_logits(string name)
    {
        string folder = Altered("mha", t =>
        {
            t.Remove("lm_head.weight");
            t[name] = t["model.embed_tokens.weight"] with { Bytes = [.. t["model.embed_tokens.weight"].Bytes.Reverse()] };
        });
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(folder);
        Assert.False(checkpoint.IsTied);
        Assert.Equal(name, checkpoint.OutputHead.Name);
    }

    [Fact]
    public void A_folder_with_an_adapter_and_no_model_says_so()
    {
        string folder = _folder.At("adapter");
        Directory.CreateDirectory(folder);
        StoredTensors.Write(Path.Combine(folder, "adapter_model.safetensors"),
            StoredTensors.Read(Fixtures.Path("gemma2", "models", "mha", "model.safetensors")));
        Assert.Contains("adapter", Assert.Throws<InvalidDataException>(() => Gemma2Checkpoint.Open(folder)).Message,
            StringComparison.Ordinal);
    }

    private static string Bare(string name) => name.StartsWith("model.", StringComparison.Ordinal) ? name["model.".Length..] : name;

    private string Renamed(string name, Func<string, int, string> rename)
    {
        string folder = _folder.At(Path.GetRandomFileName());
        StoredTensors.CopyModel(Fixtures.Path("gemma2", "models", name), folder, t => t.Select((e, i) => (Name: rename(e.Key, i), e.Value))
            .ToDictionary(e => e.Name, e => e.Value));
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

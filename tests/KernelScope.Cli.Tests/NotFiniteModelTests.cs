using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary>A model whose weights give values that are not finite numbers: every verb refuses it with one sentence and writes nothing.</summary>
public sealed class NotFiniteModelTests : IDisposable
{
    private const string Text = "She loved the river";
    private static readonly string[] Sae =
        ["--sae", Path.Combine(Fixtures.DemoSaes, "res", "layer_3", "width_2k", "average_l0_19", "params.npz"), "--site", "resid_post.3"];
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Captures_that_hold_one_are_not_written()
    {
        string nan = Nan(), infinite = Infinite();
        Refused(nan, "resid_post.2, position 0", "run", Text, "--capture", "logits,resid_post.2,resid_post.1", "--out",
            _folder.At("n.npz"));
        Refused(infinite, "final_norm, position 0", "run", Text, "--capture", "final_norm", "--out", _folder.At("n.npz"));
        Refused(infinite, "final_norm, position 0", "run", Text);
        _folder.Write("texts.jsonl", "\"She loved the river\"\n\"A king\"\n"u8);
        Refused(nan, "text 1: the activations at resid_post.2, position 0", "run", "--jsonl", _folder.At("texts.jsonl"),
            "--capture", "resid_post.2", "--out", _folder.At("n.npz"));
        Refused(infinite, "text 1: the activations at final_norm, position 0", "run", "--jsonl", _folder.At("texts.jsonl"),
            "--capture", "resid_post.2", "--out", _folder.At("n.npz"));
        Assert.Equal(["texts.jsonl"], _folder.Files);
    }

    [Fact]
    public void Masked_scores_are_minus_infinity_and_are_written()
    {
        Program.Json("run", Text, "--capture", "attn_scores.0,attn_pattern.1", "--out", _folder.At("n.npz"), "--chunk", "2");
        using var arrays = new Arrays(_folder.At("n.npz"));
        Assert.Contains(float.NegativeInfinity, arrays.Floats("attn_scores.0"));
    }

    [Fact]
    public void The_lens_has_no_answer()
    {
        string infinite = Infinite();
        Refused(Nan(), "resid_post.3, position 0", "lens", Text, "--site", "resid_post.3");
        Refused(infinite, "resid_post.3, position 0", "lens", Text, "--site", "resid_post.3");
        Refused(infinite, "final_norm, position 0", "lens", Text, "--site", "final_norm");
        Refused(infinite, "the logits that feature 1738 adds", ["lens", "--feature", "1738", .. Sae]);
    }

    [Fact]
    public void Nothing_is_attributed()
    {
        Refused(Nan(), "resid_post.3, position 0", ["attribute", Text, "--loss", .. Sae]);
        Refused(Huge(), "are not finite", ["attribute", Text, "--loss", .. Sae]);
        Refused(Infinite(), "are not finite", ["attribute", Text, "--loss", .. Sae]);
    }

    [Fact]
    public void No_feature_fires_on_values_that_are_none_and_that_is_an_error()
    {
        string nan = Nan();
        _folder.Write("text.txt", "She loved the river more than anything."u8);
        Refused(nan, "resid_post.3, position 0", ["top", "1738", "--text-file", _folder.At("text.txt"), .. Sae]);
        Refused(nan, "resid_post.3, position 0", ["features", Text, .. Sae]);
    }

    [Fact]
    public void An_evaluation_ends_before_it_writes()
    {
        _folder.Write("text.txt", "She loved the river more than anything."u8);
        string[] eval =
            ["eval", "--text-file", _folder.At("text.txt"), "--resamples", "5", "--out", _folder.At("e.npz"), "--report",
                _folder.At("e.html"), "--arrays", "all", .. Sae];
        Refused(Nan(), "mlp_out.2, position 0", eval);
        Refused(Huge(), ".5, position 0", [.. eval, "--no-gradients"]);
        Refused(Infinite(), "final_norm, position 0", [.. eval, "--no-gradients"]);
        Assert.Equal(["text.txt"], _folder.Files);
    }

    [Theory]
    [InlineData("model.norm.weight", 0x7F80, "final_norm, position 0")]
    [InlineData("model.norm.weight", 0xFF80, "final_norm, position 0")]
    [InlineData("model.norm.weight", 0x7FC0, "final_norm, position 0")]
    [InlineData("model.layers.2.input_layernorm.weight", 0x7F80, "attn_in.2, position 0")]
    [InlineData("model.layers.4.post_feedforward_layernorm.weight", 0x7FC0, "mlp_out_post.4, position 0")]
    [InlineData("model.layers.0.post_attention_layernorm.weight", 0x7F80, "attn_out_post.0, position 0")]
    public void Nothing_is_generated_and_the_first_place_is_named(string tensor, ushort value, string place)
    {
        string model = Model("bad", tensor, value, all: false);
        Refused(model, place, "generate", Text, "--max-new-tokens", "3");
        Refused(model, place, "generate", Text, "--max-new-tokens", "3", "--temperature", "1", "--seed", "1");
        Refused(model, place, "generate", Text, "--max-new-tokens", "3", "--temperature", "1", "--top-k", "5", "--seed",
            "1", "--frequency-penalty", "0.5");
        Refused(model, place, "run", Text);
    }

    private static void Refused(string model, string words, params string[] command)
    {
        Outcome outcome = Program.Run([.. command, "--model", model, "--json"]);
        outcome.AssertFailed(1, model, words, "are not finite numbers");
        Assert.Equal("", outcome.Output);
    }

    private string Nan() => Model("nan", "model.layers.2.mlp.down_proj.weight", 0x7FC0, all: false);

    private string Infinite() => Model("infinite", "model.norm.weight", 0x7F80, all: false);

    /// <summary>1e38 everywhere.</summary>
    private string Huge() => Model("huge", "model.layers.5.mlp.up_proj.weight", 0x7E96, all: true);

    /// <summary>The demo with one bf16 value of a tensor replaced, or all of them.</summary>
    private string Model(string name, string tensor, ushort value, bool all)
    {
        string path = Path.Combine(_folder.Copy(Fixtures.DemoModel, name), "model.safetensors");
        byte[] bytes = File.ReadAllBytes(path);
        int header = (int)BinaryPrimitives.ReadInt64LittleEndian(bytes);
        JsonElement entry = JsonElement.Parse(bytes.AsSpan(8, header)).GetProperty(tensor);
        Assert.Equal("BF16", entry.GetProperty("dtype").GetString());
        int[] ends = entry.Ints("data_offsets");
        Span<ushort> values = MemoryMarshal.Cast<byte, ushort>(bytes.AsSpan(8 + header)[ends[0]..ends[1]]);
        (all ? values : values[5..6]).Fill(value);
        File.WriteAllBytes(path, bytes);
        return _folder.At(name);
    }
}

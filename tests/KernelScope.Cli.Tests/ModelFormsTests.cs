using System.Text.Json;
using KernelScope.Files;
using KernelScope.Tests;

namespace KernelScope.Cli.Tests;

/// <summary>Checkpoints and SAEs as people have them, through the verbs that take them.</summary>
public sealed class ModelFormsTests : IDisposable
{
    private const string Embedding = "model.embed_tokens.weight", Head = "lm_head.weight";
    private const string DemoSae = "res.3.2k.l0_19";
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Doctor_and_inspect_say_what_they_see_and_sizes_are_those_of_the_tensors_that_count()
    {
        string folder = _folder.At("m");
        Dictionary<string, StoredTensor> plain =
            StoredTensors.Read(Path.Combine(Fixtures.Path("gemma2", "models", "base"), "model.safetensors"));
        StoredTensors.CopyModel(Fixtures.Path("gemma2", "models", "base"), folder, t =>
        {
            StoredTensor e = t[Embedding];
            Dictionary<string, StoredTensor> renamed = t.ToDictionary(p => "_orig_mod." + p.Key, p => p.Value);
            renamed[Head] = e with { Bytes = [.. e.Bytes.Reverse().Select(b => (byte)(b & 0x3F))] };
            return renamed;
        });
        long floats = plain.Values.Sum(t => (long)t.Bytes.Length) + plain[Embedding].Bytes.Length;
        Assert.All(plain.Values, t => Assert.Equal("F32", t.Type));
        JsonElement doctor = Program.Json("doctor", "--model", folder, "--device", "cpu").GetProperty("model");
        Assert.Equal(floats, doctor.GetProperty("weight_bytes").GetInt64());
        string[] remarks = [.. doctor.GetProperty("remarks").EnumerateArray().Select(r => r.GetString()!)];
        Assert.Contains(remarks, r => r.Contains("_orig_mod.", StringComparison.Ordinal));
        Assert.Contains(remarks, r => r.Contains("output head of its own", StringComparison.Ordinal));
        Outcome inspect = Program.Run("inspect", folder);
        Assert.Equal(0, inspect.ExitCode);
        foreach (string remark in remarks)
            Assert.Contains(remark, inspect.Output, StringComparison.Ordinal);
        Assert.False(Program.Json("doctor", "--device", "cpu").GetProperty("model").TryGetProperty("remarks", out _));
    }

    [Theory]
    [InlineData("mean.npy")]
    [InlineData("mean.safetensors")]
    [InlineData("two-names.npz")]
    public void A_mean_comes_from_any_form_of_file(string file)
    {
        Program.Run("run", Fixtures.DemoText("tale"), "--capture", "resid_post.3", "--out", _folder.At("acts.npz"));
        float[] x;
        long[] shape;
        int[] tokens;
        using (var acts = new Arrays(_folder.At("acts.npz")))
            (x, shape, tokens) = (acts.Floats("resid_post.3"), acts.Shape("resid_post.3"), acts.Ints("tokens"));
        string expected = _folder.At("acts.npz");
        if (file == "mean.npy")
        {
            // A .npy holds no tokens, so that all rows count.
            using (var writer = new NpzWriter(expected = _folder.At("plain.npz")))
            {
                writer.Add<float>("resid_post.3", x, shape);
                writer.Commit();
            }

            using System.IO.Compression.ZipArchive zip = System.IO.Compression.ZipFile.OpenRead(expected);
            using Stream entry = zip.Entries[0].Open();
            using FileStream npy = File.Create(_folder.At(file));
            entry.CopyTo(npy);
        }
        else if (file == "mean.safetensors")
        {
            using var writer =
                new SafetensorsWriter(_folder.At(file),
                    [new TensorInfo("tokens", DType.I32, [tokens.Length]), new TensorInfo("blocks.3.hook_resid_post", DType.F32, shape)],
                    null);
            writer.Append<int>(tokens);
            writer.Append<float>(x);
            writer.Commit();
        }
        else
        {
            using var writer = new NpzWriter(_folder.At(file));
            writer.Add<int>("tokens", tokens, tokens.Length);
            writer.Add<float>("blocks.3.hook_out", x, shape);
            writer.Add<float>("blocks.3.hook_resid_post", x, shape);
            writer.Commit();
        }

        string Losses(string from) => Program.Json("run", "And the king said", "--sae", DemoSae, "--splice", "mean", "--mean-from", from)
            .GetProperty("next_token_loss").GetRawText();
        Assert.Equal(Losses(expected), Losses(_folder.At(file)));
    }

    /// <summary>The demo's SAE as a TopK one: every verb that takes an SAE takes it.</summary>
    [Fact]
    public void A_TopK_SAE_works_in_every_verb()
    {
        const int K = 5;
        string sae = _folder.At("topk");
        Directory.CreateDirectory(sae);
        using (var arrays = new Arrays(Path.Combine(Fixtures.DemoSaes, "res", "layer_3", "width_2k", "average_l0_19", "params.npz")))
        {
            string[] names = ["W_enc", "W_dec", "b_enc", "b_dec"];
            using var writer =
                new SafetensorsWriter(Path.Combine(sae, "sae_weights.safetensors"),
                    [.. names.Select(n => new TensorInfo(n, DType.F32, arrays.Shape(n)))], null);
            foreach (string name in names)
                writer.Append<float>(arrays.Floats(name));
            writer.Commit();
            string metadata = """{"sae_lens_version": "6.54.12", "hook_name": "blocks.3.hook_resid_post"}""";
            long[] shape = arrays.Shape("W_enc");
            File.WriteAllText(
                Path.Combine(sae, "cfg.json"),
                $$"""{"architecture": "topk", "k": {{K}}, "d_in": {{shape[0]}}, "d_sae": {{shape[1]}}, "apply_b_dec_to_input": false, "metadata": {{metadata}} }""");
        }

        string text = Fixtures.DemoText("tale"), file = _folder.Write("t.txt", System.Text.Encoding.UTF8.GetBytes(text));
        Program.Run("run", text, "--capture", "resid_post.3", "--out", _folder.At("acts.npz"));
        JsonElement encoded =
            Program.Json("encode", _folder.At("acts.npz"), "--key", "resid_post.3", "--sae", sae, "--out", _folder.At("codes.npz"));
        Assert.InRange(encoded.GetProperty("l0").GetDouble(), 1, K);
        int feature;
        using (var codes = new Arrays(_folder.At("codes.npz")))
        {
            int[] starts = codes.Ints("row_ptr");
            Assert.All(starts.Zip(starts.Skip(1)), p => Assert.InRange(p.Second - p.First, 0, K));
            // Of a token in the middle: a change at the last moves no loss.
            feature = codes.Ints("feature")[starts[starts.Length / 2]];
        }

        Assert.Equal(encoded.GetProperty("l0").GetDouble(), Program.Json("eval", "--sae", sae, "--text-file", file).GetProperty("metrics")
            .GetProperty("L0").GetDouble(), 0.5);
        string plain = Losses();
        Assert.NotEqual(plain, Losses("--sae", sae, "--splice", "sae"));
        Assert.NotEqual(plain, Losses("--sae", sae, "--clamp", $"{feature}=30"));
        Assert.NotEqual(plain, Losses("--sae", sae, "--ablate", $"{feature}"));
        string[][] others =
        [
            ["features", text, "--sae", sae],
            ["generate", text, "--max-new-tokens", "2", "--sae", sae, "--clamp", $"{feature}=10"],
            ["attribute", text, "--loss", "--sae", sae],
            ["top", $"{feature}", "--text-file", file, "--sae", sae],
            ["inspect", sae],
        ];
        foreach (string[] arguments in others)
        {
            Outcome outcome = Program.Run(arguments);
            Assert.True(outcome.ExitCode == 0, $"{arguments[0]}: {outcome.Error}");
        }

        string Losses(params string[] edits) => Program.Json(["run", text, .. edits]).GetProperty("next_token_loss").GetRawText();
    }
}

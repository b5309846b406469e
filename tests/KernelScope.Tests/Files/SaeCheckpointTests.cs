using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Files;
using KernelScope.Sae;

namespace KernelScope.Tests.Files;

/// <summary>The reference SAEs (NumPy and SAELens wrote them), sites from Gemma Scope paths, and what is refused by name.</summary>
public sealed class SaeCheckpointTests
{
    // What SAELens refuses too, or computes only after a fold that the folder does not hold, or another architecture.
    private static readonly Dictionary<string, string> Refused = new()
    {
        ["gs-scaling-factor-other"] = "scaling_factor",
        ["gs-unknown-key"] = "notes",
        ["sl-jumprelu-expected-average"] = "expected_average_only_in",
        ["sl-jumprelu-whitening"] = "covariance_whitening",
    };

    public static TheoryData<string> Names()
    {
        using JsonDocument index = JsonDocument.Parse(File.ReadAllText(Fixtures.Path("sae", "saes", "index.json")));
        return [.. index.RootElement.EnumerateObject().Select(p => p.Name)];
    }

    [Fact]
    public void All_reference_saes_are_there() => Assert.Equal(36, Names().Count);

    [Theory]
    [MemberData(nameof(Names))]
    public void A_reference_sae_opens_as_its_index_says_or_is_refused_by_name(string name)
    {
        string folder = Fixtures.Path("sae", "saes", name);
        if (Refused.TryGetValue(name, out string? reason))
        {
            string message = Assert.Throws<InvalidDataException>(() => SaeCheckpoint.Open(folder)).Message;
            Assert.Contains(reason, message, StringComparison.Ordinal);
            return;
        }
        using JsonDocument index = JsonDocument.Parse(File.ReadAllText(Fixtures.Path("sae", "saes", "index.json")));
        JsonElement row = index.RootElement.GetProperty(name), form = row.GetProperty("form"), shapes = row.GetProperty("shapes");
        string architecture = form.GetProperty("arch").GetString()!;
        using SaeCheckpoint sae = SaeCheckpoint.Open(folder);
        SaeArchitecture expected = architecture == "topk" ? SaeArchitecture.TopK
            : architecture.StartsWith("jumprelu", StringComparison.Ordinal) ? SaeArchitecture.JumpRelu : SaeArchitecture.Standard;
        Assert.Equal(expected, sae.Config.Architecture);
        Assert.Equal(architecture == "topk" ? 7 : 0, sae.Config.K);
        // Nothing in a params.npz of equal widths says that it is a transcoder.
        Assert.Equal(architecture.Contains("transcoder", StringComparison.Ordinal)
            && name != "gs-transcoder-48x96", sae.Config.IsTranscoder);
        Assert.Equal(form.GetProperty("apply_b_dec").GetBoolean(), sae.Config.ApplyDecoderBiasToInput);
        Assert.Equal(form.GetProperty("reshape").GetString() == "hook_z", sae.Config.FlattensHeads);
        Assert.Equal(
            form.GetProperty("norm")
            .GetString() switch
            {
                "layer_norm" => SaeNormalization.LayerNorm,
                "constant_norm_rescale" => SaeNormalization.ConstantNorm,
                _ =>
                SaeNormalization.None
            }, sae.Config.Normalization);
        CheckShapes(sae, shapes);
    }

    [Theory]
    [InlineData("old-flat-jumprelu")]
    [InlineData("old-flat-hook-z")]
    [InlineData("old-flat-standard-defaults")]
    [InlineData("sl-jumprelu-skip-transcoder")]
    [InlineData("sl-jumprelu-b-dec-to-input")]
    public void A_cfg_json_means_what_saelens_reads_in_it(string name)
    {
        using JsonDocument read = JsonDocument.Parse(File.ReadAllText(Fixtures.Path("sae", "saes", name, "cfg-as-read.json")));
        JsonElement root = read.RootElement, metadata = root.GetProperty("metadata");
        using SaeCheckpoint sae = SaeCheckpoint.Open(Fixtures.Path("sae", "saes", name, "cfg.json"));
        Assert.Equal(root.GetProperty("apply_b_dec_to_input").GetBoolean(), sae.Config.ApplyDecoderBiasToInput);
        Assert.Equal(root.GetProperty("reshape_activations").GetString() == "hook_z", sae.Config.FlattensHeads);
        Assert.Equal(root.GetProperty("architecture").GetString() != "standard", sae.Config.Architecture == SaeArchitecture.JumpRelu);
        Assert.Equal(metadata.GetProperty("hook_name").GetString(), sae.Config.Site);
        Assert.Equal(metadata.TryGetProperty("hook_name_out", out JsonElement hookOut) ? hookOut.GetString()
            : sae.Config.Site, sae.Config.SiteOut);
        Assert.Equal(metadata.GetProperty("prepend_bos").GetBoolean(), sae.Config.PrependBos);
        Assert.Equal(metadata.GetProperty("model_name").GetString(), sae.Config.ModelName);
    }

    [Fact]
    public void Every_layout_of_the_same_arrays_gives_the_same_values()
    {
        // NumPy wrote one seeded SAE in all of these.
        using SaeCheckpoint plain = SaeCheckpoint.Open(HostileFiles.Path("npz/valid/params.npz"));
        foreach (string layout in new[] { "valid-deflate", "valid-zip64", "valid-local-extra", "valid-descriptor", "npy-version-2",
            "npy-version-3", "npy-fortran" })
        {
            using SaeCheckpoint sae = SaeCheckpoint.Open(HostileFiles.Path($"npz/{layout}"));
            Assert.Equal(layout == "npy-fortran", sae.Encoder.ColumnMajor);
            Assert.Equal(plain.Encoder.ToFloats(), sae.Encoder.ToFloats());
            Assert.Equal(plain.Decoder.ToFloats(), sae.Decoder.ToFloats());
            Assert.Equal(plain.Threshold!.Value.ToFloats(), sae.Threshold!.Value.ToFloats());
            float[] part = new float[25];
            sae.Encoder.CopyTo(17, part);
            Assert.Equal(plain.Encoder.ToFloats()[17..42], part);
        }
        using SaeCheckpoint stored = SaeCheckpoint.Open(Fixtures.Path("sae", "saes", "gs-48x96")),
            deflated = SaeCheckpoint.Open(Fixtures.Path("sae", "saes", "gs-48x96-deflate"));
        Assert.Equal(stored.Decoder.ToFloats(), deflated.Decoder.ToFloats());
    }

    [Fact]
    public void Views_of_a_compressed_file_stay_where_they_are()
    {
        using SaeCheckpoint sae = SaeCheckpoint.Open(Fixtures.Path("sae", "saes", "gs-48x96-deflate"));
        unsafe
        {
            Assert.True(sae.Encoder.Pointer == sae.Encoder.Pointer);
        }
    }

    // SAELens' own loaders on these paths give, as hook names: blocks.20.hook_resid_post, blocks.25.attn.hook_z, blocks.0.hook_mlp_out (after the post-norm),
    // and for transcoders blocks.4.ln2.hook_normalized to blocks.4.hook_mlp_out.
    [Theory]
    [InlineData("gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71", "resid_post.20", "resid_post.20")]
    [InlineData("gemma-scope-2b-pt-res/layer_12/width_1m/average_l0_107", "resid_post.12", "resid_post.12")]
    [InlineData("gemma-scope-9b-it-res/layer_20/width_16k/average_l0_91", "resid_post.20", "resid_post.20")]
    [InlineData("gemma-scope-27b-pt-res/layer_22/width_131k/average_l0_82", "resid_post.22", "resid_post.22")]
    [InlineData("gemma-scope-2b-pt-mlp/layer_0/width_65k/average_l0_72", "mlp_out_post.0", "mlp_out_post.0")]
    [InlineData("gemma-scope-2b-pt-att/layer_25/width_16k/average_l0_77", "z.25", "z.25")]
    [InlineData("gemma-scope-2b-pt-transcoders/layer_4/width_16k/average_l0_88", "mlp_in_unit.4", "mlp_out_post.4")]
    [InlineData("models--google--gemma-scope-2b-pt-res/snapshots/fd571b47c1c64851e9b1989792367b9babb4af63/layer_3/width_16k/average_l0_59",
        "resid_post.3", "resid_post.3")]
    [InlineData("models--google--gemma-scope-9b-pt-att/snapshots/main/layer_9/width_131k/average_l0_111", "z.9", "z.9")]
    [InlineData("saes/res/layer_3/width_2k/average_l0_19", "resid_post.3", "resid_post.3")]
    [InlineData("saes/transcoder/layer_3/width_1k/average_l0_20", "mlp_in_unit.3", "mlp_out_post.3")]
    [InlineData("saes/att/layer_3/width_1k/average_l0_42", "z.3", "z.3")]
    [InlineData("layer_3/width_1k/average_l0_42", null, null)]
    [InlineData("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_111", null, null)]
    [InlineData("results/some/other/layer_3", null, null)]
    public void A_gemma_scope_path_names_the_site(string folder, string? site, string? siteOut)
    {
        using var temporary = new TempFolder();
        string path = temporary.Write(Path.Combine(folder, "params.npz"), File.ReadAllBytes(HostileFiles.Path("npz/valid/params.npz")));
        foreach (string given in new[] { path, Path.GetDirectoryName(path)! })
        {
            using SaeCheckpoint sae = SaeCheckpoint.Open(given);
            Assert.Equal((site, siteOut), (sae.Config.Site, sae.Config.SiteOut));
            Assert.Equal(site != siteOut, sae.Config.IsTranscoder);
            Assert.Equal(folder.Contains("embedding", StringComparison.Ordinal), sae.Config.SiteNote is not null);
            Assert.Null(sae.Config.HookName);
        }
    }

    [Theory]
    [InlineData("""{"architecture": "gated"}""", "'gated'")]
    [InlineData("""{"architecture": "batchtopk", "k": 3}""", "'batchtopk'")]
    [InlineData("""{"architecture": "skip_transcoder", "d_out": 6}""", "W_skip")]
    [InlineData("""{"architecture": "standard"}""", "threshold")]
    [InlineData("""{"architecture": "transcoder"}""", "d_out")]
    [InlineData("""{"architecture": null}""", "architecture")]
    [InlineData("""{"normalize_activations": true}""", "expected_average_only_in")]
    [InlineData("""{"reshape_activations": "hook_q"}""", "hook_q")]
    [InlineData("""{"activation_fn": "tanh-relu"}""", "tanh-relu")]
    [InlineData("""{"finetuning_scaling_factor": true}""", "finetuning_scaling_factor")]
    [InlineData("""{"rescale_acts_by_decoder_norm": true}""", "rescale_acts_by_decoder_norm")]
    [InlineData("""{"apply_b_dec_to_input": "yes"}""", "apply_b_dec_to_input")]
    [InlineData("""{"metadata": []}""", "metadata")]
    [InlineData("""{"metadata": {"sae_lens_version": "6.54.12", "hook_head_index": 3}}""", "hook_head_index")]
    public void What_a_cfg_json_asks_for_and_is_not_computed_is_refused_by_name(string changes, string named)
    {
        using var folder = new TempFolder();
        TempFolder.CopyFolder(HostileFiles.Path("saelens/valid"), folder.At("sae"));
        JsonObject config = JsonNode.Parse(File.ReadAllText(folder.At("sae", "cfg.json")))!.AsObject();
        foreach ((string name, JsonNode? value) in JsonNode.Parse(changes)!.AsObject())
            config[name] = value?.DeepClone();
        folder.Write("sae/cfg.json", config.ToJsonString());
        string message = Assert.Throws<InvalidDataException>(() => SaeCheckpoint.Open(folder.At("sae"))).Message;
        Assert.Contains(named, message, StringComparison.Ordinal);
        Sentences.Check(message, folder.Path);
    }

    [Fact]
    public void A_folder_with_two_saes_or_none_is_refused()
    {
        using var folder = new TempFolder();
        Sentences.Check(Assert.Throws<InvalidDataException>(() => SaeCheckpoint.Open(folder.Path)).Message, folder.Path);
        TempFolder.CopyFolder(HostileFiles.Path("saelens/valid"), folder.At("sae"));
        File.Copy(HostileFiles.Path("npz/valid/params.npz"), folder.At("sae", "params.npz"));
        Assert.Contains("both", Assert.Throws<InvalidDataException>(() => SaeCheckpoint.Open(folder.At("sae"))).Message,
            StringComparison.Ordinal);
        using SaeCheckpoint named = SaeCheckpoint.Open(folder.At("sae", "params.npz"));
        Assert.Equal(10, named.Config.FeatureCount);
    }

    [Fact]
    public void A_damaged_sae_is_refused_on_opening()
    {
        using var folder = new TempFolder();
        byte[] bytes = File.ReadAllBytes(HostileFiles.Path("npz/valid/params.npz"));
        // A bit inside W_enc's numbers.
        bytes[300] ^= 1;
        string message = Assert.Throws<InvalidDataException>(() => SaeCheckpoint.Open(folder.Write("params.npz", bytes))).Message;
        Assert.Contains("W_enc.npy", message, StringComparison.Ordinal);
        Assert.Contains("checksum", message, StringComparison.Ordinal);
    }

    private static void CheckShapes(SaeCheckpoint sae, JsonElement shapes)
    {
        void Equal(string name, TensorView? view)
        {
            if (shapes.TryGetProperty(name, out JsonElement shape))
                Assert.Equal(shape.EnumerateArray().Select(d => d.GetInt64()), view!.Value.Shape.ToArray());
            else
                Assert.Null(view);
        }
        Equal("W_enc", sae.Encoder);
        Equal("W_dec", sae.Decoder);
        Equal("b_enc", sae.EncoderBias);
        Equal("b_dec", sae.DecoderBias);
        Equal("threshold", sae.Threshold);
        Equal("W_skip", sae.Skip);
        Assert.Equal(sae.Encoder.Shape[0], sae.Config.InputDim);
        Assert.Equal(sae.Encoder.Shape[1], sae.Config.FeatureCount);
        Assert.Equal(sae.Decoder.Shape[1], sae.Config.OutputDim);
    }
}

using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Cli.Inspection;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Sae;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Sae;

/// <summary>
/// SAEs as other programs store them. Those whose mathematics SAELens has too are made of its goldens' arrays, laid out as the other program does, and held to the same codes and reconstructions;
/// sparsify's TopK is held to arithmetic in plain Python (tools/reference/sae/make_topk.py).
/// </summary>
public sealed class SaeFormatTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string> Devices() => [.. TestDevices.All];

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_Gemma_Scope_2_folder_is_SAELens_jumprelu(string deviceName)
    {
        string folder = GemmaScope2("sl-jumprelu", "model.layers.2.output", null, "sae");
        Check(deviceName, folder, "sl-jumprelu", new HookPoint(Site.ResidPost, 2), new HookPoint(Site.ResidPost, 2));
        Check(deviceName, Path.Combine(folder, "params.safetensors"), "sl-jumprelu", new HookPoint(Site.ResidPost, 2),
            new HookPoint(Site.ResidPost, 2));
    }

    [Fact]
    public void A_Gemma_Scope_2_transcoder_reads_and_writes_where_its_config_says() => Check(
        "cpu",
        GemmaScope2("sl-jumprelu-transcoder", "model.layers.1.pre_feedforward_layernorm.output",
            "model.layers.1.post_feedforward_layernorm.output", "transcoder"),
        "sl-jumprelu-transcoder",
        new HookPoint(Site.MlpIn, 1),
        new HookPoint(Site.MlpOutPost, 1));

    [Theory]
    [InlineData("sl-jumprelu-transcoder")]
    [InlineData("sl-jumprelu-skip-transcoder")]
    [InlineData("sl-transcoder-relu")]
    public void A_layer_of_a_circuit_tracer_set_is_SAELens_transcoder(string name)
    {
        string folder =
            CircuitTracer(
                name, "model_kind: transcoder_set\nmodel_name: google/gemma-2-2b\nfeature_input_hook: \"ln2.hook_normalized\"  # "
                    + "before the gain\nfeature_output_hook: hook_mlp_out\n");
        foreach (string device in TestDevices.All)
            Check(device, Path.Combine(folder, "layer_1.safetensors"), name, new HookPoint(Site.MlpInUnit, 1),
                new HookPoint(Site.MlpOutPost, 1));
    }

    [Fact]
    public void A_sparsify_transcoder_of_SAELens_topk_arrays_gives_its_codes()
    {
        // Without b_dec on the input the two are the same function.
        Dictionary<string, StoredTensor> t = Arrays("sl-topk");
        string folder = _folder.At("layers.2");
        Directory.CreateDirectory(folder);
        StoredTensors.Write(Path.Combine(folder, "sae.safetensors"), new Dictionary<string, StoredTensor>
        {
            ["encoder.weight"] = Turned(t["W_enc"]),
            ["encoder.bias"] = t["b_enc"],
            ["W_dec"] = t["W_dec"],
            ["b_dec"] = t["b_dec"],
        });
        File.WriteAllText(Path.Combine(folder, "cfg.json"),
            """{"activation": "topk", "expansion_factor": 2, "k": 7, "transcode": true, "d_in": 48}""");
        foreach (string device in TestDevices.All)
            Check(device, folder, "sl-topk", new HookPoint(Site.ResidPre, 2), new HookPoint(Site.ResidPost, 2));
    }

    public static TheoryData<string, string> DevicesAndSparsify()
    {
        var data = new TheoryData<string, string>();
        foreach (string device in TestDevices.All)
        {
            data.Add(device, "layers.2");
            data.Add(device, "layers.1.mlp");
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(DevicesAndSparsify))]
    public void Sparsify_folders_give_the_codes_of_plain_arithmetic(string deviceName, string name)
    {
        string folder = Fixtures.Path("sae", "topk", name);
        using Device device = TestDevices.Open(deviceName);
        using JumpReluSae sae = JumpReluSae.Open(device, folder);
        using var expected = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "expected.json")));
        float[][] x = expected.RootElement.GetProperty("x").Deserialize<float[][]>()!;
        double[][][] codes = expected.RootElement.GetProperty("codes").Deserialize<double[][][]>()!;
        float[][] y = expected.RootElement.GetProperty("reconstruction").Deserialize<float[][]>()!;
        (CodeList list, float[] reconstruction) = Run(device, sae, x);
        for (int r = 0; r < x.Length; r++)
        {
            Assert.Equal(codes[r].Select(c => (int)c[0]), list.FeaturesOf(r).ToArray());
            Assert.Equal(codes[r].Select(c => (float)c[1]), list.ValuesOf(r).ToArray());
            Assert.True(Compare.Largest(reconstruction.AsSpan(r * y[r].Length, y[r].Length), y[r]) <= 1e-5, $"reconstruction of row {r}");
        }

        Assert.Equal(name == "layers.2" ? (new HookPoint(Site.ResidPost, 2), new HookPoint(Site.ResidPost, 2))
            : (new HookPoint(Site.MlpIn, 1), new HookPoint(Site.MlpOut, 1)), (sae.Site!.Value, sae.SiteOut!.Value));
        Assert.Equal("sparsify_sae", Inspector.Inspect(folder, new InspectOptions { Statistics = true }).Format);
    }

    /// <summary>f(x) of a clamped feature is its value among the k largest; a steer adds its strength whatever is active.</summary>
    [Theory]
    [MemberData(nameof(Devices))]
    public void Edits_of_a_TopK_SAE_go_by_its_codes(string deviceName)
    {
        string folder = Fixtures.Path("sae", "topk", "layers.2");
        using Device device = TestDevices.Open(deviceName);
        using JumpReluSae sae = JumpReluSae.Open(device, folder);
        using var expected = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "expected.json")));
        float[][] x = expected.RootElement.GetProperty("x").Deserialize<float[][]>()!;
        double[][][] codes = expected.RootElement.GetProperty("codes").Deserialize<double[][][]>()!;
        float[] decoder = StoredFloats(StoredTensors.Read(Path.Combine(folder, "sae.safetensors"))["W_dec"]);
        int width = x[0].Length, clamped = (int)codes[0][0][0], steered = 59;
        FeatureEdit[] edits = [new(clamped, FeatureEditKind.Clamp, 2.5f), new(steered, FeatureEditKind.Add, -1.5f)];
        Mat values = device.CreateMat(x.Length, width, "x");
        device.Write(x.SelectMany(row => row).ToArray(), values);
        sae.Edit(values, edits, values);
        float[] actual = new float[x.Length * width];
        device.Read(values, actual);
        for (int r = 0; r < x.Length; r++)
        {
            double f = codes[r].Where(c => (int)c[0] == clamped).Select(c => c[1]).FirstOrDefault();
            for (int j = 0; j < width; j++)
                Assert.Equal(x[r][j] + ((2.5 - f) * decoder[(clamped * width) + j]) - (1.5 * decoder[(steered * width) + j]),
                    actual[(r * width) + j], 1e-4);
        }

        Assert.True(codes.Count(row => row.Any(c => (int)c[0] == clamped)) < codes.Length,
            "the feature should be among the largest in some rows only");
        values.Buffer.Dispose();
    }

    [Theory]
    [InlineData("architecture", "\"gated\"", "'gated'")]
    [InlineData("type", "\"crosscoder\"", "'crosscoder'")]
    [InlineData("type", "\"clt\"", "'clt'")]
    [InlineData("affine_connection", "true", "affine")]
    [InlineData("architecture", "null", "architecture")]
    public void A_Gemma_Scope_2_folder_that_cannot_be_computed_is_refused_by_name(string setting, string value, string word) =>
        Refuses(GemmaScope2("sl-jumprelu", "model.layers.2.output", null, "sae", config => config[setting] = JsonNode.Parse(value)), word);

    [Fact]
    public void An_affine_matrix_is_refused_also_where_the_config_is_silent()
    {
        string folder = GemmaScope2("sl-jumprelu", "model.layers.2.output", null, "sae");
        string path = Path.Combine(folder, "params.safetensors");
        Dictionary<string, StoredTensor> t = StoredTensors.Read(path);
        t["affine_skip_connection"] = StoredTensors.Of("F32", new float[48 * 48], 48, 48).Tensor;
        StoredTensors.Write(path, t);
        Refuses(folder, "affine");
    }

    [Theory]
    [InlineData("model_kind: cross_layer_transcoder\nfeature_input_hook: a\nfeature_output_hook: b\n", "cross_layer_transcoder")]
    [InlineData("model_kind: transcoder_set\nfeature_input_hook: a\nfeature_output_hook: b\nactivation: topk\nk: 8\n", "'topk'")]
    [InlineData("model_kind: transcoder_set\nfeature_input_hook: a\nfeature_output_hook: b\nactivation: relu\n", "thresholds")]
    [InlineData("model_kind: transcoder_set\nfeature_output_hook: b\n", "feature_input_hook")]
    [InlineData("model_kind: transcoder_set\nfeature_input_hook: a\nfeature_output_hook: b\ntranscoders:\n- \"hf://a/b\"\n",
        "lists its transcoders")]
    [InlineData(null, "config.yaml")]
    public void A_circuit_tracer_layer_of_which_not_all_is_said_is_refused(string? yaml, string word) =>
        Refuses(Path.Combine(CircuitTracer("sl-jumprelu-transcoder", yaml), "layer_1.safetensors"), word);

    [Fact]
    public void A_circuit_tracer_set_is_opened_by_one_of_its_files() =>
        Refuses(CircuitTracer("sl-jumprelu-transcoder", "model_kind: transcoder_set\nfeature_input_hook: a\nfeature_output_hook: b\n"),
            "layer_0.safetensors");

    [Theory]
    [InlineData("""{"activation": "groupmax", "d_in": 24, "num_latents": 60, "k": 5}""", "'groupmax'")]
    [InlineData("""{"signed": true, "d_in": 24, "num_latents": 60, "k": 5}""", "signed")]
    [InlineData("""{"gram_lookup": true, "d_in": 24, "num_latents": 60, "k": 5}""", "gram_lookup")]
    [InlineData("""{"d_in": 24, "num_latents": 60, "k": 0}""", "an integer of 1 or more")]
    [InlineData("""{"d_in": 24, "num_latents": 60, "k": 61}""", "k is 61")]
    [InlineData("""{"d_in": 24, "num_latents": 61, "k": 5}""", "61")]
    [InlineData("""{"d_in": 24, "num_latents": 60, "k": 5, "skip_connection": true}""", "W_skip")]
    public void A_sparsify_folder_that_cannot_be_computed_is_refused(string config, string word)
    {
        string folder = _folder.At("layers.2");
        Directory.CreateDirectory(folder);
        File.Copy(Fixtures.Path("sae", "topk", "layers.2", "sae.safetensors"), Path.Combine(folder, "sae.safetensors"));
        File.WriteAllText(Path.Combine(folder, "cfg.json"), config);
        Refuses(folder, word);
    }

    [Fact]
    public void Two_SAEs_in_a_folder_are_refused()
    {
        string folder = GemmaScope2("sl-jumprelu", "model.layers.2.output", null, "sae");
        File.Copy(Fixtures.Path("sae", "topk", "layers.2", "sae.safetensors"), Path.Combine(folder, "sae.safetensors"));
        Assert.Contains("several SAEs", Assert.Throws<InvalidDataException>(() => SaeCheckpoint.Open(folder)).Message,
            StringComparison.Ordinal);
    }

    private static Dictionary<string, StoredTensor> Arrays(string name) =>
        StoredTensors.Read(Fixtures.Path("sae", "saes", name, "sae_weights.safetensors"));

    private static StoredTensor Turned(StoredTensor matrix)
    {
        int size = matrix.Bytes.Length / (int)(matrix.Shape[0] * matrix.Shape[1]), rows = (int)matrix.Shape[0],
            columns = (int)matrix.Shape[1];
        byte[] turned = new byte[matrix.Bytes.Length];
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++)
                matrix.Bytes.AsSpan(((r * columns) + c) * size, size).CopyTo(turned.AsSpan(((c * rows) + r) * size));
        }

        return matrix with { Shape = [columns, rows], Bytes = turned };
    }

    private static float[] StoredFloats(StoredTensor tensor) =>
        System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(tensor.Bytes).ToArray();

    private string GemmaScope2(string name, string hookIn, string? hookOut, string kind, Action<JsonObject>? change = null)
    {
        string folder = _folder.At(Path.GetRandomFileName());
        Directory.CreateDirectory(folder);
        StoredTensors.Write(Path.Combine(folder, "params.safetensors"),
            Arrays(name).ToDictionary(e => e.Key.ToLowerInvariant(), e => e.Value));
        var config =
            new JsonObject
            {
                ["hf_hook_point_in"] = hookIn,
                ["hf_hook_point_out"] = hookOut,
                ["width"] = 96,
                ["model_name"] =
                "gemma-v3-1b-pt",
                ["architecture"] = "jump_relu",
                ["l0"] = 20,
                ["affine_connection"] = false,
                ["type"] = kind
            };
        change?.Invoke(config);
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString());
        return folder;
    }

    private string CircuitTracer(string name, string? yaml)
    {
        string folder = _folder.At(Path.GetRandomFileName());
        Directory.CreateDirectory(folder);
        Dictionary<string, StoredTensor> layer = Arrays(name)
            .ToDictionary(e => e.Key == "threshold" ? "activation_function.threshold" : e.Key, e => e.Key == "W_enc" ? Turned(e.Value)
                : e.Value);
        foreach (int l in new[] { 0, 1 })
            StoredTensors.Write(Path.Combine(folder, $"layer_{l}.safetensors"), layer);
        if (yaml is not null)
            File.WriteAllText(Path.Combine(folder, "config.yaml"), yaml);
        return folder;
    }

    private static void Check(string deviceName, string path, string golden, HookPoint site, HookPoint siteOut)
    {
        using Device device = TestDevices.Open(deviceName);
        using JumpReluSae sae = JumpReluSae.Open(device, path);
        SaeGoldenTests.Check(device, sae, golden, deviceName == "reference");
        Assert.Equal((site, siteOut), (sae.Site!.Value, sae.SiteOut!.Value));
        InspectionResult result = Inspector.Inspect(path, new InspectOptions { Statistics = true });
        Assert.True(result.Ok, result.Error);
    }

    private static void Refuses(string path, string word)
    {
        string message = Assert.Throws<InvalidDataException>(() => SaeCheckpoint.Open(path)).Message;
        Assert.Contains(word, message, StringComparison.Ordinal);
        Assert.False(Inspector.Inspect(path, new InspectOptions()).Ok && Path.GetFileName(path) != "layer_1.safetensors");
    }

    private static (CodeList Codes, float[] Reconstruction) Run(Device device, JumpReluSae sae, float[][] x)
    {
        Mat input = device.CreateMat(x.Length, sae.Config.InputDim, "x"), output = device.CreateMat(x.Length, sae.Config.OutputDim, "y");
        device.Write(x.SelectMany(row => row).ToArray(), input);
        using SparseCodes codes = sae.CreateCodes();
        sae.Encode(input, codes);
        sae.Decode(codes, input, output);
        var list = new CodeList();
        device.Read(codes, list);
        float[] values = new float[x.Length * sae.Config.OutputDim];
        device.Read(output, values);
        input.Buffer.Dispose();
        output.Buffer.Dispose();
        return (list, values);
    }
}

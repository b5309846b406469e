using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Text;

namespace KernelScope.Tests.Demo;

/// <summary>The demo model and its SAEs against transformers and SAELens; tolerances from fixtures/README.md. The evaluation's arrays are held in Evaluation.</summary>
public sealed partial class DemoGoldenTests
{
    private static readonly string[] Texts = ["tale", "scripture", "question", "csharp", "numbers", "languages"];

    private static readonly (string Id, string Path)[] Saes =
    [
        ("res.3.2k.l0_19", "res/layer_3/width_2k/average_l0_19"), ("res.3.2k.l0_57", "res/layer_3/width_2k/average_l0_57"),
            ("res.1.1k.l0_26", "res/layer_1/width_1k/average_l0_26"),
        ("res.5.1k.l0_37", "res/layer_5/width_1k/average_l0_37"), ("att.3.1k.l0_42", "att/layer_3/width_1k/average_l0_42"),
            ("mlp.3.1k.l0_37", "mlp/layer_3/width_1k/average_l0_37"),
        ("transcoder.3.1k.l0_20", "transcoder/layer_3/width_1k/average_l0_20"),
    ];

    public static TheoryData<string, string> DevicesAndTexts() => Cross(Texts);

    public static TheoryData<string, string> DevicesAndSaes() => Cross([.. Saes.Select(s => s.Id)]);

    public static TheoryData<string> Devices() => [.. TestDevices.All];

    [Theory]
    [MemberData(nameof(DevicesAndTexts))]
    public void A_text_runs_as_in_transformers(string deviceName, string text)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        using var expected = new NpzArrays(Fixtures.Path("demo", "goldens", $"text-{text}.npz"));
        int[] tokens = expected.Int32("tokens");
        int[] encoded = [2, .. Tokenizer().Encode(TextOf(text))];
        Assert.Equal(tokens, encoded);

        using Session session = model.NewSession();
        var point = new HookPoint(Site.ResidPost, 3);
        using var cache = new ActivationCache(session.Hooks, [point], tokens.Length);
        float[] logits = new float[model.Config.VocabSize];
        device.Read(session.Prefill(tokens), logits);
        double[] losses = new double[tokens.Length - 1];
        model.NextTokenLoss(tokens.AsSpan(1), session, losses);

        Assert.True(Compare.Relative(cache.Values(point), expected.Floats("resid_post.3")) <= 2e-5, "resid_post.3");
        Assert.True(Compare.Largest(logits, expected.Floats("logits_last")) <= 2e-4, "logits");
        Assert.True(losses.Zip(expected.Doubles("next_token_loss"), (a, b) => Math.Abs(a - b)).Max() <= 1e-4, "next_token_loss");

        cache.Dispose();
        session.Reset();
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = 40, StopIds = [] });
        Assert.Equal(expected.Int32("greedy_tokens"), generator.Generate(tokens));
    }

    [Theory]
    [MemberData(nameof(DevicesAndSaes))]
    public void An_SAE_fires_as_in_SAELens(string deviceName, string id)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        using JumpReluSae sae = JumpReluSae.Open(device, SaePath(id));
        using var expected = new NpzArrays(Fixtures.Path("demo", "goldens", $"sae-{id}.npz"));
        using Session session = model.NewSession();
        using var capture = new FeatureCapture(session.Hooks, sae, sae.Site!.Value);
        foreach (string text in Texts)
        {
            session.Reset();
            session.Prefill([2, .. Tokenizer().Encode(TextOf(text))]);
            CheckCodes(capture.Codes, expected, text);
        }

        CheckReconstruction(device, sae, expected);
        using JumpReluSae packed = JumpReluSae.Load(device, SaeCheckpoint.Open(SaePath(id)), packEncoder: true);
        CheckReconstruction(device, packed, expected);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Steering_continues_as_in_transformers(string deviceName)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        using var cases = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("demo", "goldens", "steering.json")));
        foreach (JsonElement c in cases.RootElement.EnumerateArray())
        {
            using JumpReluSae sae = JumpReluSae.Open(device, SaePath(c.GetProperty("sae").GetString()!));
            using Session session = model.NewSession();
            int[] prompt = Ints(c, "tokens");
            var generator = new Generator(session, new GenerationOptions { MaxNewTokens = 40, StopIds = [] });
            Assert.Equal(Ints(c, "plain"), generator.Generate(prompt));
            session.Reset();
            FeatureEdit[] edits = [new(c.GetProperty("feature").GetInt32(), FeatureEditKind.Add, c.GetProperty("strength").GetSingle())];
            using var splice =
                new SaeSplice(session.Hooks, sae, sae.Site!.Value, sae.SiteOut!.Value, SpliceMode.None, Positions.AllBut(2), edits);
            Assert.Equal(Ints(c, "steered"), generator.Generate(prompt));
        }
    }

    [Fact]
    public void The_paths_of_the_SAEs_say_where_they_belong()
    {
        using Device device = TestDevices.Open("cpu");
        string[] sites = ["resid_post.3", "resid_post.3", "resid_post.1", "resid_post.5", "z.3", "mlp_out_post.3", "mlp_in_unit.3"];
        foreach ((string site, (string id, _)) in sites.Zip(Saes))
        {
            using JumpReluSae sae = JumpReluSae.Open(device, SaePath(id));
            Assert.Equal(site, sae.Site.ToString());
            Assert.Equal(id.StartsWith("trans", StringComparison.Ordinal) ? "mlp_out_post.3" : site, sae.SiteOut.ToString());
        }
    }

    private static void CheckCodes(CodeList codes, NpzArrays expected, string text)
    {
        int[] starts = expected.Int32($"row_ptr_{text}"), features = expected.Int32($"feature_{text}");
        float[] values = expected.Floats($"value_{text}");
        int[] near = expected.Int32($"near_{text}");
        double largest = values.Max();
        Assert.Equal(starts.Length - 1, codes.Rows);
        for (int r = 0; r < codes.Rows; r++)
        {
            ReadOnlySpan<int> wanted = features.AsSpan(starts[r]..starts[r + 1]), actual = codes.FeaturesOf(r);
            foreach (int f in wanted.ToArray().Union(actual.ToArray()))
            {
                int at = wanted.BinarySearch(f);
                if ((at < 0 || actual.BinarySearch(f) < 0) && IsNear(near, r, f))
                    continue;
                Assert.True(at >= 0 && actual.BinarySearch(f) >= 0, $"{text}: row {r}, feature {f}: the active sets differ");
                Assert.True(Math.Abs(codes.ValueOf(r, f) - values[starts[r] + at]) <= 1e-5 * largest, $"{text}: row {r}, feature {f}");
            }
        }
    }

    private static void CheckReconstruction(Device device, JumpReluSae sae, NpzArrays expected)
    {
        float[] x = expected.Floats("x"), wanted = expected.Floats("recon");
        int rows = x.Length / sae.Config.InputDim;
        Mat input = device.CreateMat(rows, sae.Config.InputDim, "x"),
            output = device.CreateMat(rows, sae.Config.OutputDim, "reconstruction");
        using SparseCodes codes = sae.CreateCodes();
        device.Write(x, input);
        sae.Encode(input, codes);
        sae.Decode(codes, input, output);
        float[] reconstruction = new float[wanted.Length];
        device.Read(output, reconstruction);
        Assert.True(Compare.Relative(reconstruction, wanted) <= 1e-5, "reconstruction");
        input.Buffer.Dispose();
        output.Buffer.Dispose();
    }

    private static bool IsNear(int[] pairs, int row, int feature) =>
        Enumerable.Range(0, pairs.Length / 2).Any(i => pairs[2 * i] == row && pairs[(2 * i) + 1] == feature);

    private static int[] Ints(JsonElement element, string name) =>
        [.. element.GetProperty(name).EnumerateArray().Select(e => e.GetInt32())];

    private static string TextOf(string name)
    {
        using var cases = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("demo", "goldens", "cases.json")));
        return cases.RootElement.GetProperty("texts").EnumerateArray().Single(t => t.GetProperty("name").GetString() == name)
            .GetProperty("text").GetString()!;
    }

    private static string Content(params string[] parts) => Path.Combine([Fixtures.Root, "src", "KernelScope.Demo", "content", .. parts]);

    private static string SaePath(string id) => Content("saes", Saes.Single(s => s.Id == id).Path);

    private static GemmaTokenizer Tokenizer() => GemmaTokenizer.Open(Content("model", "tokenizer.model"));

    private static Gemma2Model Open(Device device) => Gemma2Model.Open(device, Content("model"));

    private static TheoryData<string, string> Cross(string[] names)
    {
        var data = new TheoryData<string, string>();
        foreach (string device in TestDevices.All)
        {
            foreach (string name in names)
                data.Add(device, name);
        }

        return data;
    }
}

using System.Text.Json;
using KernelScope.Conformance;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Numerics;
using KernelScope.Sae;
using KernelScope.Tests.Devices;

namespace KernelScope.Tests.Lens;

/// <summary>What <c>verify</c> is made of: the carried numbers are those of the goldens, right devices pass and wrong ones do not.</summary>
public sealed class VerificationTests
{
    private static readonly string[] Texts = ["tale", "scripture", "question", "csharp", "numbers", "languages"];

    [Fact]
    public void The_carried_numbers_are_those_that_transformers_and_SAELens_gave()
    {
        using NpzFile carried = DemoGoldens.OpenGoldens();
        int seen = 0;
        foreach (string text in Texts)
        {
            foreach (string name in new[] { "tokens", "logits_last", "next_token_loss", "greedy_tokens" })
                Same($"{name}_{text}", $"text-{text}", name);
        }

        Same("resid_post.3_tale", "text-tale", "resid_post.3");
        foreach (string sae in new[] { "res.3.2k.l0_19", "transcoder.3.1k.l0_20" })
        {
            foreach (string name in new[] { "row_ptr", "feature", "value", "near" })
                Same($"{sae}_{name}", $"sae-{sae}", $"{name}_tale");
        }

        using var tokens = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("demo", "goldens", "tokens.json")));
        Assert.Equal(tokens.RootElement.GetProperty("sequences").EnumerateArray().SelectMany(s => s.EnumerateArray())
            .Select(e => e.GetInt64()), carried["eval_tokens"].ToInt64s());
        using var evaluation = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("demo", "goldens", "sae-res.3.2k.l0_19.json")));
        JsonElement metrics = evaluation.RootElement.GetProperty("metrics"),
            splice = metrics.GetProperty("splices").GetProperty("sae/keep_bos");
        float[] expected =
            [metrics.GetProperty("L0").GetSingle(), metrics.GetProperty("fvu").GetSingle(),
                metrics.GetProperty("ce_clean").GetProperty("default").GetSingle(),
                splice.GetProperty("ce").GetProperty("default").GetSingle(), splice.GetProperty("kl").GetSingle()];
        Assert.Equal(expected, carried["eval_metrics"].ToFloats());
        Assert.Equal(seen + 2, carried.Contents.Count);

        void Same(string name, string file, string array)
        {
            using NpzFile golden = NpzFile.Open(Fixtures.Path("demo", "goldens", $"{file}.npz"));
            Assert.Equal(Bytes(golden[array]), Bytes(carried[name]));
            seen++;
        }
    }

    [Fact]
    public void The_cpu_device_agrees_with_the_demos_goldens()
    {
        using Device device = TestDevices.Open("cpu");
        VerificationCheck[] checks = [.. DemoGoldens.Run(device)];
        Assert.All(checks, c => Assert.True(c.Ok == true, c.ToString()));
        // 1 of the stream, 3 of each text, 2 of each SAE, 5 of the evaluation.
        Assert.Equal(28, checks.Length);
    }

    [Fact]
    public void Fast_precision_has_limits_of_its_own_and_leaves_out_what_hangs_on_thresholds()
    {
        using var device = new FastDevice();
        VerificationCheck[] checks = [.. DemoGoldens.Run(device)];
        Assert.Equal([], checks.Where(c => c.Ok == false));
        Assert.Equal(13, checks.Count(c => c.Ok == true));
        Assert.Equal(9, checks.Count(c => c.Ok is null));
        // The limits are no wider than they need to be.
        Assert.Contains(checks, c => c.Ok == true && c.Measured > c.Limit / 8);
    }

    [Fact]
    public void A_device_that_can_run_a_few_tokens_only_is_held_to_those()
    {
        using var device = new RenamedDevice("emulated");
        VerificationCheck[] checks = [.. DemoGoldens.Run(device)];
        Assert.Equal([], checks.Where(c => c.Ok == false));
        Assert.Equal(6, checks.Count(c => c.Ok == true));
        Assert.Equal(2, checks.Count(c => c.Ok is null));
    }

    /// <summary>Small mistakes of each kind, on the few tokens that an emulated device would run.</summary>
    [Theory]
    [InlineData("silu for gelu", "resid_post.3")]
    [InlineData("norm of the branch, not of the stream", "resid_post.3")]
    [InlineData("rotates values", "resid_post.3")]
    [InlineData("activations in bf16", "resid_post.3")]
    [InlineData("ReLU", "active features")]
    [InlineData("the next target", "losses")]
    public void A_device_that_is_wrong_fails(string mutation, string failing)
    {
        using var device = new RenamedDevice("emulated", mutation);
        Assert.Contains(DemoGoldens.Run(device), c => c.Ok == false && c.Name.Contains(failing, StringComparison.Ordinal));
    }

    [Fact]
    public void A_device_that_throws_fails_with_what_it_threw()
    {
        using var device = new ThrowingDevice();
        Assert.Contains(DemoGoldens.Run(device), c => c.Ok == false && c.Message.Contains("out of work", StringComparison.Ordinal));
    }

    [Fact]
    public void Published_numbers_need_real_weights_and_say_so()
    {
        Assert.All(PublishedChecks.Lacking(),
            c => Assert.True(c.Ok is null && c.Message.Contains("google/gemma-2-2b", StringComparison.Ordinal)));
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae("res.3.2k.l0_19"));
        var site = new HookPoint(Site.ResidPost, 3);
        VerificationCheck[] checks =
            [.. PublishedChecks.OfModel(model, KernelScope.Demo.OpenTokenizer(), "x"),
                .. PublishedChecks.OfSae(model, KernelScope.Demo.OpenTokenizer(), new SaeTarget("res.3.2k.l0_19", sae, site, site), null)];
        Assert.Equal(4, checks.Length);
        Assert.All(checks, c => Assert.Null(c.Ok));
    }

    /// <summary>gemma.cpp's quantity, from the losses of a golden: (log₂ 4096 + Σ loss / ln 2) / characters.</summary>
    [Fact]
    public void Bits_a_character_count_the_first_token_as_any_of_the_vocabulary()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var cases = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("demo", "goldens", "cases.json")));
        string text = cases.RootElement.GetProperty("texts")[0].GetProperty("text").GetString()!;
        using var golden = new NpzArrays(Fixtures.Path("demo", "goldens", "text-tale.npz"));
        double expected = (12 + (golden.Doubles("next_token_loss").Sum() / Math.Log(2))) / text.Length;
        Assert.Equal(expected, PublishedChecks.MeasureBitsPerCharacter(model, KernelScope.Demo.OpenTokenizer(), text, default), 1e-5);
    }

    [Fact]
    public void A_greedy_continuation_is_the_text_of_twenty_tokens()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var cases = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("demo", "goldens", "cases.json")));
        using var golden = new NpzArrays(Fixtures.Path("demo", "goldens", "text-tale.npz"));
        string expected = KernelScope.Demo.OpenTokenizer().Decode(golden.Int32("greedy_tokens").AsSpan(0, 20));
        Assert.Equal(
            expected, PublishedChecks.Continue(model, KernelScope.Demo.OpenTokenizer(),
                cases.RootElement.GetProperty("texts")[0].GetProperty("text").GetString()!, default));
    }

    /// <summary>A row made of the goldens' metrics must fit them, and one that is off must not: what the check does with real weights.</summary>
    [Fact]
    public void A_row_of_the_table_is_held_against_the_metrics_of_its_name()
    {
        using Device device = TestDevices.Open("cpu");
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using var sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae("res.3.2k.l0_19"));
        using var golden = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("demo", "goldens", "sae-res.3.2k.l0_19.json")));
        JsonElement metrics = golden.RootElement.GetProperty("metrics"),
            splice = metrics.GetProperty("splices").GetProperty("sae/keep_bos");
        using var tokensFile = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("demo", "goldens", "tokens.json")));
        var set = TokenSet.Create(tokensFile.RootElement.GetProperty("sequences").Deserialize<int[][]>()!, model.Config);
        var row = new SaeBenchRow(3, 19, metrics.GetProperty("L0").GetDouble(), metrics.GetProperty("explained_variance").GetDouble(),
            PublishedNumbers.SaeBenchCleanLoss + splice.GetProperty("delta").GetProperty("default").GetDouble(),
            splice.GetProperty("loss_recovered").GetProperty("default").GetDouble());
        var site = new HookPoint(Site.ResidPost, 3);
        var target = new SaeTarget("res.3.2k.l0_19", sae, site, site);
        VerificationCheck[] checks = [.. PublishedChecks.Table(model, target, set, row, default)];
        Assert.Equal(4, checks.Length);
        Assert.All(checks, c => Assert.True(c.Ok, c.ToString()));
        Assert.All(checks.Where(c => !c.Name.Contains("variance", StringComparison.Ordinal)), c => Assert.InRange(c.Measured, 0, 1e-3));
        VerificationCheck[] off =
            [.. PublishedChecks.Table(model, target,
                set, new SaeBenchRow(3, 19, 1.3 * row.L0, null, row.SplicedLoss + 0.1, row.Recovered - 0.02), default)];
        Assert.Equal([false, false, false], off.Select(c => c.Ok!.Value));
    }

    [Fact]
    public void The_table_of_SAEBench_is_whole()
    {
        Assert.Equal(25, PublishedNumbers.SaeBench.Length);
        Assert.Equal(25, PublishedNumbers.SaeBench.Select(r => (r.Layer, r.Label)).Distinct().Count());
        // Loss recovered is (zero - spliced) / (zero - clean) with the table's own CE at zero ablation: the columns hold each other.
        Assert.All(PublishedNumbers.SaeBench,
            r => Assert.Equal((12.4529 - r.SplicedLoss) / (12.4529 - PublishedNumbers.SaeBenchCleanLoss), r.Recovered, 2e-4));
    }

    private static unsafe byte[] Bytes(TensorView view) => new ReadOnlySpan<byte>(view.Pointer, checked((int)view.ByteLength)).ToArray();

    /// <summary>A device under another name, so that it is treated as a slow one; right, or with a mistake.</summary>
    private sealed class RenamedDevice(string name, string? mutation = null)
        : ForwardingDevice(mutation is null ? new CpuDevice() : new MutantDevice(mutation))
    {
        public override string Name => name;
    }

    /// <summary>What fast precision is: activations rounded to bfloat16 before they meet a weight matrix.</summary>
    private sealed class FastDevice() : ForwardingDevice(new CpuDevice())
    {
        public override Precision Precision => Precision.Fast;

        protected override void LinearCore(Mat x, Weight weight, Mat destination) =>
            Rounded(x, rounded => base.LinearCore(rounded, weight, destination));

        protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination) =>
            Rounded(x, rounded => base.GatedGeluCore(rounded, gateUp, destination));

        private void Rounded(Mat x, Action<Mat> op)
        {
            float[] values = new float[x.Rows * x.Columns];
            Read(x, values);
            Mat rounded = CreateMat(x.Rows, x.Columns, "rounded");
            Write(Array.ConvertAll(values, v => (float)(BFloat16)v), rounded);
            op(rounded);
            rounded.Buffer.Dispose();
        }
    }

    private sealed class ThrowingDevice() : ForwardingDevice(new CpuDevice())
    {
        public override string Name => "emulated";

        protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination) =>
            throw new InvalidOperationException("The device is out of work.");
    }
}

using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Tests.Model;

namespace KernelScope.Tests.Sae;

/// <summary>Captures hold the whole sequence, however it came: what README.md's program relies on.</summary>
public sealed class CaptureTests
{
    private static readonly string[] SaesOfBase =
    [
        "gs-48x96", "sl-standard", "sl-topk", "sl-jumprelu-b-dec-to-input", "sl-jumprelu-constant-norm", "sl-jumprelu-layer-norm-b-dec",
    ];

    [Fact]
    public void The_README_program_gives_every_row_of_300_tokens()
    {
        using var device = new CpuDevice();
        using Gemma2Model model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using JumpReluSae sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae("res.3.2k.l0_19"));
        CheckRows(model, sae, sae.Site!.Value, Tokens(300, model.Config.VocabSize));
    }

    [Fact]
    public void And_of_3000_tokens_on_a_model_with_a_longer_context()
    {
        using var folder = new AlteredModel("base", config => config["max_position_embeddings"] = 4096);
        using var device = new CpuDevice();
        using Gemma2Model model = Gemma2Model.Open(device, folder.Folder);
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "gs-48x96"));
        CheckRows(model, sae, new HookPoint(Site.ResidPost, 1), Tokens(3000, model.Config.VocabSize));
    }

    [Fact]
    public void Generated_tokens_have_rows_as_if_they_had_been_in_the_prompt()
    {
        using var device = new CpuDevice();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "gs-48x96"));
        var site = new HookPoint(Site.ResidPost, 1);
        int[] prompt = Tokens(20, 300);
        using Session session = model.NewSession(chunkLength: 8);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        using var cache = new ActivationCache(session.Hooks, [site]);
        int[] generated = [.. new Generator(session, new GenerationOptions { MaxNewTokens = 30, StopIds = [] }).Generate(prompt)];
        Assert.Equal(50, capture.Codes.Rows);
        Assert.Equal(50, cache.Rows(site));
        (CodeList codes, float[] values) = InOneChunk(model, sae, site, [.. prompt, .. generated]);
        AssertSameRows(codes, capture.Codes, values, cache.Values(site));
    }

    /// <summary>No feature fires on NaN, so that it would pass for a row without features.</summary>
    [Theory]
    [MemberData(nameof(NotFinite))]
    public void A_row_with_a_value_that_is_not_finite_is_refused_by_position(string deviceName, string saeName, float value)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", saeName));
        var site = new HookPoint(Site.ResidPost, 1);
        using Session session = model.NewSession(chunkLength: 4);
        int broken = -1;
        using IDisposable breaking = session.Hooks.Add(site, (call, _, rows) =>
        {
            if (broken >= call.Position && broken < call.Position + rows.Rows)
                device.Write([value], rows.RowRange(broken - call.Position, 1).ColumnRange(7, 1));
        });
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        session.Prefill(Tokens(12, 300));
        foreach (int position in new[] { 0, 5, 11 })
        {
            session.Reset();
            broken = position;
            string message = Assert.ThrowsAny<InvalidOperationException>(() => session.Prefill(Tokens(12, 300))).Message;
            Assert.Contains($"resid_post.1, position {position},", message, StringComparison.Ordinal);
        }
    }

    public static TheoryData<string, string, float> NotFinite()
    {
        var data = new TheoryData<string, string, float>();
        foreach (float value in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            foreach (string sae in SaesOfBase)
                data.Add("cpu", sae, value);
            data.Add("reference", SaesOfBase[0], value);
            data.Add("cpu, packed", SaesOfBase[0], value);
        }

        return data;
    }

    /// <summary>What looks for such values reads back rows without features only.</summary>
    [Fact]
    public void Rows_with_features_stay_on_the_device()
    {
        using var device = new CountingDevice();
        using Gemma2Model model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        using JumpReluSae sae = JumpReluSae.Load(device, KernelScope.Demo.OpenSae("res.3.2k.l0_19"));
        using Session session = model.NewSession();
        using var capture = new FeatureCapture(session.Hooks, sae, sae.Site!.Value);
        session.Prefill(Tokens(100, model.Config.VocabSize));
        int empty = Enumerable.Range(0, 100).Count(t => capture.Codes.FeaturesOf(t).IsEmpty);
        Assert.True(empty < 10, $"{empty} rows have no features");
        Assert.InRange(device.Reads, empty == 0 ? 0 : 1, empty);
    }

    private sealed class CountingDevice() : ForwardingDevice(new CpuDevice(1))
    {
        public int Reads { get; private set; }

        protected override void ReadCore(Mat x, Span<float> destination)
        {
            Reads++;
            base.ReadCore(x, destination);
        }
    }

    [Fact]
    public void A_row_that_is_not_there_is_refused_by_number()
    {
        using var device = new CpuDevice();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "gs-48x96"));
        var site = new HookPoint(Site.ResidPost, 1);
        using Session session = model.NewSession(chunkLength: 4);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        using var cache = new ActivationCache(session.Hooks, [site], 3);
        Assert.Contains("no rows", Assert.Throws<ArgumentOutOfRangeException>(() => capture.Codes.FeaturesOf(0).Length).Message,
            StringComparison.Ordinal);
        session.Prefill(Tokens(10, 300));
        foreach (int row in (int[])[-1, 10, 11, int.MaxValue])
        {
            foreach (Action read in (Action[])[() => _ = capture.Codes.FeaturesOf(row).Length, () => _ = capture.Codes.ValuesOf(row).Length,
                () => capture.Codes.ValueOf(row, 0), () => _ = cache.Row(site, row).Length])
            {
                string message = Assert.Throws<ArgumentOutOfRangeException>(read).Message;
                Assert.Contains($"no row {row}", message, StringComparison.Ordinal);
                Assert.Contains("10 rows, 0 to 9", message, StringComparison.Ordinal);
            }
        }

        Assert.Equal(48, cache.Row(site, 9).Length);
        Assert.Throws<ArgumentException>(() => cache.Row(new HookPoint(Site.ResidPost, 2), 0).Length);
    }

    [Fact]
    public void Going_back_drops_rows_and_a_new_sequence_begins_anew()
    {
        using var device = new CpuDevice();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "gs-48x96"));
        var site = new HookPoint(Site.ResidPost, 1);
        int[] tokens = Tokens(20, 300);
        using Session session = model.NewSession(chunkLength: 16);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        using var cache = new ActivationCache(session.Hooks, [site]);
        session.Prefill(tokens);
        session.Rewind(13);
        Assert.Equal((13, 13), (capture.Codes.Rows, cache.Rows(site)));
        session.Prefill(tokens.AsSpan(13));
        (CodeList codes, float[] values) = InOneChunk(model, sae, site, tokens);
        AssertSameRows(codes, capture.Codes, values, cache.Values(site));
        session.Reset();
        Assert.Equal((0, 0), (capture.Codes.Rows, cache.Rows(site)));
        session.Prefill(tokens.AsSpan(0, 5));
        Assert.Equal((5, 5), (capture.Codes.Rows, cache.Rows(site)));
    }

    [Fact]
    public void A_capture_that_begins_in_the_middle_says_where()
    {
        using var device = new CpuDevice();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "gs-48x96"));
        var site = new HookPoint(Site.ResidPost, 1);
        using Session session = model.NewSession();
        session.Prefill(Tokens(7, 300));
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        using var cache = new ActivationCache(session.Hooks, [site]);
        session.Prefill(Tokens(3, 300));
        Assert.Equal((3, 7), (capture.Codes.Rows, capture.FirstPosition));
        Assert.Equal((3, 7), (cache.Rows(site), cache.FirstPosition(site)));
        session.Rewind(8);
        Assert.Equal((1, 1), (capture.Codes.Rows, cache.Rows(site)));
        capture.Clear();
        cache.Clear();
        session.Prefill(Tokens(2, 300));
        Assert.Equal((2, 8, 2, 8), (capture.Codes.Rows, capture.FirstPosition, cache.Rows(site), cache.FirstPosition(site)));
    }

    private static int[] Tokens(int count, int vocabulary) =>
        [2, .. Enumerable.Range(1, count - 1).Select(i => 3 + ((i * 7919) % (vocabulary - 3)))];

    private static void CheckRows(Gemma2Model model, JumpReluSae sae, HookPoint site, int[] tokens)
    {
        using Session session = model.NewSession();
        Assert.True(session.ChunkLength < tokens.Length);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        using var cache = new ActivationCache(session.Hooks, [site]);
        session.Prefill(tokens);
        Assert.Equal(tokens.Length, capture.Codes.Rows);
        Assert.Equal(0, capture.FirstPosition);
        (CodeList codes, float[] values) = InOneChunk(model, sae, site, tokens);
        AssertSameRows(codes, capture.Codes, values, cache.Values(site));
    }

    private static (CodeList Codes, float[] Values) InOneChunk(Gemma2Model model, JumpReluSae sae, HookPoint site, int[] tokens)
    {
        using Session whole = model.NewSession(tokens.Length, tokens.Length);
        using var capture = new FeatureCapture(whole.Hooks, sae, site);
        using var cache = new ActivationCache(whole.Hooks, [site], tokens.Length);
        model.Forward(tokens, whole, LogitRows.None);
        return (capture.Codes, cache.Values(site).ToArray());
    }

    /// <summary>Float32 sums in another order: 10⁻⁴ of the largest value; a feature may be in one list only if it is as close as that to its threshold there.</summary>
    private static void AssertSameRows(CodeList expected, CodeList actual, ReadOnlySpan<float> expectedValues,
        ReadOnlySpan<float> actualValues)
    {
        Assert.True(Compare.Relative(actualValues, expectedValues) <= 1e-4);
        Assert.Equal(expected.Rows, actual.Rows);
        float largest = expected.Value.AsSpan(0, expected.Count).ToArray().Max();
        int differ = 0;
        for (int r = 0; r < expected.Rows; r++)
        {
            int[] wanted = expected.FeaturesOf(r).ToArray(), got = actual.FeaturesOf(r).ToArray();
            differ += wanted.Except(got).Count() + got.Except(wanted).Count();
            foreach (int f in wanted.Intersect(got))
                Assert.True(Math.Abs(expected.ValueOf(r, f) - actual.ValueOf(r, f)) <= 1e-4 * largest, $"row {r}, feature {f}");
        }

        Assert.True(differ <= expected.Count / 1000, $"{differ} of {expected.Count} active features differ");
    }
}

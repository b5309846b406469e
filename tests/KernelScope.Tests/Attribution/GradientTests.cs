using System.Text.Json;
using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Attribution;

/// <summary>Gradients against torch's autograd in float64 (fixtures/sae/evaluation) and against finite differences.</summary>
public sealed class GradientTests
{
    private static readonly (string Folder, string Site, string SiteOut)[] Saes =
    [
        ("sae-resid_post.2", "resid_post.2", "resid_post.2"),
            ("sae-z.1", "z.1", "z.1"), ("sae-mlp_out_post.1", "mlp_out_post.1", "mlp_out_post.1"),
        ("sae-mlp_in_unit.1-to-mlp_out_post.1", "mlp_in_unit.1", "mlp_out_post.1"),
    ];

    public static TheoryData<string, string> DevicesAndSaes()
    {
        var data = new TheoryData<string, string>();
        foreach (string device in TestDevices.All)
        {
            foreach ((string folder, _, _) in Saes)
                data.Add(device, folder);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(DevicesAndSaes))]
    public void Gradients_and_uniformity_equal_autograd(string deviceName, string folder)
    {
        (_, string siteName, string siteOutName) = Saes.Single(s => s.Folder == folder);
        HookPoint site = HookPoint.Parse(siteName), siteOut = HookPoint.Parse(siteOutName);
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("sae", "evaluation", "model"));
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "evaluation", folder));
        using var expected = new NpzArrays(Fixtures.Path("sae", "evaluation", folder, "expected.npz"));
        using var tokensFile = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("sae", "evaluation", "tokens.json")));
        int[][] sequences = tokensFile.RootElement.GetProperty("sequences").Deserialize<int[][]>()!;
        int length = (int)expected.Shape("ids")[1];
        float[] own = expected.Floats("grad_own");
        double[] rOwn = expected.Doubles("r_L0"), rSummed = expected.Doubles("r_L0_summed");
        double largest = own.Max(Math.Abs);
        using var gradient = new StreamGradient(model, length);
        var attribution = new FeatureAttribution(sae);
        for (int b = 0; b < sequences.Length; b++)
        {
            // torch's array holds a gradient at padding too; what counts are the sequence's own positions.
            int[] tokens = sequences[b];
            CodeList codes = Codes(model, sae, site, tokens);
            gradient.Forward(tokens, siteOut.Layer);
            float[] actual =
                gradient.Backward([siteOut], (t, logits, seed) => CentredLogit(tokens, t, seed), ownPositionOnly: true)[siteOut];
            int width = actual.Length / tokens.Length;
            ReadOnlySpan<float> wanted = own.AsSpan(b * length * width, (tokens.Length - 1) * width);
            Assert.True(Compare.Largest(actual.AsSpan(0, wanted.Length), wanted) <= 1e-5 * largest, $"grad_own of sequence {b}");
            CheckUniformity(attribution.Of(codes, actual), codes, actual, rOwn.AsSpan(b * length, tokens.Length - 1));

            float[] summed = gradient.Backward([siteOut], (t, logits, seed) =>
            {
                if (tokens[t] > 2)
                    CentredLogit(tokens, t, seed);
            })[siteOut];
            CheckUniformity(attribution.Of(codes, summed), codes, summed, rSummed.AsSpan(b * length, tokens.Length - 1));
        }
    }

    [Fact]
    public void Gradients_equal_finite_differences_at_every_site()
    {
        using Device device = TestDevices.Open("reference");
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("sae", "evaluation", "model"));
        int[] tokens = [2, 40, 77, 5, 113, 200, 8, 9, 41, 6];
        var random = new Random(7);
        using var gradient = new StreamGradient(model, tokens.Length);
        gradient.Forward(tokens, 0);
        HookPoint[] points = [.. StreamGradient.Sites.SelectMany(s => new[] { 0, 1, 3 }.Select(l => new HookPoint(s, l)))];
        IReadOnlyDictionary<HookPoint, float[]> gradients = gradient.Backward(points, (t, logits, seed) => CentredLogit(tokens, t, seed));
        foreach (HookPoint point in points)
        {
            float[] direction = [.. gradients[point].Select(_ => (float)(random.NextDouble() - 0.5))];
            double slope = direction.Zip(gradients[point], (d, g) => (double)d * g).Sum();
            // A central difference with a step that balances its cubic error against the float32 rounding of what passes the layers.
            const float Step = 2e-3f;
            double measured = (Loss(model, tokens, point, direction, Step) - Loss(model, tokens, point, direction, -Step)) / (2 * Step);
            double scale = Math.Sqrt(gradients[point].Sum(g => (double)g * g) / 12);
            Assert.True(Math.Abs(slope - measured) <= 0.02 * scale,
                $"{point}: {slope:g5} by the gradient, {measured:g5} by differences, scale {scale:g3}");
        }
    }

    [Fact]
    public void A_gradient_asked_for_alone_has_the_bits_of_one_among_all()
    {
        using Device device = TestDevices.Open("cpu");
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("sae", "evaluation", "model"));
        int[] tokens = [2, 40, 77, 5, 113, 200, 8, 9, 41, 6];
        using var gradient = new StreamGradient(model, tokens.Length);
        gradient.Forward(tokens, 0);
        HookPoint[] points =
            [.. StreamGradient.Sites.SelectMany(s => Enumerable.Range(0, model.Config.LayerCount).Select(l => new HookPoint(s, l)))];
        IReadOnlyDictionary<HookPoint, float[]> all = gradient.Backward(points, (t, _, seed) => CentredLogit(tokens, t, seed));
        foreach (HookPoint point in points)
        {
            gradient.Forward(tokens, StreamGradient.FirstLayerFor(point));
            Assert.Equal(all[point], gradient.Backward([point], (t, _, seed) => CentredLogit(tokens, t, seed))[point]);
        }
    }

    private static double Loss(Gemma2Model model, int[] tokens, HookPoint point, float[] direction, float step)
    {
        using Session session = model.NewSession(chunkLength: tokens.Length);
        using IDisposable hook = session.Hooks.Add(point, (call, _, value) =>
        {
            Mat push = call.Device.CreateMat(value.Rows, value.Columns, "push");
            call.Device.Write(direction, push);
            call.Device.AddScaled(push, step, value);
            push.Buffer.Dispose();
        });
        Mat logits = model.Forward(tokens, session, LogitRows.All);
        float[] values = new float[logits.Rows * logits.Columns];
        model.Device.Read(logits, values);
        double loss = 0;
        for (int t = 0; t + 1 < tokens.Length; t++)
        {
            float[] row = values[(t * logits.Columns)..((t + 1) * logits.Columns)];
            loss += row[tokens[t + 1]] - row.Average(v => (double)v);
        }

        return loss;
    }

    internal static void CentredLogit(int[] tokens, int t, Span<float> seed)
    {
        if (t + 1 >= tokens.Length)
            return;
        seed.Fill(-1f / seed.Length);
        seed[tokens[t + 1]] += 1f;
    }

    internal static CodeList Codes(Gemma2Model model, JumpReluSae sae, HookPoint site, int[] tokens)
    {
        using Session session = model.NewSession(chunkLength: tokens.Length);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        session.Prefill(tokens);
        return capture.Codes;
    }

    /// <summary>What r_L0 of a position is held to: 1e-5 times the cancellation in its y, Σ f·‖∇‖ over Σ |y| (W_dec's rows have unit norm), by which an error of the gradient grows on its way to y.</summary>
    internal static double UniformityLimit(ReadOnlySpan<double> y, ReadOnlySpan<float> codes, ReadOnlySpan<float> gradient)
    {
        double norm = Math.Sqrt(gradient.ToArray().Sum(g => (double)g * g)),
            cancellation = codes.ToArray().Sum(f => (double)f) * norm / y.ToArray().Sum(Math.Abs);
        return 1e-5 * Math.Max(1, cancellation);
    }

    /// <summary>The mean is held to 1e-5, as the metric that is reported; each position to <see cref="UniformityLimit"/>.</summary>
    private static void CheckUniformity(double[] y, CodeList codes, ReadOnlySpan<float> gradients, ReadOnlySpan<double> expected)
    {
        int width = gradients.Length / codes.Rows, counted = 0;
        double sum = 0;
        for (int t = 0; t < expected.Length; t++)
        {
            // NaN stands where the definition leaves a position out.
            if (double.IsNaN(expected[t]))
                continue;
            ReadOnlySpan<double> own = y.AsSpan((int)codes.RowStart[t]..(int)codes.RowStart[t + 1]);
            double limit = UniformityLimit(own, codes.ValuesOf(t), gradients.Slice(t * width, width)),
                difference = FeatureAttribution.Uniformity(own) - expected[t];
            Assert.True(Math.Abs(difference) <= limit, $"position {t}: {difference:g3} instead of at most {limit:g3}");
            sum += difference;
            counted++;
        }

        Assert.True(Math.Abs(sum) <= 1e-5 * counted, $"the mean differs by {sum / counted:g3}");
    }
}

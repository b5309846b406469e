using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Conformance;

/// <summary>The demo model and its SAEs on a device, against stored numbers of transformers and SAELens (<c>content/verify/goldens.npz</c>; <c>NOTICE.md</c> says how they were made).</summary>
/// <remarks>
/// Limits are those of <c>tests/fixtures/README.md</c> for float32: five to ten times what transformers' own float32 departs from float64. On the emulated device only the first
/// tokens of one text run (nothing at a position depends on later ones). In <see cref="Precision.Fast"/>
/// the limits are some five times what rounding activations to bfloat16 gives here (1e-3 of the stream's largest value, 0.014 nats, 0.017 on a logit), and what hangs on thresholds and near ties is not compared.
/// </remarks>
public static class DemoGoldens
{
    private const string Resource = "verify/goldens.npz";
    private const string MainText = "tale";
    private const string EvaluatedSae = "res.3.2k.l0_19";
    private const int EmulatedTokens = 10;
    private const int GreedyTokens = 40;
    private const string Transformers = "transformers 5.23.0, eager attention, float32, on this model";
    private const string SaeLens = "SAELens 6.54.12 on transformers' activations";
    private const string Float64 = "float64 evaluation with PyTorch, by the definitions of eval --json";
    private const string Miss = "an op, the model or a weight is wrong on this device; the op table says more";
    private static readonly string[] Texts = [MainText, "scripture", "question", "csharp", "numbers", "languages"];
    private static readonly string[] Saes = [EvaluatedSae, "transcoder.3.1k.l0_20"];

    private static readonly (string Name, string[] Path, double Limit)[] Metrics =
    [
        ("L0", ["L0"], 0.01), ("FVU", ["fvu"], 1e-5), ("CE clean", ["ce_clean", "default"], 2e-5),
        ("CE spliced", ["splices", "sae/keep_bos", "ce", "default"], 2e-5), ("KL", ["splices", "sae/keep_bos", "kl"], 1e-5),
    ];

    /// <summary>Runs the checks, each when it is asked for.</summary>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static IEnumerable<VerificationCheck> Run(Device device, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Checks(device, cancellationToken);
    }

    /// <summary>The stored numbers; for tests that hold them against their source.</summary>
    internal static NpzFile OpenGoldens() => NpzFile.Parse(Demo.Raw(Resource));

    private static IEnumerable<VerificationCheck> Checks(Device device, CancellationToken cancellationToken)
    {
        bool emulated = device.Name == "emulated", exact = device.Precision == Precision.Exact;
        using NpzFile goldens = OpenGoldens();
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint(), cancellationToken: cancellationToken);
        foreach (string text in emulated ? [MainText] : Texts)
        {
            foreach (VerificationCheck check in Guarded(
                $"demo, {text}", Transformers, () => Text(model, goldens, text, emulated, cancellationToken)))
                yield return check;
        }

        foreach (string sae in Saes)
        {
            if (!exact)
                yield return VerificationCheck.NotRun($"demo, {sae}: codes",
                    "in fast precision activations near a threshold may fall on either side of it", SaeLens);
            else
            {
                foreach (VerificationCheck check in Guarded(
                    $"demo, {sae}", SaeLens, () => Codes(model, goldens, sae, emulated, cancellationToken)))
                    yield return check;
            }
        }

        string name = $"demo, {EvaluatedSae}: evaluation";
        if (!exact)
            yield return VerificationCheck.NotRun(name, "the limits are those of exact precision", Float64);
        else if (emulated || device.Name == "reference")
            yield return VerificationCheck.NotRun(name, $"2,048 tokens and eleven passes take too long on the {device.Name} device",
                Float64);
        else
        {
            foreach (VerificationCheck check in Guarded(name, Float64, () => Evaluation(model, goldens, cancellationToken)))
                yield return check;
        }
    }

    private static List<VerificationCheck> Guarded(string name, string source, Func<List<VerificationCheck>> run)
    {
        try
        {
            return run();
        }
#pragma warning disable CA1031 // A device that throws has failed the check, whatever it throws.
        catch (Exception e) when (e is not OperationCanceledException)
#pragma warning restore CA1031
        {
            return [VerificationCheck.Threw(name, e, double.NaN, source)];
        }
    }

    private static List<VerificationCheck> Text(
        Gemma2Model model, NpzFile goldens, string text, bool emulated, CancellationToken cancellationToken)
    {
        bool exact = model.Device.Precision == Precision.Exact;
        int[] tokens = Ints(goldens, $"tokens_{text}");
        int count = emulated ? EmulatedTokens : tokens.Length;
        using Session session = model.NewSession(count + (emulated ? 0 : GreedyTokens), count);
        var point = new HookPoint(Site.ResidPost, 3);
        using var cache = new ActivationCache(session.Hooks, text == MainText ? [point] : [], count);
        Mat last = model.Forward(tokens.AsSpan(0, count), session, emulated ? LogitRows.None : LogitRows.Last, cancellationToken);
        double[] losses = new double[count - 1];
        model.NextTokenLoss(tokens.AsSpan(1, count - 1), session, losses);

        List<VerificationCheck> checks = [];
        if (text == MainText)
        {
            float[] expected = goldens[$"resid_post.3_{text}"].ToFloats();
            checks.Add(VerificationCheck.Within($"demo, {text}: resid_post.3, largest difference / largest value",
                Relative(expected.AsSpan(0, cache.Values(point).Length), cache.Values(point)), exact ? 2e-5 : 4e-3, Transformers, Miss));
        }

        float[] loss = goldens[$"next_token_loss_{text}"].ToFloats();
        checks.Add(VerificationCheck.Within($"demo, {text}: next-token losses, nats",
            Largest(loss.AsSpan(0, losses.Length), Array.ConvertAll(losses, l => (float)l)), exact ? 1e-4 : 0.1, Transformers, Miss));
        if (emulated)
        {
            checks.Add(VerificationCheck.NotRun($"demo, {text}: logits and greedy tokens",
                $"only the first {count} tokens run on the emulated device", Transformers));
            return checks;
        }

        float[] logits = new float[model.Config.VocabSize];
        model.Device.Read(last, logits);
        checks.Add(VerificationCheck.Within($"demo, {text}: last logits", Largest(goldens[$"logits_last_{text}"].ToFloats(), logits), exact
            ? 2e-4 : 0.1, Transformers, Miss));
        // The greedy run is another sequence.
        cache.Dispose();
        checks.Add(Greedy(model, goldens, text, session, tokens, cancellationToken));
        return checks;
    }

    private static VerificationCheck Greedy(
        Gemma2Model model, NpzFile goldens, string text, Session session, int[] tokens, CancellationToken cancellationToken)
    {
        string name = $"demo, {text}: greedy tokens that differ, of {GreedyTokens}";
        if (model.Device.Precision != Precision.Exact)
            return VerificationCheck.NotRun(name, "in fast precision a near tie may fall the other way", Transformers);
        session.Reset();
        var generator = new Generation.Generator(session, new GenerationOptions { MaxNewTokens = GreedyTokens, StopIds = [] });
        int[] expected = Ints(goldens, $"greedy_tokens_{text}");
        int different = generator.Generate(tokens, cancellationToken).Zip(expected).Count(pair => pair.First != pair.Second);
        return VerificationCheck.Within(name, different, 0,
            Transformers, "the cache or a step of one token is wrong where the prefill is right");
    }

    private static List<VerificationCheck> Codes(
        Gemma2Model model, NpzFile goldens, string name, bool emulated, CancellationToken cancellationToken)
    {
        using var sae = JumpReluSae.Load(model.Device, Demo.OpenSae(name));
        int[] tokens = Ints(goldens, $"tokens_{MainText}");
        int count = emulated ? EmulatedTokens : tokens.Length;
        HookPoint site = name.StartsWith("transcoder", StringComparison.Ordinal) ? new(Site.MlpInUnit, 3) : new(Site.ResidPost, 3);
        using Session session = model.NewSession(count, count);
        using var capture = new FeatureCapture(session.Hooks, sae, site);
        model.ForwardTo(site.Layer + 1, tokens.AsSpan(0, count), session, cancellationToken);

        int[] starts = Ints(goldens, $"{name}_row_ptr"), features = Ints(goldens, $"{name}_feature"), near = Ints(goldens, $"{name}_near");
        float[] values = goldens[$"{name}_value"].ToFloats();
        int different = 0;
        double worst = 0;
        for (int r = 0; r < count; r++)
        {
            Dictionary<int, float> expected = Enumerable.Range(starts[r], starts[r + 1] - starts[r])
                .ToDictionary(i => features[i], i => values[i]);
            int[] actual = capture.Codes.FeaturesOf(r).ToArray();
            different += expected.Keys.Except(actual).Concat(actual.Except(expected.Keys)).Count(f => !IsNear(near, r, f));
            foreach (int f in actual.Where(expected.ContainsKey))
                worst = Largest([expected[f]], [capture.Codes.ValueOf(r, f)], worst);
        }

        return
        [
            VerificationCheck.Within($"demo, {name}: active features that differ", different,
                0, SaeLens, "the encoder, its threshold or what it reads is wrong"),
            VerificationCheck.Within($"demo, {name}: codes, largest difference / largest value", worst / values.Max(), 1e-5,
                SaeLens, "the encoder or what it reads is wrong"),
        ];
    }

    private static List<VerificationCheck> Evaluation(Gemma2Model model, NpzFile goldens, CancellationToken cancellationToken)
    {
        using var sae = JumpReluSae.Load(model.Device, Demo.OpenSae(EvaluatedSae));
        var site = new HookPoint(Site.ResidPost, 3);
        TensorView ids = goldens["eval_tokens"];
        TokenSet tokens = TokenSet.Create([.. Ints(goldens, "eval_tokens").Chunk((int)ids.Shape[1])], model.Config);
        var evaluation =
            new SaeEvaluation(model, [new SaeTarget(EvaluatedSae, sae, site, site)], tokens,
                new EvaluationOptions { Bootstrap = new Bootstrap(1), Gradients = false });
        MetricTable metrics = evaluation.Run(cancellationToken: cancellationToken).Saes[0].Metrics;
        double[] expected = Doubles(goldens["eval_metrics"]);
        return [.. Metrics.Select(
            (m, i) => VerificationCheck.Within($"demo, {EvaluatedSae}: {m.Name}", Math.Abs(metrics[m.Path] - expected[i]),
                m.Limit, Float64, "the splice, the loss or the SAE is wrong"))];
    }

    private static bool IsNear(int[] pairs, int row, int feature) =>
        Enumerable.Range(0, pairs.Length / 2).Any(i => pairs[2 * i] == row && pairs[(2 * i) + 1] == feature);

    private static int[] Ints(NpzFile goldens, string name) => Array.ConvertAll(goldens[name].ToInt64s(), v => checked((int)v));

    private static unsafe double[] Doubles(TensorView view) =>
        System.Runtime.InteropServices.MemoryMarshal.Cast<byte, double>(new ReadOnlySpan<byte>(view.Pointer, checked((int)view.ByteLength)))
            .ToArray();

    private static double Relative(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual)
    {
        double largest = 0;
        foreach (float value in expected)
            largest = Math.Max(largest, Math.Abs(value));
        return Largest(expected, actual) / largest;
    }

    /// <summary>The largest difference; infinite where something is not a number.</summary>
    private static double Largest(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, double worst = 0)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            double difference = Math.Abs((double)expected[i] - actual[i]);
            worst = double.IsNaN(difference) ? double.PositiveInfinity : Math.Max(worst, difference);
        }

        return worst;
    }
}

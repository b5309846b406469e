using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Evaluation;

/// <summary>Edits and splices in prefill and in generation, with a cache and without, against transformers in float64 (fixtures/sae/evaluation: "edits", "generation" and edit_logits_*).</summary>
public sealed class EditGoldenTests
{
    private const int BosId = 2;

    public static TheoryData<string, string> Cases()
    {
        var data = new TheoryData<string, string>();
        foreach (string device in TestDevices.All)
        {
            // The reference edits no transcoder.
            foreach (string name in EvaluationCase.Names.Where(n => !n.Contains("-to-", StringComparison.Ordinal)))
                data.Add(device, name);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Logits_losses_and_divergences_of_every_edit(string deviceName, string name)
    {
        using var run = new EvaluationCase(deviceName, name);
        using JsonDocument golden = Golden(name);
        using var arrays = new NpzArrays(Path.Combine(EvaluationCase.Folder(name), "expected.npz"));
        int edits = 0;
        foreach (JsonElement edit in golden.RootElement.GetProperty("metrics").GetProperty("edits").EnumerateArray())
        {
            double kl = 0, delta = 0;
            int counted = 0, losses = 0;
            for (int b = 0; b < run.Tokens.Count; b++)
            {
                int[] tokens = run.Tokens.Sequence(b).ToArray();
                double[][] clean = Logits(run, tokens, null), edited =
                    Logits(run, tokens, hooks => Splice(run, hooks, edit, Where(edit.GetProperty("where").GetString()!, tokens.Length)));
                if (b == 0)
                    CheckLogits(arrays, $"edit_logits_{edit.GetProperty("name").GetString()}", edited);
                for (int t = 0; t < tokens.Length; t++)
                {
                    if (run.Tokens.IsSpecial(tokens[t]))
                        continue;
                    double[] p = LogSoftmax(clean[t]), q = LogSoftmax(edited[t]);
                    kl += p.Zip(q, (a, c) => Math.Exp(a) * (a - c)).Sum();
                    counted++;
                    if (t + 1 == tokens.Length || tokens[t + 1] == run.Tokens.PadId)
                        continue;
                    delta += p[tokens[t + 1]] - q[tokens[t + 1]];
                    losses++;
                }
            }

            Assert.Equal(edit.GetProperty("kl").GetDouble(), kl / counted, 1e-6);
            Assert.Equal(edit.GetProperty("delta_ce_default").GetDouble(), delta / losses, 2e-6);
            edits++;
        }

        Assert.True(edits >= 3);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Tokens_of_every_edit_and_splice_with_and_without_a_cache(string deviceName, string name)
    {
        using var run = new EvaluationCase(deviceName, name);
        using JsonDocument golden = Golden(name);
        JsonElement metrics = golden.RootElement.GetProperty("metrics");
        int generations = 0;
        foreach (JsonElement edit in metrics.GetProperty("edits").EnumerateArray())
        {
            if (!edit.TryGetProperty("generation", out JsonElement all))
                continue;
            foreach (JsonElement generation in all.EnumerateArray())
            {
                int[] prompt = Ints(generation, "prompt");
                CheckTokens(run,
                    generation, hooks => Splice(run, hooks, edit, Where(generation.GetProperty("where").GetString()!, prompt.Length)));
                generations++;
            }
        }

        foreach (JsonElement generation in metrics.GetProperty("generation").EnumerateArray())
        {
            SpliceMode mode = generation.GetProperty("splice")
                .GetString() switch
            { "sae" => SpliceMode.Sae, "sae_plus_error" => SpliceMode.SaePlusError, _ => SpliceMode.None };
            CheckTokens(run, generation,
                hooks => new SaeSplice(hooks, run.Targets[0].Sae, run.Targets[0].Site, run.Targets[0].SiteOut,
                    mode, Positions.AllBut(BosId), []));
            generations++;
        }

        Assert.True(generations >= 12);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void An_edit_of_strength_0_changes_no_bit(string deviceName, string name)
    {
        using var run = new EvaluationCase(deviceName, name);
        int[] tokens = run.Tokens.Sequence(0).ToArray();
        SaeCodes(run, tokens, out int dead);
        FeatureEdit[] edits = [new(0, FeatureEditKind.Add, 0), new(7, FeatureEditKind.Add, -0f), new(dead, FeatureEditKind.Clamp, 0)];
        double[][] clean = Logits(run, tokens, null);
        double[][] edited =
            Logits(run, tokens,
                hooks => new SaeSplice(hooks, run.Targets[0].Sae, run.Targets[0].Site, run.Targets[0].SiteOut, SpliceMode.None,
                    Positions.All, edits));
        Assert.Equal(clean, edited);
    }

    /// <summary>A feature that fires nowhere in a text: clamping it to 0 is an edit of strength 0.</summary>
    private static void SaeCodes(EvaluationCase run, int[] tokens, out int dead)
    {
        using Session session = run.Model.NewSession(tokens.Length, tokens.Length);
        using var capture = new FeatureCapture(session.Hooks, run.Targets[0].Sae, run.Targets[0].Site);
        run.Model.Forward(tokens, session);
        HashSet<int> firing = [.. capture.Codes.Feature.AsSpan(0, capture.Codes.Count).ToArray()];
        dead = Enumerable.Range(0, run.Targets[0].Sae.FeatureCount).First(f => !firing.Contains(f));
    }

    private static SaeSplice Splice(EvaluationCase run, Hooks.HookSet hooks, JsonElement edit, Positions where)
    {
        FeatureEditKind kind = edit.GetProperty("kind").GetString() == "add" ? FeatureEditKind.Add : FeatureEditKind.Clamp;
        FeatureEdit[] edits = [new(edit.GetProperty("feature").GetInt32(), kind, edit.GetProperty("value").GetSingle())];
        return new(hooks, run.Targets[0].Sae, run.Targets[0].Site, run.Targets[0].SiteOut, SpliceMode.None, where, edits);
    }

    private static Positions Where(string name, int length) => name switch
    {
        "all" => Positions.All,
        "all_but_bos" => Positions.AllBut(BosId),
        "last" => Positions.Of(length - 1),
        "from_last" => Positions.From(length - 1),
        _ => throw new ArgumentException(name),
    };

    private static void CheckTokens(EvaluationCase run, JsonElement generation, Func<Hooks.HookSet, IDisposable> splice)
    {
        int[] prompt = Ints(generation, "prompt"), expected = Ints(generation, "tokens");
        using Session session = run.Model.NewSession();
        using IDisposable armed = splice(session.Hooks);
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = expected.Length, StopIds = [] });
        Assert.Equal(expected, generator.Generate(prompt));

        using var sampler = new Sampler(run.Device, run.Model.Config.VocabSize, new SamplingOptions());
        List<int> ids = [.. prompt];
        while (ids.Count < prompt.Length + expected.Length)
        {
            session.Reset();
            ids.Add(sampler.Next(session.Prefill(ids.ToArray())));
        }

        Assert.Equal(expected, ids.Skip(prompt.Length));
    }

    private static double[][] Logits(EvaluationCase run, int[] tokens, Func<Hooks.HookSet, IDisposable>? splice)
    {
        using Session session = run.Model.NewSession(tokens.Length, tokens.Length);
        using IDisposable? armed = splice?.Invoke(session.Hooks);
        float[] logits = new float[tokens.Length * run.Model.Config.VocabSize];
        run.Device.Read(run.Model.Forward(tokens, session, LogitRows.All), logits);
        return [.. logits.Chunk(run.Model.Config.VocabSize).Select(row => row.Select(l => (double)l).ToArray())];
    }

    private static double[] LogSoftmax(double[] logits)
    {
        double max = logits.Max(), sum = max + Math.Log(logits.Sum(l => Math.Exp(l - max)));
        return [.. logits.Select(l => l - sum)];
    }

    private static void CheckLogits(NpzArrays arrays, string name, double[][] logits)
    {
        float[] expected = arrays.Floats(name);
        double worst = expected.Zip(logits.SelectMany(row => row), (a, b) => Math.Abs(a - b)).Max();
        Assert.True(worst <= 5e-5, $"{name}: departs by {worst:g3}");
    }

    private static JsonDocument Golden(string name) =>
        JsonDocument.Parse(File.ReadAllBytes(Path.Combine(EvaluationCase.Folder(name), "expected.json")));

    private static int[] Ints(JsonElement element, string name) =>
        [.. element.GetProperty(name).EnumerateArray().Select(e => e.GetInt32())];
}

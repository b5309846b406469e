using System.Runtime.Intrinsics;
using System.Text.Json;
using System.Text.RegularExpressions;
using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Evaluation;

/// <summary>The parts of an evaluation on cases that can be computed by hand, and what it refuses.</summary>
public sealed class EvaluationPartsTests
{
    private static Gemma2Config Config =>
        Gemma2Config.Parse(File.ReadAllBytes(Path.Combine(EvaluationCase.Folder("model"), "config.json")), "config.json");

    [Fact]
    public void Masks_follow_their_definitions()
    {
        // BOS a EOS b | padding: positions 1 and 3 count; padding is 0, EOS 1, BOS 2.
        var set = TokenSet.Create([[2, 5, 1, 6], [2, 7, 8, 9, 10]], Config);
        int[] padded = set.Padded(0);
        Assert.Equal([2, 5, 1, 6, 0], padded);
        Assert.Equal([0, 1, 2], set.SpecialIds);
        bool[] Of(LossMask mask) => [.. Enumerable.Range(0, 4).Select(t => set.Counts(mask, padded[t], padded[t + 1]))];
        Assert.Equal([false, true, false, false], Of(LossMask.Default));
        Assert.Equal([false, true, false, true], Of(LossMask.Saelens));
        Assert.Equal([false, false, false, false], Of(LossMask.Strict));
        Assert.Equal([true, true, true, false], Of(LossMask.AllButPad));
    }

    [Fact]
    public void Padding_is_special_whatever_ids_are_given() => Assert.Equal([0, 7], TokenSet.Create([[2, 5]], Config, [7]).SpecialIds);

    [Theory]
    [InlineData("[]", "There is no sequence")]
    [InlineData("[[2, 1], [2]]", "No position counts")]
    [InlineData("[[]]", "No position counts")]
    [InlineData("[[2, 5], [2, 300]]", "Sequence 1, position 1: the id 300 is outside the vocabulary of 300")]
    [InlineData("[[2, -1]]", "Sequence 0, position 1: the id -1 is outside")]
    public void Bad_token_sets_are_refused(string json, string words)
    {
        using var folder = new TempFolder();
        int[][] sequences = TokenFiles.ReadJson(folder.Write("tokens.json", json));
        var error = Assert.Throws<ArgumentException>(() => TokenSet.Create(sequences, Config));
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"tokens\": []}", "no 'sequences'")]
    [InlineData("[2, 5]", "sequence 0 is the number 2")]
    [InlineData("[[2, 5.5]]", "sequence 0, position 1: the number 5.5 is not a token id")]
    [InlineData("[[2, \"a\"]]", "sequence 0, position 1")]
    [InlineData("[[2, 99999999999]]", "sequence 0, position 1")]
    [InlineData("7", "the sequences are the number 7")]
    [InlineData("[[2, 5]", "this is not valid JSON")]
    [InlineData("", "the file is empty")]
    public void Bad_token_files_are_refused(string json, string words)
    {
        using var folder = new TempFolder();
        var error = Assert.Throws<InvalidDataException>(() => TokenFiles.ReadJson(folder.Write("tokens.json", json)));
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
        Assert.Contains("tokens.json", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_sequence_longer_than_the_context_is_refused() =>
        Assert.Contains("Sequence 0 has 129 tokens; the model's context holds 128",
            Assert.Throws<ArgumentException>(() => TokenSet.Create([new int[129]], Config)).Message, StringComparison.Ordinal);

    [Fact]
    public void Sums_over_a_row_of_logits_are_those_of_a_plain_loop()
    {
        var random = new Random(3);
        foreach (int length in new[] { 1, 3, 4, 5, 8, 31, 300, 1025 })
        {
            float[] clean = [.. Enumerable.Range(0, length).Select(_ => (float)((random.NextDouble() - 0.5) * 60))];
            float[] other = [.. clean.Select(v => v + (float)(random.NextDouble() - 0.5))];
            double[] p = new double[length];
            double cleanSum = LogitRow.LogSumExp(clean, p), sum = LogitRow.LogSumExp(other, clean, p, out double cross, out double largest);
            Assert.Equal(Plain(clean), cleanSum, 1e-12);
            Assert.Equal(Plain(other), sum, 1e-12);
            Assert.Equal(1, p.Sum(), 1e-12);
            double kl = clean.Zip(other, (l, q) => Math.Exp(l - cleanSum) * (l - cleanSum - (q - sum))).Sum();
            Assert.Equal(kl, cross + sum - cleanSum, 1e-12);
            Assert.Equal(clean.Zip(other, (l, q) => Math.Abs((double)l - q)).Max(), largest);
        }

        static double Plain(float[] logits) => logits.Max() + Math.Log(logits.Sum(l => Math.Exp((double)l - logits.Max())));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(8)]
    [InlineData(48)]
    [InlineData(227)]
    public void Sums_over_a_row_of_activations_are_those_of_a_plain_loop(int width)
    {
        var random = new Random(width);
        float[] y = [.. Enumerable.Range(0, width).Select(_ => (float)((random.NextDouble() - 0.5) * 40))];
        float[] other = [.. y.Select(v => v + (float)(random.NextDouble() - 0.5))];
        double[] mean = [.. y.Select(_ => random.NextDouble())], sums = [.. mean], doubles = [.. mean];
        (double error, double dot, double norm) = RowSums.Compare(y, other);
        double Sum(Func<int, double> term) => Enumerable.Range(0, width).Sum(term);
        double scale = Sum(j => y[j] * y[j]) + 1;
        Assert.Equal(Sum(j => ((double)y[j] - other[j]) * ((double)y[j] - other[j])), error, 1e-14 * scale);
        Assert.Equal(Sum(j => (double)y[j] * other[j]), dot, 1e-14 * scale);
        Assert.Equal(Sum(j => (double)other[j] * other[j]), norm, 1e-14 * scale);
        Assert.Equal(Sum(j => (double)y[j] * y[j]), RowSums.SquaredNorm(y), 1e-14 * scale);
        Assert.Equal(Sum(j => (y[j] - mean[j]) * (y[j] - mean[j])), RowSums.SquaredDistance(y, mean), 1e-14 * scale);
        RowSums.Add(y, sums);
        Assert.Equal(mean.Zip(y, (a, b) => a + b), sums);
        RowSums.Add(mean, doubles);
        Assert.Equal(mean.Select(a => a + a), doubles);
    }

    [Fact]
    public void The_exponential_of_a_row_is_that_of_the_runtime_to_rounding()
    {
        var random = new Random(5);
        for (int i = 0; i < 20_000; i++)
        {
            double x = i < 20 ? -i * Math.Log(2) / 2 : -random.NextDouble() * (i % 3 == 0 ? 700 : i % 3 == 1 ? 20 : 1e-3);
            double expected = Math.Exp(x), actual = LogitRow.Exp(Vector512.Create(x))[i % 8];
            Assert.True(Math.Abs(actual - expected) <= expected * (4e-16 + (4e-17 * Math.Abs(x))),
                $"exp({x:r}) = {actual:r} instead of {expected:r}");
        }

        Assert.Equal(1, LogitRow.Exp(Vector512<double>.Zero)[0]);
        Assert.InRange(LogitRow.Exp(Vector512.Create(-1e9))[0], 0, 1e-300);
        Assert.InRange(LogitRow.Exp(Vector512.Create(double.NegativeInfinity))[0], 0, 1e-300);
        Assert.True(double.IsNaN(LogitRow.Exp(Vector512.Create(double.NaN))[0]));
    }

    [Fact]
    public void A_logit_that_is_no_number_shows_wherever_it_stands()
    {
        float[] row = [.. Enumerable.Range(0, 37).Select(v => (float)v)];
        double[] weights = new double[row.Length];
        for (int at = 0; at < row.Length; at++)
        {
            float[] broken = [.. row];
            broken[at] = float.NaN;
            Assert.True(double.IsNaN(LogitRow.Weigh(broken, weights, out _)));
            Assert.True(double.IsNaN(LogitRow.LogSumExp(broken, row, weights, out _, out _)));
        }
    }

    [Fact]
    public void Intervals_come_from_the_seed_and_hold_the_mean()
    {
        var random = new Random(1);
        double[][] rows = [.. Enumerable.Range(0, 200).Select(_ => new[] { random.NextDouble(), 1.0 })];
        static void Mean(ReadOnlySpan<double> sums, Span<double> values) => values[0] = sums[0] / sums[1];
        (double low, double high) = new Bootstrap(1000, 7).Intervals(rows, 1, Mean)[0];
        Assert.Equal((low, high), new Bootstrap(1000, 7).Intervals(rows, 1, Mean)[0]);
        Assert.NotEqual((low, high), new Bootstrap(1000, 8).Intervals(rows, 1, Mean)[0]);
        // The mean of 200 uniform draws has the standard deviation 0.0204: 95 % lie within 1.96 of them.
        double mean = rows.Average(r => r[0]);
        Assert.Equal(mean - 0.040, low, 0.006);
        Assert.Equal(mean + 0.040, high, 0.006);
        Assert.Equal((double.NaN, double.NaN), new Bootstrap().Intervals([rows[0]], 1, Mean)[0]);
        Assert.Equal((2.0, 2.0), new Bootstrap(10).Intervals([[2, 1], [2, 1]], 1, Mean)[0]);
    }

    [Fact]
    public void Features_are_counted_by_the_logarithm_of_their_frequency()
    {
        var histogram = new FiringHistogram([0, 0, 1, 0.1, 0.09, 1e-9]);
        Assert.Equal(2, histogram.Never);
        Assert.Equal(29, FiringHistogram.Edges.Count);
        Assert.Equal((-7.0, 0.0), (FiringHistogram.Edges[0], FiringHistogram.Edges[^1]));
        Assert.Equal(1, histogram.Counts[27]); // 1
        Assert.Equal(1, histogram.Counts[24]); // 0.1: from -1 on
        Assert.Equal(1, histogram.Counts[23]); // 0.09
        Assert.Equal(1, histogram.Counts[0]); // below the first edge
        Assert.Equal(4, histogram.Counts.Sum());
    }

    [Fact]
    public void Several_SAEs_in_one_pass_give_the_bits_of_each_alone()
    {
        using var together = new EvaluationCase("cpu", EvaluationCase.Names);
        EvaluationResult all = together.Run();
        for (int s = 0; s < EvaluationCase.Names.Length; s++)
        {
            using var alone = new EvaluationCase("cpu", EvaluationCase.Names[s]);
            SaeResult one = alone.Run().Saes[0];
            Assert.Equal(one.Metrics.Values, all.Saes[s].Metrics.Values);
            Assert.Equal(one.ConfidenceLow.Values, all.Saes[s].ConfidenceLow.Values);
            Assert.Equal(one.FiringFrequency, all.Saes[s].FiringFrequency);
        }
    }

    [Fact]
    public void Splices_that_replace_the_same_positions_of_a_sequence_are_one_pass()
    {
        using var folder = new TempFolder();
        using Device inner = TestDevices.Open("cpu");
        using var device = new ProfilingDevice(inner);
        using var run = new EvaluationCase(device, EvaluationCase.Folder("model"), EvaluationCase.Residual);
        int[] plain = [2, 40, 77, 5, 113, 200, 8, 9], withEnd = [2, 40, 77, 1, 2, 200, 8, 9], withoutBos = [40, 77, 5, 113, 200, 8, 9, 10];

        // Three layers below resid_post.2 and one above it.
        Assert.Equal(3 + 1 + 7, Attends(plain));
        Assert.Equal(3 + 1 + 10, Attends(withEnd));
        Assert.Equal(3 + 1 + 4, Attends(withoutBos));
        using NpzArrays alone = Arrays(withEnd), among = Arrays(plain, withEnd, withoutBos, plain);
        foreach (string kind in (ReadOnlySpan<string>)["ce", "kl"])
        {
            double[] all = Of(among, "all"), keepBos = Of(among, "keep_bos"), keepSpecial = Of(among, "keep_special");
            int length = all.Length / 4;
            Assert.Equal(keepBos[..length], keepSpecial[..length]);
            Assert.NotEqual(all[..length], keepBos[..length]);
            Assert.NotEqual(keepBos[length..(2 * length)], keepSpecial[length..(2 * length)]);
            Assert.Equal(all[(2 * length)..(3 * length)], keepBos[(2 * length)..(3 * length)]);
            Assert.Equal(keepSpecial[..length], keepSpecial[(3 * length)..]);
            foreach (string where in (ReadOnlySpan<string>)["all", "keep_bos", "keep_special"])
                Assert.Equal(Of(alone, where), Of(among, where)[length..(2 * length)]);

            double[] Of(NpzArrays arrays, string where) => arrays.Doubles($"{kind}_zero_{where}");
        }

        long Attends(int[] tokens)
        {
            device.Reset();
            _ = new SaeEvaluation(run.Model, run.Targets, TokenSet.Create([tokens], run.Model.Config), new() { Gradients = false }).Run();
            return device.Ops.Where(op => op.Op.StartsWith("Attend", StringComparison.Ordinal)).Sum(op => op.Calls);
        }

        NpzArrays Arrays(params int[][] sequences)
        {
            string path = folder.At($"{sequences.Length}.npz");
            _ = new SaeEvaluation(run.Model, run.Targets, TokenSet.Create(sequences, run.Model.Config), new() { ArraysPath = path }).Run();
            return new NpzArrays(path);
        }
    }

    [Theory]
    [InlineData(7, 1L << 30)]
    [InlineData(1, 1L << 30)]
    [InlineData(512, 16L * 300 * 3)]
    [InlineData(512, 1)]
    public void Chunks_of_positions_and_blocks_of_logits_change_nothing_but_rounding(int chunk, long logitBytes)
    {
        using var run = new EvaluationCase("cpu", EvaluationCase.Names);
        EvaluationResult whole = run.Run(), pieces = run.Run(new() { ChunkLength = chunk, LogitBytes = logitBytes });
        for (int s = 0; s < EvaluationCase.Names.Length; s++)
        {
            Assert.Equal(whole.Saes[s].FiringFrequency, pieces.Saes[s].FiringFrequency);
            foreach (string[] path in whole.Saes[s].Metrics.Paths)
            {
                // Quotients of small differences of losses are as exact as their divisors allow.
                if (path[^1] is "kl_div_score" or "ce_loss_score" || path is ["splices", _, "loss_recovered" or "loss_recovered_mean", _])
                    continue;
                double value = whole.Saes[s].Metrics[path];
                Assert.Equal(value, pieces.Saes[s].Metrics[path], path[0] == "sae_plus_error_max_logit_difference" ? 5e-5
                    : 1e-6 * Math.Max(1, Math.Abs(value)));
            }
        }
    }

    [Theory]
    [InlineData("embed")]
    [InlineData("resid_pre.0")]
    [InlineData("resid_mid.1")]
    [InlineData("attn_out.0")]
    [InlineData("attn_out_post.3")]
    [InlineData("mlp_in.2")]
    [InlineData("mlp_in_unit.3")]
    [InlineData("mlp_out.3")]
    [InlineData("mlp_out_post.0")]
    [InlineData("mlp_out_post.3")]
    [InlineData("resid_post.3")]
    [InlineData("final_norm")]
    public void A_splice_at_any_site_is_what_SaeSplice_does_in_a_whole_pass(string siteName)
    {
        using var run = new EvaluationCase("cpu", EvaluationCase.Residual);
        HookPoint site = HookPoint.Parse(siteName);
        SaeTarget target = run.Targets[0] with { Site = site, SiteOut = site };
        SaeResult result = new SaeEvaluation(run.Model, [target], run.Tokens).Run().Saes[0];
        double total = 0;
        int count = 0;
        for (int b = 0; b < run.Tokens.Count; b++)
        {
            int[] tokens = run.Tokens.Sequence(b).ToArray();
            using Session session = run.Model.NewSession(tokens.Length, tokens.Length);
            using var splice = new SaeSplice(session.Hooks, target.Sae, site, site, SpliceMode.Sae, Positions.AllBut(2), []);
            run.Model.Forward(tokens, session, LogitRows.None);
            double[] losses = new double[tokens.Length - 1];
            run.Model.NextTokenLoss(tokens.AsSpan(1), session, losses);
            for (int t = 0; t < losses.Length; t++)
            {
                if (run.Tokens.Counts(LossMask.Default, tokens[t], tokens[t + 1]))
                    (total, count) = (total + losses[t], count + 1);
            }
        }

        Assert.Equal(total / count, result.Metrics["splices", "sae/keep_bos", "ce", "default"], 2e-6);
        Assert.InRange(result.Metrics["sae_plus_error_max_logit_difference"], 0, 1e-3);
        Assert.True(result.Metrics["splices", "zero/all", "delta", "default"] != 0, "an ablation changes the loss");
    }

    [Fact]
    public void A_NaN_in_an_SAE_is_refused()
    {
        using var folder = new TempFolder();
        using var run = new EvaluationCase("cpu");
        using var original = new NpzArrays(Path.Combine(EvaluationCase.Folder(EvaluationCase.Residual), "params.npz"));
        string path = folder.At("params.npz");
        using (var writer = new NpzWriter(path))
        {
            foreach (string name in original.Names)
            {
                float[] values = original.Floats(name);
                if (name == "W_enc")
                    values[1234] = float.NaN;
                writer.Add<float>(name, values, original.Shape(name));
            }

            writer.Commit();
        }

        using JumpReluSae sae = JumpReluSae.Open(run.Device, path);
        var target = new SaeTarget("broken", sae, HookPoint.Parse("resid_post.2"), HookPoint.Parse("resid_post.2"));
        string message = Assert.Throws<InvalidDataException>(() => new SaeEvaluation(run.Model, [target], run.Tokens)).Message;
        Assert.Contains("W_enc holds NaN (element 1234 of 7680)", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("z.1", "z.1", "reads 48 values; z.1 has 64")]
    [InlineData("resid_post.4", "resid_post.4", "there is no resid_post.4; the model has layers 0 to 3")]
    [InlineData("mlp_out_post.2", "mlp_out_post.1", "which comes after")]
    [InlineData("logits", "logits", "cannot be evaluated at the logits")]
    public void An_SAE_at_a_site_that_it_does_not_fit_is_refused(string site, string siteOut, string words)
    {
        using var run = new EvaluationCase("cpu", EvaluationCase.Residual);
        SaeTarget target = run.Targets[0] with { Site = HookPoint.Parse(site), SiteOut = HookPoint.Parse(siteOut) };
        Assert.Contains(words, Assert.Throws<ArgumentException>(() => new SaeEvaluation(run.Model, [target], run.Tokens)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void The_report_needs_nothing_else_and_names_are_no_markup()
    {
        using var run = new EvaluationCase("cpu", EvaluationCase.Residual, "sae-mlp_out_post.1");
        SaeTarget[] targets = [run.Targets[0] with { Name = "<script>alert(1)</script>" }, run.Targets[1]];
        string html = HtmlReport.Render(new SaeEvaluation(run.Model, targets, run.Tokens).Run(), "a & b", ["look \"here\""]);
        Assert.DoesNotContain("<script", html, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotMatch(new Regex("(src|href|url|@import)\\s*[=(]", RegexOptions.IgnoreCase), html);
        Assert.DoesNotContain("http", html, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("NaN", html.Replace("NaN where nothing counts", "", StringComparison.Ordinal), StringComparison.Ordinal);
        Assert.Equal(7, Regex.Count(html, "<svg"));
        // Well-formed, so that no tag is left open.
        string body = html[html.IndexOf("<main>", StringComparison.Ordinal)..(html.IndexOf("</main>", StringComparison.Ordinal) + 7)];
        _ = System.Xml.Linq.XDocument.Parse(body);
    }

    [Fact]
    public void The_document_of_one_SAE_is_plain_and_of_several_a_list()
    {
        using var run = new EvaluationCase("cpu", EvaluationCase.Residual, "sae-mlp_in_unit.1-to-mlp_out_post.1");
        using JsonDocument several = Document(run.Run());
        Assert.Equal(2, several.RootElement.GetProperty("saes").GetArrayLength());
        JsonElement transcoder = several.RootElement.GetProperty("saes")[1];
        Assert.Equal(("mlp_in_unit.1", "mlp_out_post.1"),
            (transcoder.GetProperty("site").GetString(), transcoder.GetProperty("site_out").GetString()));
        Assert.False(transcoder.GetProperty("metrics").TryGetProperty("saelens", out _));

        using JsonDocument one = Document(new SaeEvaluation(run.Model, run.Targets[..1], run.Tokens).Run());
        Assert.Equal(
            ["model", "sae", "site", "site_out", "special_ids", "sequences", "length", "counts", "definitions", "metrics",
                "confidence", "firing_frequency_histogram"],
            one.RootElement.EnumerateObject().Select(p => p.Name));
        Assert.Equal(JsonValueKind.Null, one.RootElement.GetProperty("site_out").ValueKind);
        JsonElement interval = one.RootElement.GetProperty("confidence").GetProperty("intervals").GetProperty("splices")
            .GetProperty("sae/keep_bos").GetProperty("delta").GetProperty("default");
        double value = one.RootElement.GetProperty("metrics").GetProperty("splices").GetProperty("sae/keep_bos").GetProperty("delta")
            .GetProperty("default").GetDouble();
        Assert.InRange(value, interval[0].GetDouble(), interval[1].GetDouble());
    }

    [Fact]
    public void A_mean_over_nothing_is_null()
    {
        using var run = new EvaluationCase("cpu", EvaluationCase.Residual);
        // The only counted position has no next token.
        using JsonDocument document =
            Document(new SaeEvaluation(run.Model, run.Targets, TokenSet.Create([[2, 5]], run.Model.Config)).Run());
        JsonElement metrics = document.RootElement.GetProperty("metrics");
        Assert.Equal(JsonValueKind.Null, metrics.GetProperty("ce_clean").GetProperty("default").ValueKind);
        Assert.Equal(JsonValueKind.Number, metrics.GetProperty("ce_clean").GetProperty("all_but_pad").ValueKind);
        Assert.Equal(JsonValueKind.Number, metrics.GetProperty("splices").GetProperty("sae/keep_bos").GetProperty("kl").ValueKind);
    }

    private static JsonDocument Document(EvaluationResult result)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
            EvaluationJson.Write(json, result, "model");
        return JsonDocument.Parse(stream.ToArray());
    }
}

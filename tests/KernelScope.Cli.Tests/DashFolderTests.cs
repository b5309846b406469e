using System.Globalization;
using System.IO.Compression;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary><c>dash --out</c>: pages of all features of an SAE, against a count of the codes that SAELens gave for the same texts.</summary>
public sealed class DashFolderTests(DashFolderTests.Pages pages) : IClassFixture<DashFolderTests.Pages>
{
    private const string Sae = "res.3.2k.l0_19", Source = "3-demo-res-2k__l0-19";
    private const int Features = 2048;
    private static readonly string[] Texts = ["tale", "scripture", "question", "csharp", "numbers", "languages"];
    private static readonly int[] Special = [0, 1, 2];

    [Fact]
    public void Counts_and_examples_are_those_of_the_codes_of_other_software()
    {
        List<Place>[] expected = Golden(out int counted, out _);
        int longest = Enumerable.Range(0, Texts.Length).Max(t => TokensOf(t).Length);
        for (int f = 0; f < Features; f++)
        {
            JsonElement row = pages.Row("quantile", f), facts = row.GetProperty("kernelscope");
            Place[] places = [.. expected[f].OrderByDescending(p => p.Value)];
            Assert.Equal(places.Length, facts.GetProperty("firing_positions").GetInt32());
            Assert.Equal(counted, facts.GetProperty("counted_positions").GetInt32());
            Assert.Equal(places.Length / (double)counted, row.GetProperty("frac_nonzero").GetDouble());
            Assert.Equal(expected.Sum(p => p.Count) / (double)counted, facts.GetProperty("l0").GetDouble());
            Assert.Equal(places.Length == 0, facts.GetProperty("dead").GetBoolean());
            Assert.Equal(places.Length > counted * 0.1, facts.GetProperty("dense").GetBoolean());
            Assert.Equal(places.Select(p => p.Token).Distinct().Count(), facts.GetProperty("distinct_tokens").GetInt32());
            Assert.Equal(places.Length, row.GetProperty("freq_hist_data_bar_heights").EnumerateArray().Sum(h => h.GetInt64()));
            Assert.Equal(4096, row.GetProperty("logits_hist_data_bar_heights").EnumerateArray().Sum(h => h.GetInt64()));
            Assert.Equal(10, row.GetProperty("pos_str").GetArrayLength());
            Assert.Empty(row.GetProperty("correlated_features_indices").EnumerateArray());
            if (places.Length == 0)
                continue;
            Near(places[0].Value, row.GetProperty("maxActApprox").GetDouble());
            Near(places.Average(p => (double)p.Value), facts.GetProperty("mean").GetDouble());
            float[] ascending = [.. places.Select(p => p.Value).Order()];
            foreach (double share in (double[])[0.5, 0.9, 0.99, 1])
            {
                JsonElement quantile = facts.GetProperty("quantiles").GetProperty(share.ToString(CultureInfo.InvariantCulture));
                Near(ascending[(int)Math.Ceiling(share * ascending.Length) - 1], quantile.GetDouble());
            }

            Place[] peaks = [.. places.GroupBy(p => (p.Text, p.Position / 128)).Select(g => g.First())];
            long[] eighths = new long[8];
            foreach (Place peak in peaks)
                eighths[peak.Position % 128 * 8 / Math.Min(128, longest)]++;
            Assert.Equal(eighths, facts.GetProperty("peak_position_histogram").EnumerateArray().Select(e => e.GetInt64()));
            Assert.Equal(places.GroupBy(p => p.Text).Max(g => g.Count()) / (double)places.Length,
                facts.GetProperty("by_document").GetProperty("share_of_largest_document").GetDouble());
            Same(peaks, Top(row), p => p.Position % 128 - (p.Position < 128 ? 1 : 0));
        }
    }

    /// <summary>Against a count of pairs in the codes of other software.</summary>
    [Fact]
    public void Features_that_fire_together_are_those_of_the_codes()
    {
        HashSet<(int, int)>[] rows = [.. Golden(out _, out _).Select(places => places.Select(p => (p.Text, p.Position)).ToHashSet())];
        for (int f = 0; f < Features; f += 3)
        {
            JsonElement[] found = [.. pages.Row("quantile", f).GetProperty("kernelscope").GetProperty("co_firing").EnumerateArray()];
            var expected = Enumerable.Range(0, Features).Where(g => g != f)
                .Select(g => (Index: g, Count: rows[f].Count(rows[g].Contains), Of: rows[f].Count + rows[g].Count))
                .Where(g => g.Count > 0).Select(g => (g.Index, Value: g.Count / (double)(g.Of - g.Count), g.Count))
                .OrderByDescending(g => g.Value).ThenBy(g => g.Index).Take(10).ToArray();
            Assert.Equal(
                expected.Select(e => (e.Index, Math.Round(e.Value, 3), e.Count)),
                found.Select(c => (
                    c.GetProperty("index").GetInt32(), c.GetProperty("value").GetDouble(), c.GetProperty("count").GetInt32())));
        }
    }

    [Fact]
    public void SaeDashboards_way_of_counting_and_choosing()
    {
        List<Place>[] expected = Golden(out int counted, out int all);
        for (int f = 0; f < Features; f += 7)
        {
            JsonElement row = pages.Row("saedashboard", f);
            Place[] places = [.. expected[f].OrderByDescending(p => p.Value)];
            Assert.Equal(Math.Round(places.Length / (double)all, 5), row.GetProperty("frac_nonzero").GetDouble());
            Assert.Equal("saedashboard", row.GetProperty("kernelscope").GetProperty("binning").GetString());
            Same([.. places.Take(20)], Top(row), p => p.Position % 128 - (p.Position < 128 ? 1 : 0));
            if (places.Length == 0)
                continue;
            double max = row.GetProperty("maxActApprox").GetDouble();
            JsonElement lowest = row.GetProperty("activations").EnumerateArray().First(a => a.GetProperty("binMin").GetDouble() == 0);
            int inside = places.Count(p => p.Value <= (float)max / 5);
            // A value on an edge may lie on the other side of it in float32.
            int expectedInside = counted - places.Length + inside;
            Assert.InRange(lowest.GetProperty("binContains").GetDouble() * counted, expectedInside - 1.01, expectedInside + 1.01);
        }
    }

    [Fact]
    public void No_zero_and_no_window_twice_among_quantiles()
    {
        for (int f = 0; f < Features; f += 5)
        {
            JsonElement[] examples = [.. pages.Row("quantile", f).GetProperty("activations").EnumerateArray()];
            Assert.All(examples, e => Assert.True(Chosen(e) > 0));
            Assert.Equal(examples.Length, examples.Select(e => e.GetProperty("tokens").GetRawText()).Distinct().Count());
            Assert.All(examples, e => Assert.Equal(e.GetProperty("tokens").GetArrayLength(), e.GetProperty("values").GetArrayLength()));
        }
    }

    [Fact]
    public void Directions_are_those_of_single_pages()
    {
        JsonElement single = Program.Json("dash", "--features", "1738,7", "--run", pages.Run);
        foreach (JsonElement one in single.GetProperty("features").EnumerateArray())
        {
            JsonElement row = pages.Row("quantile", one.GetProperty("index").GetInt32());
            Assert.Equal(one.GetProperty("promotes").EnumerateArray().Select(t => t.GetProperty("piece").GetString()),
                row.GetProperty("pos_str").EnumerateArray().Select(t => t.GetString()));
            Assert.Equal(one.GetProperty("nearest").EnumerateArray().Select(n => n.GetProperty("index").GetInt32()),
                row.GetProperty("topkCosSimIndices").EnumerateArray().Select(n => n.GetInt32()));
            Assert.Equal(one.GetProperty("nearest").EnumerateArray().Select(n => Math.Round(n.GetProperty("value").GetDouble(), 3)),
                row.GetProperty("topkCosSimValues").EnumerateArray().Select(n => n.GetDouble()));
            Assert.Equal(5, row.GetProperty("kernelscope").GetProperty("nearest_encoder").GetArrayLength());
        }
    }

    /// <summary>What each token gave is checked against the model's own hooks in the server's tests.</summary>
    [Fact]
    public void Examples_of_an_attention_sae_say_which_tokens_they_come_from()
    {
        const string AttentionSae = "att.3.1k.l0_42", AttentionSource = "3-demo-att-1k__l0-42";
        using var folder = new TempFolder();
        string run = folder.At("run"), html = folder.At("page.html");
        Assert.Equal(0, Program.Run(
            "harvest", "--out", run, "--text-file", "demo", "--sae", AttentionSae, "--codes-only", "--context", "128").ExitCode);
        string[] common = ["--features", "0-63", "--export", "neuronpedia"];
        Assert.Equal(0, Program.Run(["dash", "--run", run, "--out", folder.At("a"), "--threads", "1", .. common]).ExitCode);
        Assert.Equal(0, Program.Run(["dash", "--run", run, "--out", folder.At("b"), "--threads", "3", .. common]).ExitCode);
        string stored = Path.Combine("demo", AttentionSource, "activations", "batch-0.jsonl.gz");
        Assert.Equal(File.ReadAllBytes(folder.At("a", stored)), File.ReadAllBytes(folder.At("b", stored)));
        using var gzip = new StreamReader(new GZipStream(File.OpenRead(folder.At("a", stored)), CompressionMode.Decompress));
        ILookup<string, JsonElement> rows = gzip.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(l => JsonElement.Parse(l)).ToLookup(r => r.GetProperty("index").GetString()!);
        Assert.True(rows.Count > 5, "most of them fire");
        JsonElement single = Program.Json("dash", "--features", "0-63", "--run", run, "--html", html, "--text", "And the king said");
        foreach (JsonElement feature in single.GetProperty("features").EnumerateArray())
        {
            JsonElement[] examples = [.. feature.GetProperty("top").EnumerateArray(),
                .. feature.GetProperty("groups").EnumerateArray().SelectMany(g => g.GetProperty("examples").EnumerateArray())];
            JsonElement[] same = [.. rows[feature.GetProperty("index").ToString()]];
            Assert.Equal(examples.Length, same.Length);
            Assert.All(examples, e => Assert.Contains(same, r => IsSame(e, r)));
        }

        Assert.Matches("<small>from <code>[^<]+</code> [0-9.]+", File.ReadAllText(html));

        static bool IsSame(JsonElement example, JsonElement row)
        {
            double[] values = [.. example.GetProperty("dfa_values").EnumerateArray().Select(v => v.GetDouble())];
            IEnumerable<double> stored = row.GetProperty("dfaValues").EnumerateArray().Select(v => v.GetDouble());
            return values.Select(v => Math.Round(v, 3)).SequenceEqual(stored) && values.Length == row.GetProperty("values").GetArrayLength()
                && example.GetProperty("dfa_target_index").GetInt32() == row.GetProperty("dfaTargetIndex").GetInt32()
                && row.GetProperty("dfaTargetIndex").GetInt32() == row.GetProperty("maxValueTokenIndex").GetInt32()
                && Math.Round(values.Max(), 3) == row.GetProperty("dfaMaxValue").GetDouble();
        }
    }

    [Fact]
    public void Threads_and_workers_change_no_byte()
    {
        using var folder = new TempFolder();
        string run = folder.At("run");
        Assert.Equal(0, Program.Run([.. Harvest(run, pages.Tokens), "--workers", "2"]).ExitCode);
        string[] common = ["--features", "0-99,1738", "--export", "neuronpedia", "--export", "graph"];
        Assert.Equal(0, Program.Run(["dash", "--run", pages.Run, "--out", folder.At("a"), "--threads", "1", .. common]).ExitCode);
        Assert.Equal(0, Program.Run(["dash", "--run", run, "--out", folder.At("b"), "--threads", "3", .. common]).ExitCode);
        string[] files = Files(folder.At("a"));
        Assert.Equal(files, Files(folder.At("b")));
        Assert.All(files, f => Assert.Equal(File.ReadAllBytes(folder.At("a", f)), File.ReadAllBytes(folder.At("b", f))));
        string file = $"{(1741 * 1742 / 2) + 1738}.json";
        JsonElement graph = JsonElement.Parse(File.ReadAllBytes(folder.At("a", "demo", Source, "graph", "features", file)));
        JsonElement strongest = graph.GetProperty("examples_quantiles")[0];
        Assert.Equal("Top activations", strongest.GetProperty("quantile_name").GetString());
        Assert.All(strongest.GetProperty("examples").EnumerateArray(), e => Assert.Equal(
            e.GetProperty("tokens").GetArrayLength(), e.GetProperty("tokens_acts_list").GetArrayLength()));
        Assert.Contains(" she", graph.GetProperty("top_logits").EnumerateArray().Select(t => t.GetString()));
        // Another list of features in the same folder leaves none of the old files.
        Assert.Equal(0, Program.Run("dash", "--run", run, "--out", folder.At("b"), "--features", "3").ExitCode);
        Assert.DoesNotContain(Files(folder.At("b")), f => f.EndsWith("000006.js", StringComparison.Ordinal));
    }

    [Fact]
    public void Neuronpedias_import_finds_its_files_and_columns()
    {
        string root = Path.Combine(pages.Folder("quantile"), "demo", Source);
        foreach ((string file, string[] columns) in (ReadOnlySpan<(string, string[])>)[
            ("release.jsonl", ["name", "description", "creatorName", "creatorId", "urls", "visibility"]),
            ("model.jsonl", ["id", "displayName", "creatorId", "layers", "neuronsPerLayer", "owner", "visibility"]),
            ("sourceset.jsonl", ["modelId", "name", "description", "creatorName", "creatorId", "releaseName", "urls"]),
            ("source.jsonl", ["id", "modelId", "setName", "creatorId", "hasDashboards", "dataset", "num_prompts", "num_tokens_in_prompt"])])
        {
            JsonElement line = JsonElement.Parse(File.ReadAllText(Path.Combine(root, file)));
            Assert.All(columns, c => Assert.True(line.TryGetProperty(c, out _), $"{file} lacks {c}"));
        }

        int features = 0, examples = 0;
        for (int n = 0; n < Features / 128; n++)
        {
            foreach (JsonElement line in Lines(Path.Combine(root, "features", $"batch-{n}.jsonl.gz")))
            {
                Assert.Equal((features++).ToString(CultureInfo.InvariantCulture), line.GetProperty("index").GetString());
                Assert.Equal(("demo", Source), (line.GetProperty("modelId").GetString(), line.GetProperty("layer").GetString()));
                Assert.All(line.EnumerateObject(), p => Assert.Contains(p.Name, NeuronColumns));
            }

            var ids = new HashSet<string>();
            foreach (JsonElement line in Lines(Path.Combine(root, "activations", $"batch-{n}.jsonl.gz")))
            {
                examples++;
                Assert.True(ids.Add(line.GetProperty("id").GetString()!));
                Assert.All(line.EnumerateObject(), p => Assert.Contains(p.Name, ActivationColumns));
                double contains = line.GetProperty("binContains").GetDouble();
                Assert.True(contains is -1 or (> 0 and <= 1));
                Assert.NotEqual("", line.GetProperty("creatorId").GetString());
            }
        }

        Assert.Equal(Features, features);
        Assert.True(examples > Features);
    }

    [Fact]
    public void What_cannot_be_is_refused_in_one_sentence()
    {
        using var folder = new TempFolder();
        Directory.CreateDirectory(folder.At("other"));
        folder.Write("other/notes.txt", "mine"u8);
        Program.Run("dash", "--run", pages.Run, "--out", folder.At("other")).AssertFailed(1, "other", "holds other files");
        Assert.Equal("mine", File.ReadAllText(folder.At("other/notes.txt")));
        Program.Run("dash", "--out", folder.At("new"), "--text-file", "demo").AssertFailed(2, "--out needs a run");
        Program.Run("dash", "--run", pages.Run, "--out", folder.At("new"), "--html", folder.At("x.html")).AssertFailed(2, "--html");
        Program.Run("dash", "--run", pages.Run, "--out", folder.At("new"), "--export", "else").AssertFailed(2, "else");
        Program.Run("dash", "--run", pages.Run, "--html", folder.At("x.html")).AssertFailed(2, "--features is missing");
        Program.Run("dash", "--run", pages.Run, "--out", folder.At("new"), "--features", "2048").AssertFailed(1, "2048");
        Assert.False(Directory.Exists(folder.At("new")));
    }

    [Fact]
    public void Another_model_and_another_site_than_the_runs_are_refused()
    {
        using var folder = new TempFolder();
        string model = folder.At("model"), sae = folder.At("own.npz");
        Directory.CreateDirectory(model);
        foreach (string file in Directory.EnumerateFiles(Fixtures.DemoModel))
            File.Copy(file, Path.Combine(model, Path.GetFileName(file)));
        string weights = Path.Combine(model, "model.safetensors");
        byte[] bytes = File.ReadAllBytes(weights);
        // The last bit of the last value.
        bytes[^2] ^= 1;
        File.WriteAllBytes(weights, bytes);
        string[] dash = ["dash", "--run", pages.Run, "--out", folder.At("new"), "--features", "0"];
        Program.Run([.. dash, "--model", model]).AssertFailed(2, "another model than the run's", "its weights differ");
        File.Copy(Path.Combine(Fixtures.DemoSaes, "res/layer_3/width_2k/average_l0_19/params.npz"), sae);
        Program.Run([.. dash, "--sae", sae, "--site", "resid_post.2"]).AssertFailed(2, "are of resid_post.3, not of resid_post.2");
        Assert.False(Directory.Exists(folder.At("new")));
    }

    [Fact]
    public void A_server_refuses_pages_of_another_sae()
    {
        using var folder = new TempFolder();
        string[] serve = ["serve", "--urls", "http://127.0.0.1:0", "--dashboards"];
        Program.Run([.. serve, folder.At("none")]).AssertFailed(1, "dash.json");
        Program.Run([.. serve, pages.Folder("quantile"), "--sae", "res.1.1k.l0_26"]).AssertFailed(1, Source);
        Program.Run([.. serve, pages.Folder("quantile"), "--sae", $"res.3.2k.l0_57={Source}"]).AssertFailed(1, "another SAE");
    }

    private static void Near(double expected, double actual) =>
        Assert.InRange(Math.Abs(expected - actual), 0, 1e-5 * Math.Max(1, Math.Abs(expected)));

    /// <summary>The value for which an example was chosen.</summary>
    private static double Chosen(JsonElement example) =>
        example.GetProperty("values")[example.GetProperty("qualifyingTokenIndex").GetInt32()].GetDouble();

    /// <summary>The same places in the same order; those whose values differ by less than float32 noise may change places.</summary>
    private static void Same(Place[] expected, JsonElement[] found, Func<Place, int> index)
    {
        Assert.Equal(Math.Min(20, expected.Length), found.Length);
        for (int i = 0; i < found.Length; i++)
        {
            Assert.InRange(Math.Abs(expected[i].Value - Chosen(found[i])), 0, 2e-3);
            bool isAlone = (i == 0 || expected[i - 1].Value - expected[i].Value > 2e-3)
                && (i + 1 >= expected.Length || expected[i].Value - expected[i + 1].Value > 2e-3);
            if (isAlone)
                Assert.Equal(index(expected[i]), found[i].GetProperty("qualifyingTokenIndex").GetInt32());
        }
    }

    /// <summary>The strongest, in the order in which they were chosen.</summary>
    private static JsonElement[] Top(JsonElement row) => [.. row.GetProperty("activations").EnumerateArray()
        .Where(a => a.GetProperty("binContains").GetDouble() < 0)
        .OrderBy(a => int.Parse(a.GetProperty("id").GetString()!.Split('-')[^1], CultureInfo.InvariantCulture))];

    private static List<Place>[] Golden(out int counted, out int all)
    {
        List<Place>[] places = [.. Enumerable.Range(0, Features).Select(_ => new List<Place>())];
        using var codes = new Arrays(Fixtures.Path("demo", "goldens", $"sae-{Sae}.npz"));
        (counted, all) = (0, 0);
        for (int text = 0; text < Texts.Length; text++)
        {
            int[] ids = TokensOf(text), start = codes.Ints($"row_ptr_{Texts[text]}"), feature = codes.Ints($"feature_{Texts[text]}");
            float[] value = codes.Floats($"value_{Texts[text]}");
            all += ids.Length;
            for (int t = 0; t < ids.Length; t++)
            {
                if (Special.Contains(ids[t]))
                    continue;
                counted++;
                for (int i = start[t]; i < start[t + 1]; i++)
                    places[feature[i]].Add(new Place(text, t, ids[t], value[i]));
            }
        }

        return places;
    }

    private static int[] TokensOf(int text)
    {
        using var golden = new Arrays(Fixtures.Path("demo", "goldens", $"text-{Texts[text]}.npz"));
        return golden.Ints("tokens");
    }

    private static string[] Harvest(string run, string tokens) =>
        ["harvest", "--out", run, "--tokens-file", tokens, "--sae", Sae, "--codes-only", "--shard-sequences", "2"];

    private static string[] Files(string folder) => [.. Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories)
        .Select(f => Path.GetRelativePath(folder, f)).Order(StringComparer.Ordinal)];

    private static IEnumerable<JsonElement> Lines(string path)
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(path), CompressionMode.Decompress));
        return [.. reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonElement.Parse(l))];
    }

    // The columns of Neuronpedia's tables (prisma/schema.prisma: Neuron, Activation).
    private static readonly string[] NeuronColumns =
    [
        "modelId", "layer", "index", "sourceSetName", "creatorId", "createdAt", "maxActApprox", "hasVector", "vector", "vectorLabel",
        "vectorDefaultSteerStrength", "hookName", "topkCosSimIndices", "topkCosSimValues", "neuron_alignment_indices",
        "neuron_alignment_values", "neuron_alignment_l1", "correlated_neurons_indices", "correlated_neurons_pearson",
        "correlated_neurons_l1", "correlated_features_indices", "correlated_features_pearson", "correlated_features_l1", "neg_str",
        "neg_values", "pos_str", "pos_values", "frac_nonzero", "freq_hist_data_bar_heights", "freq_hist_data_bar_values",
        "logits_hist_data_bar_heights", "logits_hist_data_bar_values", "decoder_weights_dist",
    ];

    private static readonly string[] ActivationColumns =
    [
        "id", "tokens", "dataIndex", "index", "layer", "modelId", "dataSource", "maxValue", "maxValueTokenIndex", "minValue", "values",
        "dfaValues", "dfaTargetIndex", "dfaMaxValue", "creatorId", "createdAt", "lossValues", "logitContributions", "binMin", "binMax",
        "binContains", "qualifyingTokenIndex",
    ];

    private readonly record struct Place(int Text, int Position, int Token, float Value);

    /// <summary>A run over the texts of the goldens, and its pages in both ways.</summary>
    public sealed class Pages : IDisposable
    {
        private readonly TempFolder _folder = new();
        private readonly Dictionary<(string, int), JsonElement> _rows = [];

        public Pages()
        {
            string lists = string.Join(',', Enumerable.Range(0, Texts.Length).Select(t => $"[{string.Join(',', TokensOf(t))}]"));
            Tokens = _folder.Write("tokens.json", System.Text.Encoding.UTF8.GetBytes($"[{lists}]"));
            Outcome harvested = Program.Run(Harvest(Run, Tokens));
            Assert.True(harvested.ExitCode == 0, harvested.Error);
            foreach (string binning in (string[])["quantile", "saedashboard"])
            {
                Outcome made = Program.Run(
                    "dash", "--run", Run, "--out", Folder(binning), "--binning", binning, "--export", "neuronpedia", "--json");
                Assert.True(made.ExitCode == 0, made.Error);
                Assert.Equal(Features, made.Json().GetProperty("features").GetInt32());
                Read(binning);
            }
        }

        public string Tokens { get; }

        public string Run => _folder.At("run");

        public string Folder(string binning) => _folder.At(binning);

        public JsonElement Row(string binning, int feature) => _rows[(binning, feature)];

        public void Dispose() => _folder.Dispose();

        /// <summary>As somebody would who knows the format only: offsets, then gzip and JSON.</summary>
        private void Read(string binning)
        {
            byte[] members = File.ReadAllBytes(Path.Combine(Folder(binning), "features.bin"));
            using var index = SafetensorsFile.Open(Path.Combine(Folder(binning), "features.idx"));
            long[] offsets = Longs(index["offset"]);
            for (int f = 0; f < Features; f++)
            {
                using var member = new MemoryStream(members, (int)offsets[f], (int)(offsets[f + 1] - offsets[f]));
                using var gzip = new GZipStream(member, CompressionMode.Decompress);
                _rows.Add((binning, f), JsonElement.Parse(new StreamReader(gzip).ReadToEnd()));
            }
        }

        private static unsafe long[] Longs(TensorView tensor) => new ReadOnlySpan<long>(tensor.Pointer, (int)tensor.ElementCount).ToArray();
    }
}

using System.IO.Compression;
using System.Text.Json;
using KernelScope.Hooks;
using KernelScope.Hub.Catalog;

namespace KernelScope.Tests.Hub;

/// <summary>The compiled-in catalogue against SAELens' directory and the configs that its loaders give.</summary>
public class ReleaseCatalogTests
{
    private static readonly string[][] Releases = Table("releases.tsv.gz");

    /// <summary>Release, id, path, model, Neuronpedia id: all 2,859 entries of SAELens' directory.</summary>
    private static readonly string[][] SaeLens = Table("saelens.tsv.gz");

    [Fact]
    public void It_lists_exactly_the_published_paths()
    {
        Assert.Equal(2430, ReleaseCatalog.All.Count);
        Assert.Equal(Releases.Select(r => r[0] + "/" + r[1]).Order(StringComparer.Ordinal),
            ReleaseCatalog.All.Select(s => s.Name).Order(StringComparer.Ordinal));
        int[] counts = [316, 260, 260, 26, 536, 492, 492, 30, 18];
        string[] names =
            ["2b-pt-res", "2b-pt-mlp", "2b-pt-att", "2b-pt-transcoders", "9b-pt-res", "9b-pt-mlp", "9b-pt-att", "9b-it-res", "27b-pt-res"];
        Assert.Equal(counts, names.Select(n => ReleaseCatalog.Find(new ReleaseFilter { Release = "gemma-scope-" + n }).Count()));
    }

    [Fact]
    public void The_canonical_ones_are_those_of_SAELens()
    {
        string[] expected =
            [.. SaeLens.Where(e => e[0].EndsWith("-canonical", StringComparison.Ordinal))
                .Select(e => e[0].Replace("-canonical", "", StringComparison.Ordinal) + "/" + e[2]).Order(StringComparer.Ordinal)];
        Assert.Equal(429, expected.Length);
        Assert.Equal(expected, ReleaseCatalog.Find(new ReleaseFilter { Canonical = true })
            .Select(s => s.Name).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Canonical_means_nearest_to_100_with_two_ties()
    {
        var ties = new List<string>();
        foreach (IGrouping<string, ReleasedSae> group in ReleaseCatalog.All.GroupBy(s => s.Name[..s.Name.LastIndexOf('/')]))
        {
            if (group.SingleOrDefault(s => s.IsCanonical) is not ReleasedSae canonical)
                continue;
            int best = group.Min(s => Math.Abs(s.L0 - 100));
            Assert.Equal(best, Math.Abs(canonical.L0 - 100));
            if (group.Count(s => Math.Abs(s.L0 - 100) == best) > 1)
                ties.Add(canonical.Name);
        }

        Assert.Equal(["gemma-scope-9b-pt-att/layer_27/width_16k/average_l0_136", "gemma-scope-9b-pt-att/layer_23/width_131k/average_l0_66"],
            ties);
    }

    [Fact]
    public void Every_entry_of_SAELens_is_found_by_its_release_and_id()
    {
        foreach (string[] entry in SaeLens)
        {
            Assert.True(ReleaseCatalog.TryParse(entry[0], entry[1], out ReleasedSae? sae), string.Join(' ', entry));
            Assert.Equal((entry[0].Replace("-canonical", "", StringComparison.Ordinal), entry[2], true),
                (sae.Release, sae.Folder, sae.IsListed));
            // SAELens' directory is wrong here, its loader right.
            Assert.Equal(entry[0] == "gemma-scope-9b-it-res" ? "gemma-2-9b-it" : entry[3], sae.Model);
        }
    }

    [Fact]
    public void Every_Neuronpedia_id_of_SAELens_is_found()
    {
        // Two slips: pages that name another layer, width or L0 than the path beside them.
        string[] slips = ["gemma-2-9b/20-gemmascope-res-131k__l0-10", "gemma-2-9b/20-gemmascope-res-131k__l0-12"];
        string[][] pages = [.. SaeLens.Where(e => e[4].Length > 0 && !slips.Contains(e[4]))];
        Assert.Equal(665, pages.Length);
        foreach (string[] entry in pages)
        {
            Assert.True(ReleaseCatalog.TryParse(entry[4], out ReleasedSae? sae), entry[4]);
            Assert.Equal(entry[2], sae.Folder);
        }

        // A page of its own beside the canonical page is not given twice; all that are given are SAELens'.
        HashSet<string> known = [.. pages.Select(e => e[4])];
        ReleasedSae[] withPage = [.. ReleaseCatalog.All.Where(s => s.NeuronpediaId is not null)];
        Assert.All(withPage, s => Assert.Contains(s.NeuronpediaId!, known));
        Assert.Equal(pages.Select(e => e[0].Replace("-canonical", "", StringComparison.Ordinal) + "/" + e[2]).Distinct().Count(),
            withPage.Length);
    }

    [Fact]
    public void Every_path_pattern_gives_what_SAELens_loaders_give()
    {
        using JsonDocument document = JsonDocument.Parse(Unzip("loader-cfg.json.gz"));
        foreach (JsonElement path in document.RootElement.GetProperty("paths").EnumerateArray())
        {
            string name = $"{path.GetProperty("repo_id")}/{path.GetProperty("folder")}";
            JsonElement config = path.GetProperty("raw");
            ReleasedSae sae = ReleaseCatalog.Parse(name);
            Assert.Equal(path.GetProperty("published").GetBoolean(), sae.IsListed);
            Assert.Equal(config.GetProperty("hook_name").GetString(), sae.HookName);
            Assert.Equal(config.GetProperty("d_sae").GetInt32(), sae.FeatureCount);
            Assert.Equal(config.GetProperty("model_name").GetString(), sae.Model);
            // None was published: 32 heads of 128 make 4096; the loader takes the stream's width.
            Assert.Equal(sae.Release == "gemma-scope-27b-pt-att" ? 4096 : config.GetProperty("d_in").GetInt32(), sae.InputDim);
            Assert.Equal(config.TryGetProperty("hook_name_out", out JsonElement hookOut) ? hookOut.GetString() : null, sae.HookNameOut);
            if (config.TryGetProperty("d_out", out JsonElement output))
                Assert.Equal(output.GetInt32(), sae.OutputDim);
            if (sae.Kind != ReleaseKind.Embedding)
                Assert.Equal(HookPoint.Parse(sae.HookName), sae.Site);
            else
                Assert.Null(sae.Site);
            if (sae.HookNameOut is string outName)
                Assert.Equal(HookPoint.Parse(outName), sae.SiteOut);
        }
    }

    [Fact]
    public void Every_release_has_the_sizes_of_SAELens_loaders()
    {
        using JsonDocument document = JsonDocument.Parse(Unzip("loader-cfg.json.gz"));
        foreach (JsonProperty release in document.RootElement.GetProperty("releases").EnumerateObject())
        {
            var filter =
                new ReleaseFilter { Release = release.Name, Canonical = release.Name.EndsWith("-canonical", StringComparison.Ordinal) };
            var outcomes = ReleaseCatalog.Find(filter)
                .GroupBy(s =>
                    $"{string.Join('.', s.HookName.Split('.').Select(p => int.TryParse(p, out _) ? "L" : p))} d_in={s.InputDim} "
                        + $"d_sae={s.FeatureCount} {(s.Kind == ReleaseKind.Transcoder ? "jumprelu_transcoder" : "jumprelu")} {s.Model}")
                .ToDictionary(g => g.Key, g => g.Count());
            Assert.Equal(release.Value.GetProperty("outcomes").EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetInt32()),
                outcomes);
        }
    }

    [Theory]
    [InlineData("gemma-scope-2b-pt-res/layer_20/width_16k/canonical")]
    [InlineData("gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical")]
    [InlineData("google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71")]
    [InlineData("google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz")]
    [InlineData("gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/")]
    [InlineData("gemma-2-2b/20-gemmascope-res-16k")]
    [InlineData("gemma-2-2b/20-gemmascope-res-16k__l0-71")]
    public void Names_of_one_SAE_are_one(string name)
    {
        ReleasedSae sae = ReleaseCatalog.Parse(name);
        Assert.Equal("gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71", sae.Name);
        Assert.Equal("google/gemma-scope-2b-pt-res", sae.Repository);
        Assert.Equal("layer_20/width_16k/average_l0_71/params.npz", sae.File);
        Assert.Equal(("gemma-2-2b", "resid_post.20", 16384, true), (sae.Model, sae.Site.ToString(), sae.FeatureCount, sae.IsCanonical));
        // spec B.1: 75,532,544 parameters.
        Assert.Equal(302_130_176, sae.ParameterBytes);
    }

    [Theory]
    [InlineData("")]
    [InlineData("gemma-scope-2b-pt-res")]
    [InlineData("gemma-scope-2b-pt-res/layer_20")]
    [InlineData("gemma-scope-2b-pt-res/layer_020/width_16k/average_l0_71")]
    [InlineData("gemma-scope-2b-pt-res/layer_20/width_17k/average_l0_71")]
    [InlineData("gemma-scope-2b-pt-res/layer_12/width_131k/canonical")]
    [InlineData("gemma-scope-2b-pt-transcoders/layer_4/width_16k/canonical")]
    [InlineData("gemma-scope-2b-pt-res/layer_99/width_16k/canonical")]
    [InlineData("gemma-scope-2b-pt-res/../x/layer_20/width_16k/average_l0_71")]
    [InlineData("someone/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71")]
    [InlineData("gemma-2-2b/20-gemmascope-res-16k/12082")]
    [InlineData("gemma-2-9b-it/20-gemmascope-att-16k")]
    [InlineData("gemma-scope-2-4b-pt/layer_20/width_16k/average_l0_71")]
    public void What_is_no_name_is_refused_with_near_ones(string name)
    {
        Assert.False(ReleaseCatalog.TryParse(name, out _));
        string message = Assert.Throws<ArgumentException>(() => ReleaseCatalog.Parse(name)).Message;
        Assert.Contains("near it: gemma-scope-", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_70", "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71")]
    [InlineData("gemma-scope-2b-pt-res/layer_12/width_131k/canonical", "gemma-scope-2b-pt-res/layer_12/width_131k/average_l0_129")]
    [InlineData("gemma-scope-2b-pt-transcoders/layer_4/width_16k/canonical",
        "gemma-scope-2b-pt-transcoders/layer_4/width_16k/average_l0_88")]
    [InlineData("gema-scope-2b-pt-mlp/layer_3/width_16k/average_l0_95", "gemma-scope-2b-pt-mlp/layer_3/width_16k/average_l0_95")]
    [InlineData("gemma-2-2b/20-gemascope-res-16k", "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71")]
    public void The_nearest_name_comes_first(string name, string nearest) => Assert.Equal(nearest, ReleaseCatalog.Near(name)[0]);

    [Fact]
    public void A_well_formed_name_that_is_not_listed_is_a_hint_too()
    {
        Assert.True(ReleaseCatalog.TryParse("gemma-scope-2b-pt-transcoders/layer_4/width_16k/average_l0_19", out ReleasedSae? sae));
        Assert.False(sae.IsListed);
        Assert.Equal(("mlp_in_unit.4", "mlp_out_post.4"), (sae.Site.ToString(), sae.SiteOut.ToString()));
    }

    [Fact]
    public void Filters_narrow()
    {
        Assert.Equal(536 + 492 + 492 + 30, ReleaseCatalog.Find(new ReleaseFilter { Model = "9b" }).Count());
        Assert.Equal(536 + 492 + 492, ReleaseCatalog.Find(new ReleaseFilter { Model = "gemma-2-9b" }).Count());
        Assert.Equal(30, ReleaseCatalog.Find(new ReleaseFilter { Model = "google/gemma-2-9b-it" }).Count());
        Assert.Equal(26, ReleaseCatalog.Find(new ReleaseFilter { Kind = ReleaseKind.Transcoder }).Count());
        Assert.Equal(
            [22, 38, 71, 139, 294],
            ReleaseCatalog.Find(new ReleaseFilter { Model = "2b", Kind = ReleaseKind.Residual, Layer = 20, Width = "16k" })
            .Select(s => s.L0));
        Assert.Equal(
            [22, 38, 71, 139, 294],
            ReleaseCatalog.Find(new ReleaseFilter { Release = "google/gemma-scope-2b-pt-res", Layer = 20, Width = "16384" })
            .Select(s => s.L0));
        Assert.Equal("gemma-scope-9b-pt-mlp/layer_20/width_16k/average_l0_108",
            Assert.Single(ReleaseCatalog.Find(new ReleaseFilter { Text = "9B/20-gemmascope-mlp 16k", Canonical = true })).Name);
        Assert.Equal(143, Assert.Single(ReleaseCatalog.Find(new ReleaseFilter { Text = "gemma-2-2b/5-", L0 = 143 })).L0);
    }

    private static string[][] Table(string name) =>
        [.. System.Text.Encoding.UTF8.GetString(Unzip(name)).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split('\t'))];

    private static byte[] Unzip(string name)
    {
        using var file = new GZipStream(File.OpenRead(Fixtures.Path("hub", name)), CompressionMode.Decompress);
        using var all = new MemoryStream();
        file.CopyTo(all);
        return all.ToArray();
    }
}

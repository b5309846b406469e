using System.Diagnostics;
using System.IO.Compression;
using System.Text;
using KernelScope.Evaluation;

namespace KernelScope.Web.Tests;

/// <summary>Labels: reading, finding.</summary>
public sealed class LabelTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kernelscope-labels").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Exports_are_read_with_their_embeddings_skipped()
    {
        string path = Path.Combine(_folder, "batch-0.jsonl.gz");
        using (var gzip = new GZipStream(File.Create(path), CompressionMode.Compress))
        {
            gzip.Write(Encoding.UTF8.GetBytes(
                """
                {"id":"a","modelId":"gemma-2-2b","layer":"20-gemmascope-res-16k","index":"7","description":"golden gate bridge","embedding":[0.1,0.2],"typeName":"oai","explanationModelName":"m"}
                {"modelId":"gemma-2-2b","layer":"20-gemmascope-res-16k","index":3,"description":"dogs\u0007 and cats"}
                not json
                {"modelId":"gemma-2-2b","layer":"20-gemmascope-res-16k","description":"no index"}
                """));
        }

        FeatureLabels labels = FeatureLabels.Load([_folder]);
        Assert.Equal([3, 7], labels.All.Select(l => l.Index));
        Assert.Equal("dogs and cats", labels.All[0].Description);
        Assert.Equal(("a", "oai", "m"), (labels.All[1].Id, labels.All[1].TypeName, labels.All[1].ModelName));
        Assert.Equal(2, labels.Rejected);
        Assert.Equal($"{path}, line 3: this is not JSON.", labels.FirstRejected);
    }

    [Theory]
    [InlineData("""[{"modelId":"m","layer":"3-s","index":"1","description":"x"}]""")]
    [InlineData("""{"explanations":[{"modelId":"m","layer":"3-s","index":"1","description":"x"}]}""")]
    [InlineData("""{"3-s":{"1":"x"}}""")]
    public void Other_shapes_are_read_too(string json)
    {
        string path = Path.Combine(_folder, "labels.json");
        File.WriteAllText(path, json);
        FeatureLabel label = Assert.Single(FeatureLabels.Load([path], "m").All);
        Assert.Equal(("m", "3-s", 1, "x"), (label.ModelId, label.Source, label.Index, label.Description));
    }

    [Fact]
    public void Files_without_a_label_are_refused()
    {
        string path = Path.Combine(_folder, "bad.jsonl");
        File.WriteAllText(path, "{}\n");
        Assert.Equal($"{path}, line 1: modelId is missing.", Assert.Throws<InvalidDataException>(() => FeatureLabels.Load([path])).Message);
    }

    [Theory]
    [InlineData("""{"modelId":"m","layer":"3-s","index":"2","description":"y"} and more""", 2, "this is not JSON.")]
    [InlineData("""{"modelId":"","layer":"3-s","index":"2","description":"y"}""", 1, "modelId is missing.")]
    [InlineData("""{"modelId":"m","layer":"","index":"2","description":"y"}""", 1, "layer is missing.")]
    [InlineData("""{"modelId":"m","layer":"3-s","index":"2","description":" "}""", 1, "description is missing.")]
    [InlineData("[[[[[[[", 1, "this is not an object.")]
    public void A_line_that_is_no_label_is_counted_once_and_named(string line, int labels, string why)
    {
        string path = Path.Combine(_folder, "some.jsonl");
        File.WriteAllText(path, $$"""{"modelId":"m","layer":"3-s","index":"1","description":"x"}{{"\n"}}{{line}}""");
        FeatureLabels read = FeatureLabels.Load([path]);
        Assert.Equal((labels, 1, $"{path}, line 2: {why}"), (read.All.Count, read.Rejected, read.FirstRejected));
    }

    [Fact]
    public void What_is_not_gzip_is_said_to_be_none()
    {
        string path = Path.Combine(_folder, "plain.jsonl.gz");
        File.WriteAllText(path, "{}");
        string message = Assert.Throws<InvalidDataException>(() => FeatureLabels.Load([path])).Message;
        Assert.Equal($"{path}: it is not gzip, or damaged, or its end is missing.", message);
    }

    [SkippableTheory]
    [InlineData("/dev/zero", "a device")]
    [InlineData("pipe.jsonl", "a pipe")]
    [InlineData("pipe.labels", "a pipe")]
    public async Task What_never_ends_is_refused_without_being_read(string name, string kind)
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "only Linux says what is not a file");
        string path = Path.Combine(_folder, name);
        if (kind == "a pipe")
        {
            using Process make = Process.Start("mkfifo", path);
            await make.WaitForExitAsync();
        }

        Task<InvalidDataException> refused = Task.Run(() => Assert.Throws<InvalidDataException>(() => FeatureLabels.Load([path])));
        string message = (await refused.WaitAsync(TimeSpan.FromSeconds(30))).Message;
        Assert.Equal($"{path}: this is {kind}; a file or folder of labels was expected.", message);
    }

    [Fact]
    public void A_line_without_an_end_is_refused_by_its_number()
    {
        string path = Path.Combine(_folder, "long.jsonl");
        using (FileStream file = File.Create(path))
        {
            file.Write("\n\""u8);
            file.SetLength((16 << 20) + 2);
        }

        string message = Assert.Throws<InvalidDataException>(() => FeatureLabels.Load([path])).Message;
        Assert.Equal($"{path}: line 2 is longer than {16 << 20} bytes.", message);
    }

    [SkippableFact]
    public void Links_in_a_circle_are_followed_once()
    {
        Skip.If(OperatingSystem.IsWindows(), "links need a right there");
        string below = Directory.CreateDirectory(Path.Combine(_folder, "real", "below")).FullName;
        for (int i = 0; i < 6; i++)
            Directory.CreateSymbolicLink(Path.Combine(below, $"up{i}"), Path.Combine("..", "..", "real"));
        Directory.CreateSymbolicLink(Path.Combine(_folder, "a"), "real");
        FeatureLabels.Create([Label(7, "golden gate bridge")]).Save(below);
        File.WriteAllText(Path.Combine(below, "more.jsonl"), """{"modelId":"m","layer":"4-s","index":"1","description":"x"}""");
        Assert.Equal([7, 1], FeatureLabels.Load([_folder]).All.Select(l => l.Index));
        Assert.Equal([7, 1], FeatureLabels.Load([_folder + Path.DirectorySeparatorChar]).All.Select(l => l.Index));
    }

    [Theory]
    [InlineData("m", "../..", "'../..'")]
    [InlineData("../..", "3-s", "'../..'")]
    [InlineData("..", "3-s", "'..'")]
    [InlineData("m", "a/b", "'a/b'")]
    [InlineData("m", "a\\u0000b", "'a\\u0000b'")]
    public void A_name_that_no_file_can_have_is_counted_where_files_are_written(string model, string source, string named)
    {
        string path = Path.Combine(_folder, "some.jsonl"), place = Path.Combine(_folder, "out", "place");
        string bad = $$"""{"modelId":"{{model}}","layer":"{{source}}","index":"2","description":"y"}""";
        File.WriteAllText(path, $$"""{"modelId":"m","layer":"3-s","index":"1","description":"x"}{{"\n"}}{{bad}}{{"\n"}}{{bad}}""");
        FeatureLabels read = FeatureLabels.LoadToSave([path], null, default);
        Assert.Equal((1, 2), (read.All.Count, read.Rejected));
        Assert.Equal(
            $"{path}, line 2: {named} cannot be the name of a file of labels, which has letters, digits, '.', '_' and '-' only.",
            read.FirstRejected);
        read.Save(place);
        Assert.Equal([path, Path.Combine(place, "m", "3-s.labels")],
            Directory.EnumerateFiles(_folder, "*", SearchOption.AllDirectories).OrderDescending(StringComparer.Ordinal));
        // Where they are only read, a name is a name.
        Assert.Equal((3, 0), (FeatureLabels.Load([path]).All.Count, FeatureLabels.Load([path]).Rejected));
    }

    [Fact]
    public void A_stored_table_whose_names_no_file_can_have_is_counted_too()
    {
        string path = Path.Combine(_folder, "table.labels");
        LabelFile.Write(path, LabelTable.Create("../m", "3-s", [Label(1, "x")]));
        File.WriteAllText(Path.Combine(_folder, "good.jsonl"), """{"modelId":"m","layer":"3-s","index":"1","description":"x"}""");
        FeatureLabels read = FeatureLabels.LoadToSave([_folder], null, default);
        Assert.Equal((1, 1), (read.All.Count, read.Rejected));
        Assert.StartsWith($"{path}: '../m' cannot be the name", read.FirstRejected, StringComparison.Ordinal);
    }

    [Fact]
    public void Words_are_found_without_case_and_accents_rare_ones_first()
    {
        FeatureLabels labels =
            FeatureLabels.Create(
                [Label(1, "tales whose hero is a girl"), Label(2, "a girl and a boy; a girl"), Label(3, "Café au lait"),
                    Label(4, "girlfriends"), Label(5, "golden gate bridge"), Label(6, "gate that is golden")]);
        Assert.Equal([1, 2, 4], labels.Search("Girl").Select(m => m.Label.Index));
        Assert.Equal(0.5, labels.Search("girl")[2].Score);
        Assert.Equal(Math.Log(1 + (6 / 2.0)), labels.Search("girl")[0].Score, 12);
        Assert.Equal([3], labels.Search("cafe").Select(m => m.Label.Index));
        Assert.Equal(5, labels.Search("golden gate")[0].Label.Index);
        Assert.Equal(1, labels.Search("golden gate")[0].Score - labels.Search("golden gate")[1].Score, 12);
        Assert.Empty(labels.Search("absent"));
        Assert.Empty(labels.Search("girl", sources: ["other"]));
    }

    [Fact]
    public void A_feature_has_its_labels_in_order()
    {
        FeatureLabels labels = FeatureLabels.Create([Label(2, "b"), Label(1, "c"), Label(2, "a")]);
        Assert.Equal(["b", "a"], labels.Of("m", "3-s", 2).Select(l => l.Description));
        Assert.Empty(labels.Of("m", "3-s", 3));
        Assert.Empty(labels.Of("other", "3-s", 2));
        Assert.Equal("b", labels.Meanings("m", "3-s")[2]);
    }

    [Fact]
    public void A_file_of_each_source_gives_what_it_was_made_of()
    {
        FeatureLabel[] given =
        [
            Label(7, "golden gate bridge") with { Id = "a", TypeName = "oai", ModelName = "m1" }, Label(3, "Dogs; a café ☕ \U0001F415"),
            Label(7, "a bridge") with { ModelName = "m1" }, Label(0, "") with { Source = "4-s" },
            Label(1, "the golden hour") with { ModelId = "n", TypeName = "m1" },
        ];
        FeatureLabels labels = FeatureLabels.Create(given);
        labels.Save(_folder);
        Assert.Equal(["m/3-s.labels", "m/4-s.labels", "n/3-s.labels"],
            Directory.EnumerateFiles(_folder, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(_folder, f)).Order());
        FeatureLabels mapped = FeatureLabels.Load([_folder]);
        Assert.Equal([given[1], given[0], given[2], given[3], given[4]], mapped.All);
        Assert.Equal(labels.All, mapped.All);
        Assert.Equal([given[0], given[2]], mapped.Of("m", "3-s", 7));
        foreach (string query in (string[])["golden", "golden gate", "GO", "cafe", "absent", "a bridge", ""])
            Assert.Equal(labels.Search(query), mapped.Search(query));
        Assert.Equal([given[4], given[0]], mapped.Search("golden").Select(m => m.Label));
        // Beside labels of another form, and again: nothing of the mapping is written to.
        FeatureLabels joined = mapped.With([Label(7, "third")], source => source == "4-s" ? "5-s" : source);
        Assert.Equal(["golden gate bridge", "a bridge", "third"], joined.Of("m", "3-s", 7).Select(l => l.Description));
        Assert.Equal("5-s", joined.All[^2].Source);
    }

    [Fact]
    public void A_damaged_file_is_refused()
    {
        FeatureLabels.Create([Label(7, "golden gate bridge"), Label(3, "dogs")]).Save(_folder);
        string path = Path.Combine(_folder, "m", "3-s.labels");
        byte[] whole = File.ReadAllBytes(path);
        for (int at = 0; at < whole.Length; at++)
        {
            byte[] damaged = [.. whole];
            damaged[at] ^= 0x04;
            File.WriteAllBytes(path, damaged);
            string message = Assert.Throws<InvalidDataException>(() => FeatureLabels.Load([path])).Message;
            Assert.StartsWith($"{path}: ", message, StringComparison.Ordinal);
        }

        File.WriteAllBytes(path, whole[..^1]);
        Assert.StartsWith(path, Assert.Throws<InvalidDataException>(() => FeatureLabels.Load([path])).Message, StringComparison.Ordinal);
        Assert.Contains("'../m'", Assert.Throws<InvalidDataException>(
            () => FeatureLabels.Create([Label(1, "x") with { ModelId = "../m" }]).Save(_folder)).Message, StringComparison.Ordinal);
    }

    private static FeatureLabel Label(int index, string text) => new() { ModelId = "m", Source = "3-s", Index = index, Description = text };
}

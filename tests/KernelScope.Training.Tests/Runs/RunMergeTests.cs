using System.Text.Json;
using KernelScope.Files;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Tests.Runs;

/// <summary>Merged results against a plain computation over all rows.</summary>
public sealed class RunMergeTests
{
    private static readonly (int Sequence, int Position)[] Places = [.. Enumerable.Range(0, 24)
        .SelectMany(s => Enumerable.Range(1, 15).Select(t => (s, t)))];

    [Fact]
    public void Density_counts_what_fires()
    {
        using var run = new SyntheticRun(4, 6, 15, 2);
        string path = Path.Combine(run.Folder.Path, "density.safetensors");
        MergedFile merged = RunMerge.Open(run.Folder, run.Plan, partial: false).Density(run.Plan.Saes[0], path, null, default);
        Assert.Equal((4, 360), (merged.Shards, merged.Rows));
        using var file = SafetensorsFile.Open(path);
        long[] firing = file["firing"].ToInt64s(), histogram = file["histogram"].ToInt64s();
        double[] sum = TokenShard.Values<double>(file["sum"]), squares = TokenShard.Values<double>(file["sum_squares"]);
        float[] max = file["max"].ToFloats();
        for (int f = 0; f < SyntheticRun.Features; f++)
        {
            (int Sequence, int Position, float Value)[] all = [.. All().Where(p => p.Feature == f)
                .Select(p => (p.Sequence, p.Position, p.Value))];
            Assert.Equal(all.Length, firing[f]);
            Assert.Equal(all.Sum(p => (double)p.Value), sum[f], 1e-9);
            Assert.Equal(all.Sum(p => (double)p.Value * p.Value), squares[f], 1e-9);
            (int Sequence, int Position, float Value) largest = all.OrderByDescending(p => p.Value).ThenBy(p => p.Sequence)
                .ThenBy(p => p.Position).First();
            Assert.Equal(largest.Value, max[f]);
            Assert.Equal((largest.Sequence, largest.Position), ((int)file["max_sequence"].ToInt64s()[f],
                (int)file["max_position"].ToInt64s()[f]));
            for (int bin = 0; bin < FeatureDensity.Bins; bin++)
                Assert.Equal(all.Count(p => Bin(p.Value) == bin), histogram[(f * FeatureDensity.Bins) + bin]);
        }
    }

    [Theory]
    [InlineData(1e-12f, 0)]
    [InlineData(9.5e-7f, 0)]
    [InlineData(1e-6f, 1)]
    [InlineData(1f, 81)]
    [InlineData(1.1892072f, 82)]
    [InlineData(1.1892070f, 81)]
    [InlineData(2f, 85)]
    [InlineData(1048575f, 160)]
    [InlineData(1048576f, 161)]
    [InlineData(1e30f, 161)]
    [InlineData(0f, 0)]
    [InlineData(-1f, 0)]
    public void A_value_falls_into_the_bin_of_its_quarter_octave(float value, int bin) => Assert.Equal(bin, FeatureDensity.BinOf(value));

    [Fact]
    public void Examples_are_the_strongest_by_value_sequence_and_position_each_window_once()
    {
        using var run = new SyntheticRun(4, 6, 15, 2);
        string path = Path.Combine(run.Folder.Path, "examples.safetensors");
        const int Top = 5, Random = 4, Window = 2;
        RunMerge.Open(run.Folder, run.Plan, partial: false).Examples(run.Plan.Saes[0], Top, Random, Window, path, null, default);
        using var file = SafetensorsFile.Open(path);
        int[] sequence = TokenShard.Values<int>(file["top_sequence"]), position = TokenShard.Values<int>(file["top_position"]);
        int[] randomSequence = TokenShard.Values<int>(file["random_sequence"]),
            randomPosition = TokenShard.Values<int>(file["random_position"]);
        for (int f = 0; f < SyntheticRun.Features; f++)
        {
            var all = All().Where(p => p.Feature == f).OrderByDescending(p => p.Value).ThenBy(p => p.Sequence)
                .ThenBy(p => p.Position).ToArray();
            var distinct = all.DistinctBy(p => WindowText(p.Sequence, p.Position, Window)).Take(Top).ToArray();
            Assert.Equal(distinct.Select(p => (p.Sequence, p.Position)), Enumerable.Range(0, distinct.Length)
                .Select(i => (sequence[(f * Top) + i], position[(f * Top) + i])));
            for (int i = distinct.Length; i < Top; i++)
                Assert.Equal(-1, sequence[(f * Top) + i]);
            var drawn = Enumerable.Range(0, Math.Min(Random, all.Length))
                .Select(i => (randomSequence[(f * Random) + i], randomPosition[(f * Random) + i])).ToArray();
            Assert.Equal(drawn.Length, drawn.Distinct().Count());
            Assert.Subset(new HashSet<(int, int)>(all.Select(p => (p.Sequence, p.Position))), new HashSet<(int, int)>(drawn));
        }
    }

    [Fact]
    public void A_transpose_holds_every_pair_by_feature_with_rows_ascending()
    {
        using var run = new SyntheticRun(4, 6, 15, 2);
        string path = Path.Combine(run.Folder.Path, "transposed");
        RunMerge.Open(run.Folder, run.Plan, partial: false).Transpose(run.Plan.Saes[0], path, null, default);
        Assert.Equal(["000000.safetensors"], Directory.GetFileSystemEntries(path).Select(p => Path.GetFileName(p)!));
        using var file = SafetensorsFile.Open(Path.Combine(path, "000000.safetensors"));
        long[] start = file["feature_ptr"].ToInt64s(), row = file["row"].ToInt64s();
        float[] value = file["value"].ToFloats();
        for (int f = 0; f < SyntheticRun.Features; f++)
        {
            (long Row, float Value)[] expected = [.. All().Where(p => p.Feature == f)
                .Select(p => ((long)((p.Sequence * 15) + p.Position - 1), p.Value))];
            Assert.Equal(expected, Enumerable.Range((int)start[f], (int)(start[f + 1] - start[f])).Select(i => (row[i], value[i])));
        }
    }

    [Fact]
    public void Statistics_are_those_of_all_rows()
    {
        using var run = new SyntheticRun(4, 6, 15, 2);
        string path = Path.Combine(run.Folder.Path, "statistics.json");
        MergedFile merged = RunMerge.Open(run.Folder, run.Plan, partial: false).Statistics(path);
        JsonElement json = JsonElement.Parse(File.ReadAllBytes(path)), site = json.GetProperty("sites").GetProperty("resid_post.0");
        Assert.Equal(360, site.GetProperty("rows").GetInt64());
        Assert.Equal(Places.Average(p => (double)SyntheticRun.Value(p.Sequence, p.Position, 1, 0)), site.GetProperty("mean")[1].GetDouble(),
            1e-9);
        Assert.Equal(24, json.GetProperty("excluded").GetProperty("2").GetInt64());
        Assert.Equal(PlacedFile.Measure(path).Sha256, merged.Sha256);
    }

    [Fact]
    public void An_incomplete_run_is_merged_only_where_that_was_asked_for_and_damage_is_seen()
    {
        using var run = new SyntheticRun(3, 4, 10, 2);
        string path = Path.Combine(run.Folder.Path, "d");
        File.Delete(run.Folder.At(RunFolder.Manifest(1)));
        Assert.Contains("1 of 3 shards are missing", Assert.Throws<InvalidDataException>(() =>
            RunMerge.Open(run.Folder, run.Plan, partial: false)).Message, StringComparison.Ordinal);
        Assert.Equal(2, RunMerge.Open(run.Folder, run.Plan, partial: true).Density(run.Plan.Saes[0], path, null, default).Shards);
        string codes = run.Folder.At(RunFolder.Codes("sae", 2));
        byte[] bytes = File.ReadAllBytes(codes);
        bytes[^3] ^= 4;
        File.WriteAllBytes(codes, bytes);
        Assert.Contains("damaged", Assert.Throws<InvalidDataException>(() =>
            RunMerge.Open(run.Folder, run.Plan, partial: true).Density(run.Plan.Saes[0], path, null, default)).Message,
            StringComparison.Ordinal);
        Assert.Equal(["codes/sae/000002.safetensors", "shards/000002.json"],
            RunRepair.Discard(run.Folder, run.Plan, 2, verify: true, default).Order(StringComparer.Ordinal));
        Assert.Empty(RunRepair.Discard(run.Folder, run.Plan, 0, verify: true, default));
    }

    /// <summary>A shard whose manifest is there counts as done elsewhere: why it is missing here is said.</summary>
    [Fact]
    public void A_file_that_a_manifest_names_and_that_is_gone_is_named()
    {
        using var run = new SyntheticRun(3, 4, 10, 2);
        File.Delete(run.Folder.At(RunFolder.Codes("sae", 1)));
        string message = Assert.Throws<InvalidDataException>(() => RunMerge.Open(run.Folder, run.Plan, partial: false)).Message;
        Assert.Contains("1 of 3 shards are missing (codes/sae/000001.safetensors is not there", message, StringComparison.Ordinal);
        Assert.Contains("'plan --verify'", message, StringComparison.Ordinal);
    }

    private static IEnumerable<(int Sequence, int Position, int Feature, float Value)> All() =>
        Places.SelectMany(p => SyntheticRun.CodesOf(p.Sequence, p.Position).Select(c => (p.Sequence, p.Position, c.Feature, c.Value)));

    private static int Bin(float value) => (int)Math.Clamp(Math.Floor(4 * Math.Log2(value)) + 81, 0, 161);

    private static string WindowText(int sequence, int position, int window)
    {
        int first = Math.Max(0, position - window), last = Math.Min(15, position + window);
        IEnumerable<int> tokens = Enumerable.Range(first, last - first + 1).Select(t => SyntheticRun.Token(sequence, t));
        return $"{position - first}: {string.Join(' ', tokens)}";
    }
}

using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Numerics;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Tests.Runs;

/// <summary>The order in which a run's rows are served.</summary>
public sealed class RunRowsTests
{
    private static readonly HookPoint Site = HookPoint.Parse("resid_post.0");

    [Theory]
    [InlineData(1_000_000, false)]
    [InlineData(300, false)]
    [InlineData(1500, true)]
    public void Three_epochs_serve_every_row_three_times(int bucket, bool half)
    {
        using var run = new SyntheticRun(shards: 5, sequences: 12, rows: 50, width: 3);
        using RunRows rows = RunRows.Open(run.Folder.Path, Site, null,
            new RunRowsOptions { BucketRows = bucket, MixHalf = half, Validation = 0, OpenShards = 3 });
        Assert.Equal(3000, rows.EpochRows);
        var served = new Dictionary<float, int>();
        // 100 divides the rows of an epoch, so that nothing is left over.
        for (int batch = 0; batch < 90; batch++)
        {
            foreach (float first in Firsts(rows, 100))
                served[first] = served.GetValueOrDefault(first) + 1;
        }

        Assert.Equal(9000, rows.Position);
        Assert.Equal(3000, served.Count);
        Assert.All(served.Values, count => Assert.Equal(3, count));
    }

    /// <summary>It is not a cancellation, of which a caller may think that it was asked for.</summary>
    [Fact]
    public void Rows_that_are_closed_say_so()
    {
        using var run = new SyntheticRun(shards: 3, sequences: 4, rows: 25, width: 2);
        var rows = RunRows.Open(run.Folder.Path, Site, null, new RunRowsOptions { Validation = 0.3 });
        rows.Dispose();
        rows.Dispose();
        Assert.Throws<ObjectDisposedException>(() => rows.Next(new float[2], []));
        Assert.Throws<ObjectDisposedException>(() => rows.ReadValidation(0, new float[2], []));
    }

    [Fact]
    public void What_is_left_of_an_epoch_is_served_with_the_next()
    {
        using var run = new SyntheticRun(shards: 3, sequences: 4, rows: 25, width: 2);
        using RunRows rows = RunRows.Open(run.Folder.Path, Site, null, new RunRowsOptions { Validation = 0 });
        // 300 rows an epoch; seven batches of 128 are 896, two epochs and 296 rows.
        var served = new Dictionary<float, int>();
        for (int batch = 0; batch < 7; batch++)
        {
            foreach (float first in Firsts(rows, 128))
                served[first] = served.GetValueOrDefault(first) + 1;
        }

        Assert.Equal(300, served.Count);
        Assert.All(served.Values, count => Assert.InRange(count, 2, 4));
        Assert.Equal(896, served.Values.Sum());
    }

    [Fact]
    public void Rows_of_a_transcoder_are_of_the_same_token()
    {
        using var run = new SyntheticRun(2, 6, 20, 4, "mlp_in_unit.1", "mlp_out_post.1");
        using RunRows rows = RunRows.Open(run.Folder.Path, HookPoint.Parse("mlp_in_unit.1"), HookPoint.Parse("mlp_out_post.1"));
        float[] x = new float[64 * 4], y = new float[64 * 4];
        rows.Next(x, y);
        Assert.All(x.Zip(y), pair => Assert.Equal(pair.First + (1 / 16f), pair.Second));
        Assert.Equal((4, 4), (rows.Width, rows.TargetWidth));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_state_saved_at_any_batch_goes_on_with_the_same_batches(bool half)
    {
        using var run = new SyntheticRun(shards: 6, sequences: 10, rows: 300, width: 2);
        var options = new RunRowsOptions { BucketRows = 4000, MixHalf = half, OpenShards = 2, Seed = 3 };
        using RunRows whole = RunRows.Open(run.Folder.Path, Site, null, options);
        var states = new List<byte[]>();
        var batches = new List<float[]>();
        for (int b = 0; b < 40; b++)
        {
            using var state = new MemoryStream();
            whole.SaveState(state);
            states.Add(state.ToArray());
            float[] batch = new float[777 * 2];
            whole.Next(batch, []);
            batches.Add(batch);
        }

        foreach (int start in new[] { 0, 1, 4, 5, 6, 17, 22, 23, 39 })
        {
            using RunRows resumed = RunRows.Open(run.Folder.Path, Site, null, options);
            resumed.LoadState(new MemoryStream(states[start]));
            Assert.Equal(start * 777, resumed.Position);
            for (int b = start; b < 40; b++)
            {
                float[] batch = new float[777 * 2];
                resumed.Next(batch, []);
                Assert.Equal(batches[b], batch);
            }
        }
    }

    /// <summary>They are mixed as they are stored, and served as float32: each as it was written and rounded.</summary>
    [Theory]
    [InlineData(DType.F16)]
    [InlineData(DType.BF16)]
    public void Rounded_rows_are_served_as_they_were_written(DType type)
    {
        const int Width = 21;
        using var run = new SyntheticRun(type, 3, 8, 40, Width, "resid_post.0", "resid_post.1");
        using RunRows rows = RunRows.Open(run.Folder.Path, Site, HookPoint.Parse("resid_post.1"), new RunRowsOptions { Validation = 0 });
        float[] x = new float[960 * Width], y = new float[960 * Width];
        rows.Next(x, y);
        float Rounded(float value) => type == DType.F16 ? (float)(Half)value : (float)(BFloat16)value;
        string[] Lines(Func<int, int, float[]> row) => [.. Enumerable.Range(0, 24).SelectMany(s => Enumerable.Range(1, 40),
            (s, t) => string.Join(' ', row(s, t))).Order(StringComparer.Ordinal)];
        for (int k = 0; k < 2; k++)
        {
            string[] expected = Lines((s, t) => [.. Enumerable.Range(0, Width).Select(j => Rounded(SyntheticRun.Value(s, t, j, k)))]);
            float[] served = k == 0 ? x : y;
            string[] found = [.. served.Chunk(Width).Select(r => string.Join(' ', r)).Order(StringComparer.Ordinal)];
            Assert.Equal(expected, found);
        }

        Assert.Equal(2 * 1024 * 2 * Width * 2, rows.BucketBytes);
    }

    /// <summary>Every pattern of 16 bits, and those of 32 around each limit, at places that whole vectors and the rest of a row have.</summary>
    [Fact]
    public void Stored_values_are_widened_exactly_and_refused_where_they_are_not_finite()
    {
        ushort[] patterns = [.. Enumerable.Range(0, 1 << 16).Select(i => (ushort)i)];
        Check(DType.F16, patterns, bits => (float)BitConverter.UInt16BitsToHalf(bits), float.IsFinite);
        Check(DType.BF16, patterns, bits => BitConverter.UInt32BitsToSingle((uint)bits << 16), float.IsFinite);
        uint[] words = [.. new uint[] { 0, 1, 0x7F_FFFF, 0x80_0000, 0x3F80_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x7F80_0001, 0x7FFF_FFFF }
            .SelectMany(w => (uint[])[w, w | 0x8000_0000])];
        Check(DType.F32, words, BitConverter.UInt32BitsToSingle, float.IsFinite);

        static void Check<T>(DType type, T[] patterns, Func<T, float> widen, Func<float, bool> isFinite) where T : unmanaged
        {
            T[] finite = [.. patterns.Where(p => isFinite(widen(p)))];
            // So many that some are left over behind the last whole vector.
            finite = [.. finite, .. finite[..Math.Min(7, finite.Length)]];
            ReadOnlySpan<byte> stored = MemoryMarshal.AsBytes<T>(finite);
            float[] widened = new float[finite.Length];
            RowValues.Widen(type, stored, widened);
            Assert.Equal(finite.Select(p => BitConverter.SingleToUInt32Bits(widen(p))), widened.Select(BitConverter.SingleToUInt32Bits));
            Assert.Equal(-1, RowValues.FirstNotFinite(type, stored));
            foreach ((T bad, int i) in patterns.Where(p => !isFinite(widen(p))).Select((p, i) => (p, i)))
            {
                T[] row = [.. finite.TakeLast(67)];
                int at = i % row.Length;
                row[at] = bad;
                // A second one behind it, of the other sign, does not hide it.
                row[^1] = patterns.First(p => float.IsNegativeInfinity(widen(p)));
                Assert.Equal(at, RowValues.FirstNotFinite(type, MemoryMarshal.AsBytes<T>(row)));
                row[^1] = patterns.First(p => float.IsPositiveInfinity(widen(p)));
                Assert.Equal(at, RowValues.FirstNotFinite(type, MemoryMarshal.AsBytes<T>(row)));
            }
        }
    }

    /// <summary>Batches of changing lengths, saved and gone back to at random moments, over several epochs.</summary>
    [Theory]
    [InlineData(4000)]
    [InlineData(2500)]
    [InlineData(30000)]
    public void What_is_read_ahead_changes_no_row_and_no_state(int bucket)
    {
        using var run = new SyntheticRun(shards: 6, sequences: 10, rows: 300, width: 2);
        RunRowsOptions Options(bool ahead) => new() { BucketRows = bucket, OpenShards = 2, Seed = 3, ReadsAhead = ahead };
        using RunRows with = RunRows.Open(run.Folder.Path, Site, null, Options(true)), without = RunRows.Open(run.Folder.Path, Site, null,
            Options(false));
        var random = new Random(bucket);
        byte[] kept = StateOf(without);
        for (int b = 0; b < 400; b++)
        {
            int rows = b % 20 < 15 ? 300 : random.Next(1, without.BucketRows);
            float[] expected = new float[rows * 2], found = new float[rows * 2];
            without.Next(expected, []);
            with.Next(found, []);
            Assert.Equal(expected, found);
            if (random.Next(6) == 0)
                Thread.Sleep(1);
            if (random.Next(4) == 0)
                Assert.Equal(StateOf(without), StateOf(with));
            if (random.Next(25) == 0)
                kept = StateOf(with);
            if (random.Next(40) == 0)
            {
                with.LoadState(new MemoryStream(kept));
                without.LoadState(new MemoryStream(kept));
            }
        }
    }

    /// <summary>The refusal comes when the rows are asked for that lie in the damaged shard, as it does without.</summary>
    [Fact]
    public void A_damaged_shard_that_is_read_ahead_stops_the_bucket_that_needs_it()
    {
        using var run = new SyntheticRun(shards: 6, sequences: 10, rows: 300, width: 2);
        string path = run.Folder.At(RunFolder.Acts(Site.ToString(), 3));
        byte[] bytes = File.ReadAllBytes(path);
        bytes[^5] ^= 1;
        File.WriteAllBytes(path, bytes);
        int Served(bool ahead)
        {
            using RunRows rows = RunRows.Open(run.Folder.Path, Site, null,
                new RunRowsOptions { BucketRows = 3000, OpenShards = 1, Seed = 3, ReadsAhead = ahead });
            float[] batch = new float[100 * 2];
            for (int b = 0; ; b++)
            {
                try
                {
                    rows.Next(batch, []);
                }
                catch (InvalidDataException)
                {
                    return b;
                }
            }
        }

        Assert.Equal(Served(false), Served(true));
    }

    /// <summary>The numbers were written by the reader before rows were read side by side: checkpoints go on with the same rows.</summary>
    [Theory]
    [InlineData(DType.F32, "ed68aace0da8188c")]
    [InlineData(DType.F16, "9fd8aa89b60b9554")]
    public void The_order_of_rows_and_the_saved_place_stay_what_they_were(DType type, string expected)
    {
        using var run = new SyntheticRun(type, 5, 10, 300, 3, "resid_post.0", "resid_post.1");
        using RunRows rows = RunRows.Open(run.Folder.Path, Site, HookPoint.Parse("resid_post.1"),
            new RunRowsOptions { BucketRows = 5000, OpenShards = 2, Seed = 3, Validation = 0.1 });
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        float[] x = new float[777 * 3], y = new float[777 * 3];
        for (int b = 0; b < 50; b++)
        {
            rows.Next(x, y);
            hash.AppendData(MemoryMarshal.AsBytes<float>(x));
            hash.AppendData(MemoryMarshal.AsBytes<float>(y));
            hash.AppendData(StateOf(rows));
        }

        Assert.Equal(expected, Convert.ToHexStringLower(hash.GetHashAndReset())[..16]);
    }

    /// <summary>A mapping would end the process. Nothing stays open afterwards.</summary>
    [Fact]
    public void A_file_that_is_shortened_while_it_is_read_is_refused_by_name()
    {
        using var run = new SyntheticRun(shards: 2, sequences: 20, rows: 300, width: 64);
        string path = run.Folder.At(RunFolder.Acts(Site.ToString(), 1));
        using (RunRows rows = RunRows.Open(run.Folder.Path, Site, null,
            new RunRowsOptions { BucketRows = 1100, Validation = 0, ReadsAhead = false }))
        {
            float[] batch = new float[1000 * 64];
            rows.Next(batch, []);
            using (var file = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
                file.SetLength(5000);
            string message = Assert.Throws<InvalidDataException>(() =>
            {
                for (int b = 0; b < 12; b++)
                    rows.Next(batch, []);
            }).Message;
            Assert.Contains("it was shortened while it was read", message, StringComparison.Ordinal);
            Assert.Contains(path, message, StringComparison.Ordinal);
        }

        if (OperatingSystem.IsLinux())
            Assert.DoesNotContain(Directory.EnumerateFileSystemEntries("/proc/self/fd").ToArray(),
                f => new FileInfo(f).LinkTarget?.StartsWith(run.Folder.Path, StringComparison.Ordinal) ?? false);
    }

    [Theory]
    [InlineData(DType.F32, 0x7F80_0000)]
    [InlineData(DType.F16, 0xFE00)]
    [InlineData(DType.BF16, 0x7FFF)]
    public void A_value_that_is_not_finite_is_refused_by_row_and_place(DType type, uint bits)
    {
        const int Row = 137, Place = 19, Width = 21;
        using var run = new SyntheticRun(type, 1, 8, 40, Width);
        string path = run.Folder.At(RunFolder.Acts(Site.ToString(), 0));
        byte[] bytes = File.ReadAllBytes(path);
        int header = BitConverter.ToInt32(bytes), size = type.ByteSize();
        using JsonDocument json = JsonDocument.Parse(bytes.AsMemory(8, header));
        int x = 8 + header + json.RootElement.GetProperty("x").GetProperty("data_offsets")[0].GetInt32();
        BitConverter.GetBytes(bits).AsSpan(0, size).CopyTo(bytes.AsSpan(x + (((Row * Width) + Place) * size)));
        File.WriteAllBytes(path, bytes);
        AssertRefused(run, $"row {Row}, value {Place} is not a finite number", path);
    }

    [Fact]
    public void A_reader_that_was_disposed_refuses()
    {
        using var run = new SyntheticRun(2, 4, 10, 2);
        RunRows rows = RunRows.Open(run.Folder.Path, Site);
        float[] batch = new float[10 * 2];
        rows.Next(batch, []);
        rows.Dispose();
        Assert.Throws<ObjectDisposedException>(() => rows.Next(batch, []));
    }

    private static byte[] StateOf(RunRows rows)
    {
        using var state = new MemoryStream();
        rows.SaveState(state);
        return state.ToArray();
    }

    [Fact]
    public void A_state_of_other_rows_and_a_damaged_one_are_refused()
    {
        using var run = new SyntheticRun(2, 4, 10, 2);
        using RunRows rows = RunRows.Open(run.Folder.Path, Site);
        using var state = new MemoryStream();
        rows.SaveState(state);
        byte[] bytes = state.ToArray();
        using RunRows other = RunRows.Open(run.Folder.Path, Site, null, new RunRowsOptions { Seed = 99 });
        Assert.Contains("other rows", Assert.Throws<InvalidDataException>(() => other.LoadState(new MemoryStream(bytes))).Message,
            StringComparison.Ordinal);
        for (int at = 0; at < bytes.Length; at += 7)
        {
            byte[] damaged = [.. bytes];
            damaged[at] ^= 0x10;
            Assert.Throws<InvalidDataException>(() => rows.LoadState(new MemoryStream(damaged)));
            Assert.Throws<InvalidDataException>(() => rows.LoadState(new MemoryStream(bytes[..at])));
        }
    }

    [Fact]
    public void Held_back_sequences_are_never_served_and_can_be_read_in_their_order()
    {
        using var run = new SyntheticRun(shards: 4, sequences: 50, rows: 10, width: 2);
        using RunRows rows = RunRows.Open(run.Folder.Path, Site, null, new RunRowsOptions { Validation = 0.2 });
        Assert.Equal(2000, rows.EpochRows + rows.ValidationRows);
        Assert.InRange(rows.ValidationRows, 200, 700);
        Assert.Equal(0, rows.ValidationRows % 10);
        float[] held = new float[rows.ValidationRows * 2];
        rows.ReadValidation(0, held, []);
        float[] some = new float[30 * 2];
        rows.ReadValidation(25, some, []);
        Assert.Equal(held.AsSpan(50, 60).ToArray(), some);
        int[] sequences = [.. held.Where((_, i) => i % 2 == 0).Select(v => (int)(v / 1000))];
        Assert.Equal(sequences.Order(), sequences);
        HashSet<int> never = [.. sequences];
        for (int b = 0; b < 30; b++)
            Assert.DoesNotContain(Firsts(rows, 100), first => never.Contains((int)(first / 1000)));
        using RunRows otherSeed = RunRows.Open(run.Folder.Path, Site, null, new RunRowsOptions { Validation = 0.2, Seed = 12 });
        Assert.Equal(rows.ValidationRows, otherSeed.ValidationRows);
    }

    /// <summary>
    /// χ² over a million pairs of neighbours: how often two are of one sequence, against what a random permutation of the bucket gives.
    /// </summary>
    [Fact]
    public void Neighbours_are_not_of_one_sequence_more_often_than_chance()
    {
        using var run = new SyntheticRun(shards: 10, sequences: 20, rows: 600, width: 1);
        using RunRows rows = RunRows.Open(run.Folder.Path, Site, null, new RunRowsOptions { Validation = 0 });
        const int Rows = 120_000, Sequences = 200, Neighbours = 10;
        float[] order = new float[Rows];
        rows.Next(order, []);
        int[] sequence = [.. order.Select(v => (int)(v / 1000))];
        long same = 0, pairs = 0;
        for (int i = 0; i < Rows - Neighbours; i++)
        {
            for (int k = 1; k <= Neighbours; k++, pairs++)
                same += sequence[i] == sequence[i + k] ? 1 : 0;
        }

        double chance = ((Rows / (double)Sequences) - 1) / (Rows - 1), expected = pairs * chance;
        double chiSquared = ((same - expected) * (same - expected) / expected)
            + ((same - expected) * (same - expected) / (pairs - expected));
        // One degree of freedom; 15.1 is passed by chance once in ten thousand.
        Assert.True(chiSquared < 15.1, $"{same} pairs of one sequence, {expected:F0} expected: χ² = {chiSquared:F1}");
    }

    [Fact]
    public void Another_seed_gives_another_order_and_the_same_seed_the_same()
    {
        using var run = new SyntheticRun(3, 8, 30, 1);
        float[] Order(long seed)
        {
            using RunRows rows = RunRows.Open(run.Folder.Path, Site, null, new RunRowsOptions { Seed = seed });
            return Firsts(rows, 500);
        }

        Assert.Equal(Order(1), Order(1));
        Assert.NotEqual(Order(1), Order(2));
    }

    [Fact]
    public void A_damaged_shard_stops_with_its_name_and_an_incomplete_run_is_refused()
    {
        using var run = new SyntheticRun(3, 4, 10, 2);
        string path = run.Folder.At(RunFolder.Acts("resid_post.0", 1));
        byte[] bytes = File.ReadAllBytes(path);
        bytes[^500] ^= 1;
        File.WriteAllBytes(path, bytes);
        using (RunRows rows = RunRows.Open(run.Folder.Path, Site))
            Assert.Contains("000001.safetensors", Assert.Throws<InvalidDataException>(() => rows.Next(new float[60], [])).Message,
                StringComparison.Ordinal);
        File.Delete(run.Folder.At(RunFolder.Manifest(2)));
        Assert.Contains("shard 2 of 3 is missing", Assert.Throws<InvalidDataException>(() => RunRows.Open(run.Folder.Path, Site)).Message,
            StringComparison.Ordinal);
        Assert.Contains("no rows of z.1", Assert.Throws<InvalidDataException>(() =>
            RunRows.Open(run.Folder.Path, HookPoint.Parse("z.1"))).Message, StringComparison.Ordinal);
    }

    /// <summary>What only a look into the file shows: hashes are not compared, or are those of the wrong file.</summary>
    [Theory]
    [InlineData("position", -1, "row 3 is at position -1; positions are 0 to 10")]
    [InlineData("position", 11, "row 3 is at position 11; positions are 0 to 10")]
    [InlineData("token", -7, "row 3 has the token -7; ids are at least 0")]
    [InlineData("sequence", 9, "row 3 is of sequence 9; the shard has sequences 4 to 7")]
    public void Places_that_cannot_be_are_refused(string tensor, int value, string words)
    {
        using var run = new SyntheticRun(2, 4, 10, 2);
        string path = run.Folder.At(RunFolder.Acts("resid_post.0", 1));
        byte[] bytes = File.ReadAllBytes(path);
        int header = BitConverter.ToInt32(bytes);
        using JsonDocument json = JsonDocument.Parse(bytes.AsMemory(8, header));
        int at = 8 + header + json.RootElement.GetProperty(tensor).GetProperty("data_offsets")[0].GetInt32();
        BitConverter.TryWriteBytes(bytes.AsSpan(at + (3 * sizeof(int))), value);
        File.WriteAllBytes(path, bytes);
        AssertRefused(run, words, "000001.safetensors");
    }

    [Fact]
    public void Rows_of_another_site_shard_or_run_are_refused_by_what_their_file_says()
    {
        using var run = new SyntheticRun(2, 4, 10, 2, "resid_post.0", "resid_post.1");
        using var other = new SyntheticRun(2, 4, 10, 2, "resid_post.0", "resid_post.2");
        string path = run.Folder.At(RunFolder.Acts("resid_post.0", 1));
        File.Copy(run.Folder.At(RunFolder.Acts("resid_post.1", 1)), path, overwrite: true);
        AssertRefused(run, "its metadata say site resid_post.1; resid_post.0 was expected", path);
        File.Copy(other.Folder.At(RunFolder.Acts("resid_post.0", 1)), path, overwrite: true);
        AssertRefused(run, $"its metadata say run {other.Plan.Id}; {run.Plan.Id} was expected", path);
        File.Copy(run.Folder.At(RunFolder.Acts("resid_post.0", 0)), path, overwrite: true);
        AssertRefused(run, "its metadata say shard 000000; 000001 was expected", path);
    }

    private static void AssertRefused(SyntheticRun run, string words, string file)
    {
        string message = Assert.Throws<InvalidDataException>(() =>
        {
            using RunRows rows = RunRows.Open(run.Folder.Path, Site, null, new RunRowsOptions { Trust = true });
            rows.Next(new float[60 * rows.Width], []);
        }).Message;
        Assert.Contains(words, message, StringComparison.Ordinal);
        Assert.Contains(file, message, StringComparison.Ordinal);
    }

    private static float[] Firsts(RunRows rows, int count)
    {
        float[] batch = new float[count * rows.Width];
        rows.Next(batch, []);
        return [.. Enumerable.Range(0, count).Select(r => batch[r * rows.Width])];
    }
}

using System.Diagnostics;
using System.Globalization;
using KernelScope.Bench.Models;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Measuring;
using KernelScope.Training.Runs;

namespace KernelScope.Bench;

/// <summary>
/// Rows of Gemma 2 2B's width, mixed by the reader of a run, beside dd over the same files, in turns; before each the files leave the
/// page cache. With and without the comparison of each shard with its hash. Beside the clock, by the processor's time: what one core reads
/// in a second that it has to itself.
/// </summary>
internal static class ReaderCost
{
    // 2.4 GB: of less, the first touch of memory and what is compiled at first are a good part.
    private const int Shards = 16, Sequences = 16, RowsOfSequence = 1024, Width = 2304, Batch = 4096, Rounds = 5;

    public static int Measure(string place)
    {
        var folder = new RunFolder(Path.Combine(place, $"kernelscope-rows-{Environment.ProcessId}"));
        try
        {
            RunPlan plan = Write(folder);
            string[] files = [.. Enumerable.Range(0, Shards).Select(n => folder.At(RunFolder.Acts("resid_post.0", n)))];
            double bytes = files.Sum(f => (double)new FileInfo(f).Length);
            // A trainer has one for all steps.
            float[] batch = new float[Batch * Width];
            List<double> trusted = [], verified = [];
            for (int round = 0; round < Rounds; round++)
            {
                (double dd, _) = Cold(files,
                    () => Array.ForEach(files, f => Run("dd", $"if={f}", "of=/dev/null", "bs=1M", "status=none")));
                (double trust, double trustCore) = Cold(files, () => Read(folder, plan, batch, trust: true));
                (double verify, double verifyCore) = Cold(files, () => Read(folder, plan, batch, trust: false));
                trusted.Add(dd / trust);
                verified.Add(dd / verify);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{bytes / 1e6:0} MB: dd {bytes / dd / 1e9:0.00} GB/s, reader {bytes / trust / 1e9:0.00} GB/s with --trust " +
                        $"({bytes / trustCore / 1e9:0.00} a core), {bytes / verify / 1e9:0.00} GB/s with hashes " +
                        $"({bytes / verifyCore / 1e9:0.00} a core)"));
            }

            Console.WriteLine($"of dd's speed: {Spread.Of(trusted).Text} with --trust, {Spread.Of(verified).Text} with hashes; bar 0.8");
            return Spread.Of(verified).Median >= 0.8 ? 0 : 1;
        }
        finally
        {
            if (Directory.Exists(folder.Path))
                Directory.Delete(folder.Path, recursive: true);
        }
    }

    private static void Read(RunFolder folder, RunPlan plan, float[] batch, bool trust)
    {
        var options = new RunRowsOptions { BucketRows = 4 * Batch, Validation = 0, Trust = trust };
        using RunRows rows = RunRows.Open(folder, plan, HookPoint.Parse("resid_post.0"), null, options);
        for (long served = 0; served + Batch <= rows.EpochRows; served += Batch)
            rows.Next(batch, []);
    }

    private static (double Seconds, double OfCore) Cold(string[] files, Action read)
    {
        PageCache.Drop(files);
        TimeSpan core = Environment.CpuUsage.TotalTime;
        long start = Stopwatch.GetTimestamp();
        read();
        return (Stopwatch.GetElapsedTime(start).TotalSeconds, (Environment.CpuUsage.TotalTime - core).TotalSeconds);
    }

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(program, arguments);
        process.WaitForExit();
    }

    private static RunPlan Write(RunFolder folder)
    {
        const int Rows = Sequences * RowsOfSequence;
        var site = new SiteRecord(HookPoint.Parse("resid_post.0"), Width);
        var plan = new RunPlan
        {
            Model = new ModelRecord("none", new string('b', 64), []),
            TokensSource = "tokens",
            TokensSha256 = new string('c', 64),
            TokenCount = Shards * Rows,
            TokenizerSha256 = null,
            Sites = [site],
            Saes = [],
            Context = RowsOfSequence,
            PadId = 0,
            ExcludedIds = [],
            SkipFirst = 0,
            RowType = DType.F32,
            Precision = "exact",
            DeviceClass = "none",
            CodeVersion = "0",
            CodeCommit = "bench",
            Seed = 0,
            Shards = [.. Enumerable.Range(0, Shards).Select(n => new ShardRecord(n * Sequences, Sequences, Rows, new string('d', 64)))],
        };
        PlacedFile.Write(folder.PlanPath, plan.ToBytes());
        float[] x = RandomValues.Create(Rows * Width, 1);
        for (int n = 0; n < Shards; n++)
        {
            using PlacedFile file = PlacedFile.Create(folder.At(RunFolder.Acts(site.Name, n)));
            using var writer = new SafetensorsWriter(file.Stream, SiteRows.Tensors(site, DType.F32, Rows), null);
            writer.Append<float>(x);
            writer.Append<int>([.. Enumerable.Range(0, Rows).Select(r => (n * Sequences) + (r / RowsOfSequence))]);
            writer.Append<int>([.. Enumerable.Range(0, Rows).Select(r => r % RowsOfSequence)]);
            writer.Append<int>(new int[Rows]);
            writer.Commit();
            var sums = new SiteManifest
            {
                File = file.Place(),
                Rows = Rows,
                SumX = new double[Width],
                SumSquaredNorm = Rows,
                MaxNorm = 1,
                MaxNormAt = (0, 0),
            };
            PlacedFile.Write(folder.At(RunFolder.Manifest(n)), new ShardManifest
            {
                Run = plan.Id,
                Shard = n,
                Attempt = 1,
                Sites = new Dictionary<string, SiteManifest> { [site.Name] = sums },
                Codes = new Dictionary<string, CodesManifest>(),
                Tokens = new StoredFile(1, new string('d', 64)),
                Excluded = new Dictionary<int, long>(),
                Rows = Rows,
                Seconds = 1,
                Worker = "bench",
                Host = "bench",
                Device = "none",
                DeviceClass = "none",
                Code = "0+bench",
            }.ToBytes());
        }

        return plan;
    }
}

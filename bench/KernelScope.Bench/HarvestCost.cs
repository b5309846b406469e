using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using KernelScope.Cpu;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Measuring;
using KernelScope.Model;
using KernelScope.Training.Runs;

namespace KernelScope.Bench;

/// <summary>
/// A harvest of the demo beside the bare forward passes over the same tokens, and one worker beside as many as there are cores, in turns.
/// Files go to the folder that is given, which should be in memory.
/// </summary>
internal static class HarvestCost
{
    private const int Sequences = 24, Context = 512, Rounds = 5;

    public static int Measure(string place)
    {
        using Gemma2Checkpoint checkpoint = Demo.OpenCheckpoint();
        int cores = Environment.ProcessorCount;
        Worker[] workers = [.. Enumerable.Range(0, cores).Select(n => new Worker(checkpoint, Path.Combine(place, $"run-{n}"), 1))];
        var all = new Worker(checkpoint, Path.Combine(place, "run-all"), cores);
        List<double> shares = [], scaling = [], processor = [];
        for (int round = 0; round < Rounds; round++)
        {
            double bare = all.Forward(), harvest = all.Harvest();
            TimeSpan began = Environment.CpuUsage.TotalTime;
            double one = workers[0].Harvest();
            TimeSpan between = Environment.CpuUsage.TotalTime;
            long start = Stopwatch.GetTimestamp();
            Parallel.ForEach(workers, new ParallelOptions { MaxDegreeOfParallelism = cores }, w => w.Harvest());
            double many = Stopwatch.GetElapsedTime(start).TotalSeconds;
            double efficiency = cores * ((between - began) / (Environment.CpuUsage.TotalTime - between));
            shares.Add(bare / harvest);
            processor.Add(efficiency);
            scaling.Add(one / many);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{Sequences * Context} tokens: forward {bare:0.00} s, harvest {harvest:0.00} s; a worker of one thread {one:0.00} s, " +
                    $"{cores} of them, each as much, {many:0.00} s"));
        }

        foreach (Worker worker in workers.Append(all))
            worker.Dispose();
        Spread share = Spread.Of(shares), scale = Spread.Of(scaling);
        Console.WriteLine($"harvest: {share.Text} of the speed of its forward passes, bar 0.9");
        Console.WriteLine($"{cores} workers: {scale.Text} of {cores} times one, bar 0.95; " +
            $"by processor seconds {Spread.Of(processor).Text}");
        return share.Median >= 0.9 && scale.Median >= 0.95 ? 0 : 1;
    }

    /// <summary>A run of one shard, made again and again.</summary>
    private sealed class Worker : IDisposable
    {
        private readonly CpuDevice _device;
        private readonly Gemma2Model _model;
        private readonly RunFolder _folder;
        private readonly RunPlan _plan;
        private readonly ShardHarvest _harvest;
        private readonly int[][] _tokens;

        public Worker(Gemma2Checkpoint checkpoint, string folder, int threads)
        {
            _device = new CpuDevice(threads);
            _model = Gemma2Model.Load(_device, checkpoint);
            _folder = new RunFolder(folder);
            var random = new Random(1);
            _tokens = [.. Enumerable.Range(0, Sequences).Select(_ => Enumerable.Range(0, Context)
                .Select(t => t == 0 ? checkpoint.Config.BosId : random.Next(3, checkpoint.Config.VocabSize)).ToArray())];
            byte[] json = JsonSerializer.SerializeToUtf8Bytes(_tokens);
            var request = new PlanRequest
            {
                Corpus = new Corpus(CorpusKind.Tokens, [new CorpusFile("tokens", () => new MemoryStream(json))], null,
                    checkpoint.Config.BosId, checkpoint.Config.VocabSize),
                Packed = false,
                ShardBytes = 1L << 30,
                Plan = new RunPlan
                {
                    Model = RunIdentity.Of("demo", checkpoint, CancellationToken.None),
                    TokensSource = "tokens",
                    TokensSha256 = "",
                    TokenCount = 0,
                    TokenizerSha256 = null,
                    Sites = [new SiteRecord(HookPoint.Parse("resid_post.5"), checkpoint.Config.ModelDim)],
                    Saes = [],
                    Context = Context,
                    PadId = checkpoint.Config.PadId,
                    ExcludedIds = [checkpoint.Config.BosId],
                    SkipFirst = 0,
                    RowType = DType.F32,
                    Precision = "exact",
                    DeviceClass = "bench",
                    CodeVersion = "0",
                    CodeCommit = "bench",
                    Seed = 0,
                    Shards = [],
                },
            };
            _plan = RunPlanner.Plan(request, CancellationToken.None);
            RunPlanner.Write(_folder, request, _plan, CancellationToken.None);
            _harvest = new ShardHarvest(_folder, _plan, _model, []);
            _harvest.RunOnly(_tokens[0], CancellationToken.None);
        }

        public double Forward()
        {
            long start = Stopwatch.GetTimestamp();
            foreach (int[] ids in _tokens)
                _harvest.RunOnly(ids, CancellationToken.None);
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        public double Harvest()
        {
            if (Directory.Exists(_folder.ShardsFolder))
                Directory.Delete(_folder.ShardsFolder, recursive: true);
            if (Directory.Exists(_folder.At("acts")))
                Directory.Delete(_folder.At("acts"), recursive: true);
            long start = Stopwatch.GetTimestamp();
            for (int shard = 0; shard < _plan.Shards.Count; shard++)
                _harvest.Make(shard, 1, null, CancellationToken.None);
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        public void Dispose()
        {
            _harvest.Dispose();
            _model.Dispose();
            _device.Dispose();
            Directory.Delete(_folder.Path, recursive: true);
        }
    }
}

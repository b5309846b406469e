using System.Runtime.InteropServices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Numerics;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Tests.Runs;

/// <summary>
/// A run on disk whose values tell where they belong: x[j] of sequence s, position t at site number k is 1000·s + t + j/8 + k/16. Each
/// sequence begins with BOS, which has no row.
/// </summary>
internal sealed class SyntheticRun : IDisposable
{
    public const int BosId = 2, Features = 40;
    private readonly string _root = Path.Combine(Path.GetTempPath(), "kernelscope-training-tests-" + Path.GetRandomFileName());

    public SyntheticRun(int shards, int sequences, int rows, int width, params string[] sites)
        : this(DType.F32, shards, sequences, rows, width, sites)
    {
    }

    public SyntheticRun(DType type, int shards, int sequences, int rows, int width, params string[] sites)
    {
        Folder = new RunFolder(_root);
        SiteRecord[] records = [.. (sites.Length == 0 ? ["resid_post.0"] : sites).Select(s => new SiteRecord(HookPoint.Parse(s), width))];
        var sae = new SaeRecord("sae", "sae", new string('a', 64), records[0].Point, Features);
        Plan = new RunPlan
        {
            Model = new ModelRecord("none", new string('b', 64), []),
            TokensSource = "tokens",
            TokensSha256 = new string('c', 64),
            TokenCount = (long)shards * sequences * (rows + 1),
            TokenizerSha256 = null,
            Sites = records,
            Saes = [sae],
            Context = rows + 1,
            PadId = 0,
            ExcludedIds = [BosId],
            SkipFirst = 0,
            RowType = type,
            Precision = "exact",
            DeviceClass = "none",
            CodeVersion = "1",
            CodeCommit = "none",
            Seed = 7,
            Shards = [.. Enumerable.Range(0, shards).Select(n => new ShardRecord((long)n * sequences, sequences, (long)sequences * rows,
                WriteTokens(n, sequences, rows)))],
        };
        PlacedFile.Write(Folder.PlanPath, Plan.ToBytes());
        for (int n = 0; n < shards; n++)
            WriteShard(n, sequences, rows);
    }

    public RunFolder Folder { get; }

    public RunPlan Plan { get; }

    public static float Value(int sequence, int position, int j, int site) => (1000f * sequence) + position + (j / 8f) + (site / 16f);

    /// <summary>The codes of a row: a few features that depend on sequence and position alone.</summary>
    public static (int Feature, float Value)[] CodesOf(int sequence, int position)
    {
        var random = new Random((sequence * 7919) + position);
        return [.. Enumerable.Range(0, Features).Where(_ => random.Next(8) == 0)
            .Select(f => (f, (float)Math.Round(Math.Exp((random.NextDouble() * 6) - 3), 2)))];
    }

    public static int Token(int sequence, int position) => position == 0 ? BosId : 3 + (((sequence * 31) + (position * 17)) % 5);

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private string WriteTokens(int shard, int sequences, int rows)
    {
        TokenSequence[] tokens = [.. Enumerable.Range(shard * sequences, sequences)
            .Select(s => new TokenSequence([.. Enumerable.Range(0, rows + 1).Select(t => Token(s, t))], s))];
        using PlacedFile file = PlacedFile.Create(Folder.At(RunFolder.Tokens(shard)));
        TokenShard.Write(file.Stream, tokens, rows + 1, 0, shard);
        return file.Place().Sha256;
    }

    private void WriteShard(int shard, int sequences, int rows)
    {
        (int Sequence, int Position)[] places = [.. Enumerable.Range(shard * sequences, sequences)
            .SelectMany(s => Enumerable.Range(1, rows).Select(t => (s, t)))];
        int[] sequence = [.. places.Select(p => p.Sequence)], position = [.. places.Select(p => p.Position)],
            token = [.. places.Select(p => Token(p.Sequence, p.Position))];
        var sites = new Dictionary<string, SiteManifest>();
        for (int k = 0; k < Plan.Sites.Count; k++)
        {
            SiteRecord site = Plan.Sites[k];
            float[] x = [.. places.SelectMany(p => Enumerable.Range(0, site.Width).Select(j => Value(p.Sequence, p.Position, j, k)))];
            using PlacedFile file = PlacedFile.Create(Folder.At(RunFolder.Acts(site.Name, shard)));
            using var writer = new SafetensorsWriter(file.Stream, SiteRows.Tensors(site, Plan.RowType, places.Length),
                SiteRows.Metadata(Plan, shard, site.Name, Plan.RowType));
            writer.AppendBytes(Plan.RowType switch
            {
                DType.F16 => MemoryMarshal.AsBytes<Half>([.. x.Select(v => (Half)v)]),
                DType.BF16 => MemoryMarshal.AsBytes<BFloat16>([.. x.Select(v => (BFloat16)v)]),
                _ => MemoryMarshal.AsBytes<float>(x),
            });
            writer.Append<int>(sequence);
            writer.Append<int>(position);
            writer.Append<int>(token);
            writer.Commit();
            sites.Add(site.Name, new SiteManifest
            {
                File = file.Place(),
                Rows = places.Length,
                SumX = [.. Enumerable.Range(0, site.Width).Select(j => places.Sum(p => (double)Value(p.Sequence, p.Position, j, k)))],
                SumSquaredNorm = x.Sum(v => (double)v * v),
                MaxNorm = 1,
                MaxNormAt = (sequence[0], 1),
            });
        }

        (int Feature, float Value)[][] codes = [.. places.Select(p => CodesOf(p.Sequence, p.Position))];
        long[] start = [0, .. codes.Select((_, r) => (long)codes.Take(r + 1).Sum(c => c.Length))];
        using PlacedFile codesFile = PlacedFile.Create(Folder.At(RunFolder.Codes("sae", shard)));
        using var codesWriter = new SafetensorsWriter(codesFile.Stream, CodeRows.Tensors(places.Length, start[^1]), null);
        codesWriter.Append<long>(start);
        codesWriter.Append<int>([.. codes.SelectMany(c => c.Select(p => p.Feature))]);
        codesWriter.Append<float>([.. codes.SelectMany(c => c.Select(p => p.Value))]);
        codesWriter.Append<int>(sequence);
        codesWriter.Append<int>(position);
        codesWriter.Append<int>(token);
        codesWriter.Commit();
        StoredFile firing = PlacedFile.Write(Folder.At(RunFolder.Firing("sae", shard)), "firing"u8);
        var manifest = new ShardManifest
        {
            Run = Plan.Id,
            Shard = shard,
            Attempt = 1,
            Sites = sites,
            Codes = new Dictionary<string, CodesManifest> { ["sae"] = new(codesFile.Place(), start[^1], firing) },
            Tokens = PlacedFile.Measure(Folder.At(RunFolder.Tokens(shard))),
            Excluded = new Dictionary<int, long> { [BosId] = sequences },
            Rows = places.Length,
            Seconds = 1,
            Worker = "test",
            Host = "test",
            Device = "none",
            DeviceClass = "none",
            Code = "1",
        };
        PlacedFile.Write(Folder.At(RunFolder.Manifest(shard)), manifest.ToBytes());
    }
}

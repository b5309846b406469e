using System.Security.Cryptography;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>What a run is to be made of.</summary>
internal sealed record PlanRequest
{
    public required Corpus Corpus { get; init; }

    /// <summary>Whether documents share sequences.</summary>
    public required bool Packed { get; init; }

    /// <summary>The plan without what follows from the corpus: shards, hash and number of tokens.</summary>
    public required RunPlan Plan { get; init; }

    /// <summary>Most bytes of a shard over all its files, unless one sequence has more.</summary>
    public required long ShardBytes { get; init; }

    /// <summary>Most sequences of a shard; null: as many as fit.</summary>
    public int? ShardSequences { get; init; }

    /// <summary>Sequences after which the run ends; null: all.</summary>
    public long? MaxSequences { get; init; }

    /// <summary>The run ends with the sequence that has this row; null: all.</summary>
    public long? MaxRows { get; init; }
}

/// <summary>Cuts a corpus into the shards of a run. Memory: one shard's tokens.</summary>
internal static class RunPlanner
{
    /// <summary>Bytes that codes of a row take for an estimate, before any are known: a hundred active features.</summary>
    private const long CodeRowBytes = (100 * 8) + 20;

    /// <summary>Plans a run.</summary>
    /// <param name="request">What is planned.</param>
    /// <param name="cancellationToken">Stops between two sequences.</param>
    /// <returns>The plan. Nothing is written.</returns>
    /// <exception cref="InvalidDataException">The corpus cannot be read, or has no row.</exception>
    public static RunPlan Plan(PlanRequest request, CancellationToken cancellationToken)
    {
        var shards = new List<ShardRecord>();
        long tokens = 0, first = 0;
        using var all = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach ((List<TokenSequence> sequences, long rows) in Shards(request))
        {
            cancellationToken.ThrowIfCancellationRequested();
            string hash = HashOf(sequences, request.Plan, shards.Count);
            all.AppendData(Encoding.ASCII.GetBytes(hash));
            shards.Add(new ShardRecord(first, sequences.Count, rows, hash));
            first += sequences.Count;
            tokens += sequences.Sum(s => (long)s.Ids.Length);
        }

        if (shards.Sum(s => s.Rows) == 0)
            throw new InvalidDataException("the corpus gives no row: every token is excluded.");
        return first > int.MaxValue
            ? throw new InvalidDataException($"the corpus gives {first} sequences; a run has at most {int.MaxValue}: use --sequences, " +
                $"or longer ones.")
            : request.Plan with { Shards = shards, TokenCount = tokens, TokensSha256 = Convert.ToHexStringLower(all.GetHashAndReset()) };
    }

    /// <summary>Writes the token files of a plan, then the plan itself. Whatever is there already and equal stays.</summary>
    /// <param name="folder">Where.</param>
    /// <param name="request">What was planned.</param>
    /// <param name="plan">What <see cref="Plan"/> made of it.</param>
    /// <param name="cancellationToken">Stops between two shards.</param>
    /// <exception cref="InvalidDataException">The corpus has changed meanwhile, or another run is in the folder.</exception>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Write(RunFolder folder, PlanRequest request, RunPlan plan, CancellationToken cancellationToken)
    {
        RequireOwn(folder, plan);
        int shard = 0;
        foreach ((List<TokenSequence> sequences, _) in Shards(request))
        {
            cancellationToken.ThrowIfCancellationRequested();
            WriteTokens(folder, plan, shard, sequences);
            shard++;
        }

        try
        {
            PlacedFile.Write(folder.PlanPath, plan.ToBytes());
        }
        catch (ShardConflictException)
        {
            RequireOwn(folder, plan);
            throw;
        }
    }

    /// <summary>Refuses a folder that holds another run.</summary>
    /// <exception cref="InvalidDataException">It does.</exception>
    public static void RequireOwn(RunFolder folder, RunPlan plan)
    {
        if (RawFile.IsThere(folder.PlanPath) && RunPlan.Read(folder) is RunPlan other && other.Id != plan.Id)
            throw BadFile.At(folder.Path,
                $"another run is in this folder: {Difference(other, plan)}. A changed input is another run, in another folder.");
    }

    /// <summary>Bytes that a whole run takes on disk, codes by an estimate.</summary>
    public static long BytesOf(RunPlan plan) =>
        (plan.Rows * (plan.RowBytes + (plan.Saes.Count * CodeRowBytes))) + (plan.Sequences * ((plan.Context * sizeof(int)) + 12L));

    private static void WriteTokens(RunFolder folder, RunPlan plan, int shard, List<TokenSequence> sequences)
    {
        string path = folder.At(RunFolder.Tokens(shard)), changed = "the corpus has changed since it was counted; start again.";
        if (shard >= plan.Shards.Count)
            throw new InvalidDataException(changed);
        // Left by a plan that was not finished: of this one, or of another one that nobody can use any more.
        if (File.Exists(path))
        {
            if (PlacedFile.Measure(path).Sha256 == plan.Shards[shard].TokensSha256)
                return;
            File.Delete(path);
        }

        using PlacedFile file = PlacedFile.Create(path);
        TokenShard.Write(file.Stream, sequences, plan.Context, plan.PadId, shard);
        if (file.Place().Sha256 != plan.Shards[shard].TokensSha256)
            throw new InvalidDataException(changed);
    }

    private static string Difference(RunPlan there, RunPlan here)
    {
        (string What, bool Same)[] parts =
        [
            ("its model", there.Model.ConfigSha256 == here.Model.ConfigSha256 && there.Model.Files.SequenceEqual(here.Model.Files)),
                ("its tokens", there.TokensSha256 == here.TokensSha256),
            ("its sites", there.Sites.SequenceEqual(here.Sites)), ("its SAEs", there.Saes.SequenceEqual(here.Saes)),
            ("what is left out", there.ExcludedIds.SequenceEqual(here.ExcludedIds) && there.SkipFirst == here.SkipFirst),
                ("its number type", there.RowType == here.RowType),
            ("its device class", (there.DeviceClass, there.Precision) == (here.DeviceClass, here.Precision)),
                ("how it is cut into shards", there.Shards.SequenceEqual(here.Shards)),
            ("its seed", there.Seed == here.Seed), ("the model's name", there.Model.Name == here.Model.Name),
                ("the program's version", (there.CodeVersion, there.CodeCommit) == (here.CodeVersion, here.CodeCommit)),
        ];
        return parts.FirstOrDefault(p => !p.Same).What is string what ? $"{what} differs" : "its run.json differs";
    }

    private static string HashOf(List<TokenSequence> sequences, RunPlan plan, int shard)
    {
        using var hash = new HashStream();
        TokenShard.Write(hash, sequences, plan.Context, plan.PadId, shard);
        return hash.Finish();
    }

    private static IEnumerable<(List<TokenSequence> Sequences, long Rows)> Shards(PlanRequest request)
    {
        var selection = new RowSelection(request.Plan.ExcludedIds, request.Plan.SkipFirst);
        long rowBytes = request.Plan.RowBytes + (request.Plan.Saes.Count * CodeRowBytes),
            sequenceBytes = (request.Plan.Context * sizeof(int)) + 12L;
        var shard = new List<TokenSequence>();
        long rows = 0, total = 0, count = 0;
        foreach (TokenSequence sequence in request.Corpus.Sequences(request.Plan.Context, request.Packed))
        {
            int more = selection.Count(sequence.Ids);
            long bytes = ((rows + more) * rowBytes) + ((shard.Count + 1) * sequenceBytes);
            // Rows of a shard are counted in 32 bits by those who read them.
            if (shard.Count > 0 && (bytes > request.ShardBytes || shard.Count == request.ShardSequences || rows + more > int.MaxValue / 4))
            {
                yield return (shard, rows);
                shard = [];
                rows = 0;
            }

            shard.Add(sequence);
            rows += more;
            total += more;
            count++;
            if (count == request.MaxSequences || total >= request.MaxRows)
                break;
        }

        if (shard.Count > 0)
            yield return (shard, rows);
    }

    /// <summary>A stream of which only the hash is kept.</summary>
    private sealed class HashStream : Stream
    {
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public string Finish() => Convert.ToHexStringLower(_hash.GetHashAndReset());

        public override void Write(ReadOnlySpan<byte> buffer) => _hash.AppendData(buffer);

        public override void Write(byte[] buffer, int offset, int count) => _hash.AppendData(buffer, offset, count);

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
                _hash.Dispose();
            base.Dispose(disposing);
        }
    }
}

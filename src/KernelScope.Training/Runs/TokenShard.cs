using System.Runtime.InteropServices;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>A sequence of a corpus: its ids, and which document its first token is of.</summary>
internal readonly record struct TokenSequence(int[] Ids, long Document);

/// <summary>
/// The tokens of a shard: <c>tokens</c> i32 [sequences, context], padded, <c>length</c> i32 and <c>document</c> i64 [sequences].
/// </summary>
internal sealed class TokenShard
{
    private TokenShard(long firstSequence, int[][] sequences, long[] documents)
    {
        FirstSequence = firstSequence;
        Sequences = sequences;
        Documents = documents;
    }

    /// <summary>Number of the first sequence over the run.</summary>
    public long FirstSequence { get; }

    /// <summary>The ids of each, without padding.</summary>
    public int[][] Sequences { get; }

    /// <summary>The document of each one's first token.</summary>
    public long[] Documents { get; }

    /// <summary>Writes a token file to a stream. Nothing in it names the run, whose id depends on it.</summary>
    public static void Write(Stream destination, IReadOnlyList<TokenSequence> sequences, int context, int padId, int shard)
    {
        int count = sequences.Count;
        using var writer = new SafetensorsWriter(
            destination,
            [new TensorInfo("tokens", DType.I32, [count, context]), new TensorInfo("length", DType.I32, [count]),
                new TensorInfo("document", DType.I64, [count])],
            new SortedDictionary<string, string>(StringComparer.Ordinal) { ["shard"] = RunFolder.Number(shard) });
        int[] row = new int[context];
        foreach (TokenSequence sequence in sequences)
        {
            sequence.Ids.CopyTo(row, 0);
            row.AsSpan(sequence.Ids.Length).Fill(padId);
            writer.Append<int>(row);
        }

        writer.Append<int>([.. sequences.Select(s => s.Ids.Length)]);
        writer.Append<long>([.. sequences.Select(s => s.Document)]);
        writer.Commit();
    }

    /// <summary>Reads and checks the tokens of a shard.</summary>
    /// <param name="folder">The run.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="shard">Which.</param>
    /// <param name="vocabulary">Ids are below it; 0: any.</param>
    /// <exception cref="InvalidDataException">The file is missing, damaged, or not the plan's.</exception>
    public static TokenShard Read(RunFolder folder, RunPlan plan, int shard, int vocabulary = 0)
    {
        // An evaluation lies in the folder evals of its run, and has that run's tokens.
        string path = folder.At(plan.Evaluation is null ? RunFolder.Tokens(shard) : $"../../{RunFolder.Tokens(shard)}");
        ShardRecord record = plan.Shards[shard];
        using var file = SafetensorsFile.Open(path);
        if (PlacedFile.HashOf(file.Raw) is string hash && hash != record.TokensSha256)
            throw BadFile.At(path, $"the tokens are not those of the plan: their SHA-256 is {hash[..12]}…, the plan's " +
                $"{record.TokensSha256[..12]}….");
        Require(file, "tokens", DType.I32, record.Sequences, plan.Context);
        Require(file, "length", DType.I32, record.Sequences);
        Require(file, "document", DType.I64, record.Sequences);
        int[] tokens = Values<int>(file["tokens"]), lengths = Values<int>(file["length"]);
        int[][] sequences = new int[record.Sequences][];
        for (int s = 0; s < sequences.Length; s++)
        {
            if (lengths[s] < 1 || lengths[s] > plan.Context)
                throw BadFile.At(path, $"sequence {s} has the length {lengths[s]}; expected 1 to {plan.Context}.");
            sequences[s] = tokens.AsSpan(s * plan.Context, lengths[s]).ToArray();
            int bad = vocabulary == 0 ? sequences[s].AsSpan().IndexOfAnyExceptInRange(0, int.MaxValue)
                : sequences[s].AsSpan().IndexOfAnyExceptInRange(0, vocabulary - 1);
            if (bad >= 0)
                throw BadFile.At(path, $"sequence {s}, position {bad}: the id {sequences[s][bad]} is outside the vocabulary.");
        }

        return new TokenShard(record.FirstSequence, sequences, Values<long>(file["document"]));
    }

    /// <summary>Refuses a tensor of another type or shape.</summary>
    public static void Require(SafetensorsFile file, string name, DType type, params ReadOnlySpan<long> shape)
    {
        TensorView tensor = file[name];
        if (tensor.DType != type || !tensor.Shape.SequenceEqual(shape))
            throw BadFile.At(file.Path, $"{tensor.Info} was found; {name} {type.SafetensorsName()} {BadFile.Shape(shape)} was expected.");
    }

    /// <summary>A copy of a tensor's values as they are stored, read from the file: one that somebody shortens is an error like
    /// others.</summary>
    public static T[] Values<T>(TensorView tensor) where T : unmanaged
    {
        var file = (SafetensorsFile)tensor.Owner;
        T[] values = new T[tensor.ElementCount <= Array.MaxLength ? (int)tensor.ElementCount
            : throw BadFile.At(tensor.File, $"{tensor.Info} has more values than can be read at once.")];
        // A span has less than 2 GB.
        const int Part = 1 << 24;
        for (long at = 0; at < values.Length; at += Part)
        {
            Span<T> part = values.AsSpan((int)at, (int)Math.Min(Part, values.Length - at));
            file.Raw.Read(file.OffsetOf(tensor.Name) + (at * Marshal.SizeOf<T>()), MemoryMarshal.AsBytes(part));
        }

        return values;
    }
}

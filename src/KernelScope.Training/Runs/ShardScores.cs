using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>
/// A file of scores: <c>scores</c> f64 [sequences, numbers of a sequence], and for each SAE its codes at every position of the padded
/// sequences: <c>sae0/row_ptr</c> i64, <c>sae0/feature</c> i32 and <c>sae0/value</c> f32.
/// </summary>
internal static class ShardScores
{
    /// <summary>Writes a shard's.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    /// <exception cref="ShardConflictException">Somebody made other bytes.</exception>
    public static StoredFile Write(RunFolder folder, RunPlan plan, int shard, IReadOnlyList<SequenceScores> scores)
    {
        int saes = plan.Evaluation!.Saes.Count;
        long[][] starts = [.. Enumerable.Range(0, saes).Select(s => StartsOf(scores, s))];
        using PlacedFile file = PlacedFile.Create(folder.At(RunFolder.Scores(shard)));
        using var writer = new SafetensorsWriter(file.Stream, Tensors(scores.Count, scores[0].Layout, [.. starts.Select(s => s[^1])]),
            new SortedDictionary<string, string>(StringComparer.Ordinal) { ["run"] = plan.Id, ["shard"] = RunFolder.Number(shard) });
        foreach (SequenceScores sequence in scores)
            writer.Append<double>(sequence.Row);
        for (int s = 0; s < saes; s++)
        {
            writer.Append<long>(starts[s]);
            foreach (SequenceScores sequence in scores)
                writer.Append<int>(sequence.Codes[s].Feature.AsSpan(0, sequence.Codes[s].Count));
            foreach (SequenceScores sequence in scores)
                writer.Append<float>(sequence.Codes[s].Value.AsSpan(0, sequence.Codes[s].Count));
        }

        writer.Commit();
        return file.Place();
    }

    /// <summary>Reads a shard's, sequence by sequence; its hash is compared with the manifest's.</summary>
    /// <exception cref="InvalidDataException">The file is missing, damaged, or holds what no evaluation writes.</exception>
    public static IEnumerable<SequenceScores> Read(RunFolder folder, RunPlan plan, ShardManifest manifest, ScoreLayout layout,
        JournalRules rules)
    {
        string path = folder.At(RunFolder.Scores(manifest.Shard));
        int sequences = plan.Shards[manifest.Shard].Sequences, saes = plan.Evaluation!.Saes.Count;
        using SafetensorsFile file = RowShard.OpenFile(path, manifest.Scores!, "scores", trust: false);
        TokenShard.Require(file, "scores", DType.F64, sequences, layout.Size);
        double[] rows = TokenShard.Values<double>(file["scores"]);
        (long[] Start, int[] Feature, float[] Value)[] codes = [.. Enumerable.Range(0, saes)
            .Select(s => CodesOf(file, s, sequences, layout))];
        for (int b = 0; b < sequences; b++)
        {
            var scores = new SequenceScores(layout, saes, []);
            rows.AsSpan(b * layout.Size, layout.Size).CopyTo(scores.Row);
            for (int s = 0; s < saes; s++)
                Copy(codes[s], b * layout.Length, scores.Codes[s], layout.Length);
            if (!rules.Allow(scores))
                throw BadFile.At(path, $"the scores of sequence {b} are none that an evaluation writes.");
            yield return scores;
        }
    }

    private static long[] StartsOf(IReadOnlyList<SequenceScores> scores, int sae)
    {
        var starts = new List<long> { 0 };
        foreach (CodeList codes in scores.Select(s => s.Codes[sae]))
        {
            long first = starts[^1];
            for (int r = 1; r <= codes.Rows; r++)
                starts.Add(first + codes.RowStart[r]);
        }

        return [.. starts];
    }

    private static TensorInfo[] Tensors(int sequences, ScoreLayout layout, long[] active) =>
        [new TensorInfo("scores", DType.F64, [sequences, layout.Size]), .. active.SelectMany((count, s) => (TensorInfo[])[
            new TensorInfo($"sae{s}/row_ptr", DType.I64, [((long)sequences * layout.Length) + 1]),
            new TensorInfo($"sae{s}/feature", DType.I32, [count]), new TensorInfo($"sae{s}/value", DType.F32, [count])])];

    private static (long[] Start, int[] Feature, float[] Value) CodesOf(SafetensorsFile file, int sae, int sequences, ScoreLayout layout)
    {
        TokenShard.Require(file, $"sae{sae}/row_ptr", DType.I64, ((long)sequences * layout.Length) + 1);
        long[] start = TokenShard.Values<long>(file[$"sae{sae}/row_ptr"]);
        TokenShard.Require(file, $"sae{sae}/feature", DType.I32, start[^1]);
        TokenShard.Require(file, $"sae{sae}/value", DType.F32, start[^1]);
        if (start[0] != 0 || start.Zip(start.Skip(1)).Any(pair => pair.First > pair.Second))
            throw BadFile.At(file.Path, $"sae{sae}/row_ptr does not rise from 0.");
        return (start, TokenShard.Values<int>(file[$"sae{sae}/feature"]), TokenShard.Values<float>(file[$"sae{sae}/value"]));
    }

    private static void Copy((long[] Start, int[] Feature, float[] Value) codes, int firstRow, CodeList destination, int rows)
    {
        int first = checked((int)codes.Start[firstRow]), count = checked((int)(codes.Start[firstRow + rows] - first));
        destination.Resize(rows, count);
        for (int r = 0; r <= rows; r++)
            destination.RowStart[r] = checked((int)(codes.Start[firstRow + r] - first));
        codes.Feature.AsSpan(first, count).CopyTo(destination.Feature);
        codes.Value.AsSpan(first, count).CopyTo(destination.Value);
    }
}

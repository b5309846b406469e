using System.Collections.Concurrent;
using KernelScope.Evaluation;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>
/// The features that fire on each row of a run, in bounded memory: a mapped scratch file a shard, with <c>row_ptr</c> i64 [rows + 1] and
/// <c>feature</c> i32.
/// </summary>
/// <remarks>Any number of threads may ask once all shards are added.</remarks>
internal sealed class RowFeatures : IDisposable
{
    private readonly string _scratch;
    private readonly long[] _firing;
    private readonly List<(long FirstRow, SafetensorsFile File)> _parts = [];

    // Counters that are all zero, for those who ask next.
    private readonly ConcurrentBag<long[]> _counters = [];

    public RowFeatures(string path, int features)
    {
        _scratch = Path.Combine(path, WorkerName.Temporary());
        _firing = new long[features];
        OutputPlace.CreateFolder(_scratch);
    }

    /// <summary>Adds a shard.</summary>
    /// <param name="codes">Its codes.</param>
    /// <param name="firstRow">Number of its first row over the run.</param>
    public void Add(CodeShard codes, long firstRow)
    {
        long[] start = new long[codes.Rows + 1];
        var features = new List<int>(codes.Feature.Length);
        for (int r = 0; r < codes.Rows; r++)
        {
            for (long i = codes.RowStart[r]; i < codes.RowStart[r + 1]; i++)
            {
                if (!(codes.Value[i] > 0))
                    continue;
                features.Add(codes.Feature[i]);
                _firing[codes.Feature[i]]++;
            }

            start[r + 1] = features.Count;
        }

        string path = Path.Combine(_scratch, RunFolder.Number(_parts.Count));
        TensorInfo[] tensors =
            [new TensorInfo("row_ptr", DType.I64, [start.Length]), new TensorInfo("feature", DType.I32, [features.Count])];
        using (var writer = new SafetensorsWriter(path, tensors))
        {
            writer.Append<long>(start);
            writer.Append<int>(features.ToArray());
            writer.Commit();
        }

        _parts.Add((firstRow, SafetensorsFile.Open(path)));
    }

    /// <summary>The features that fire most alike with one.</summary>
    /// <param name="feature">Which.</param>
    /// <param name="rows">The rows on which it fires, ascending.</param>
    public RelatedFeature[] CoFiring(int feature, ReadOnlySpan<long> rows)
    {
        if (!_counters.TryTake(out long[]? together))
            together = new long[_firing.Length];
        var others = new List<int>();
        for (int n = 0; n < _parts.Count && rows.Length > 0; n++)
        {
            long end = n + 1 < _parts.Count ? _parts[n + 1].FirstRow : long.MaxValue;
            int here = rows.BinarySearch(end) is int at && at < 0 ? ~at : at;
            Count(_parts[n], rows[..here], together, others);
            rows = rows[here..];
        }

        others.Remove(feature);
        RelatedFeature[] related = FeatureStatistics.CoFiringOf(others, together, _firing, _firing[feature]);
        others.ForEach(f => together[f] = 0);
        together[feature] = 0;
        _counters.Add(together);
        return related;
    }

    public void Dispose()
    {
        _parts.ForEach(p => p.File.Dispose());
        if (Directory.Exists(_scratch))
            Directory.Delete(_scratch, recursive: true);
    }

    private static unsafe void Count((long FirstRow, SafetensorsFile File) part, ReadOnlySpan<long> rows, long[] together, List<int> others)
    {
        if (rows.Length == 0)
            return;
        TensorView starts = part.File["row_ptr"], features = part.File["feature"];
        using TensorView.Reading readingStarts = starts.Read();
        using TensorView.Reading readingFeatures = features.Read();
        var start = new ReadOnlySpan<long>(starts.Pointer, checked((int)starts.ElementCount));
        var active = new ReadOnlySpan<int>(features.Pointer, checked((int)features.ElementCount));
        foreach (long row in rows)
        {
            int r = (int)(row - part.FirstRow);
            foreach (int other in active[(int)start[r]..(int)start[r + 1]])
            {
                if (together[other]++ == 0)
                    others.Add(other);
            }
        }
    }
}

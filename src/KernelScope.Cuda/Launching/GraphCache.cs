using KernelScope.Cuda.Driver;

namespace KernelScope.Cuda.Launching;

/// <summary>Batches that came before, and the graphs of those that came twice.</summary>
/// <remarks>
/// A graph holds addresses. It is replayed only for a batch with the same kernels, grids and parameters bit by bit, so that it does what
/// the launches
/// would have done, even where memory was given back and out again in between.
/// </remarks>
/// <param name="context">Where they run.</param>
/// <param name="warn">Told once if this driver does not make graphs; launches then go one by one.</param>
internal sealed class GraphCache(CudaContext context, Action<string>? warn) : IDisposable
{
    /// <summary>Batches that are remembered; the one used longest ago makes room.</summary>
    private const int Capacity = 32;

    /// <summary>A graph of fewer launches gains nothing.</summary>
    private const int FewestLaunches = 4;

    private readonly List<Entry> _entries = [];
    private readonly List<(nint Executable, long Waits)> _retired = [];
    private long _clock;
    private bool _off;

    /// <summary>Launches the batch as a graph if it came before.</summary>
    /// <returns>False: it is new, or too small; the caller launches it.</returns>
    public bool TryReplay(LaunchBatch batch)
    {
        if (_off || batch.Launches.Length < FewestLaunches)
            return false;
        int hash = Hash(batch);
        Entry? entry = Find(hash, batch);
        if (entry is null)
        {
            Remember(hash, batch);
            return false;
        }

        entry.LastUse = ++_clock;
        if (entry.Executable == 0 && !TryCapture(batch, entry))
            return false;
        batch.Note(context.Launches);
        context.Check(context.Driver.GraphLaunch(entry.Executable, context.Stream), nameof(ICudaDriver.GraphLaunch),
            "a batch that came before");
        return true;
    }

    public void Dispose()
    {
        foreach (Entry entry in _entries)
            Destroy(entry);
        _entries.Clear();
        foreach ((nint executable, _) in _retired)
            _ = context.Driver.GraphExecDestroy(executable);
        _retired.Clear();
    }

    /// <summary>Makes the graph; where the driver does not, no graph is tried again: launches one by one do the same.</summary>
    private bool TryCapture(LaunchBatch batch, Entry entry)
    {
        try
        {
            entry.Executable = Capture(batch);
            return true;
        }
        catch (CudaException e) when (!CudaResults.IsSticky(e.Result))
        {
            if (context.Overlaps)
            {
                // Graphs gain more.
                context.Overlaps = false;
                warn?.Invoke($"Launches do not overlap on {context.Description.Name}, which makes no graph of them: {e.Message}");
                return TryCapture(batch, entry);
            }

            _off = true;
            warn?.Invoke($"CUDA graphs are switched off on {context.Description.Name}: {e.Message}");
            return false;
        }
    }

    private nint Capture(LaunchBatch batch)
    {
        ICudaDriver driver = context.Driver;
        context.Check(driver.StreamBeginCapture(context.Stream), nameof(ICudaDriver.StreamBeginCapture));
        try
        {
            batch.Issue(context, log: null);
        }
        catch (CudaException)
        {
            // A stream that is still captured takes no other work.
            if (driver.StreamEndCapture(context.Stream, out nint incomplete) == CudaResult.Success && incomplete != 0)
                _ = driver.GraphDestroy(incomplete);
            throw;
        }

        context.Check(driver.StreamEndCapture(context.Stream, out nint graph), nameof(ICudaDriver.StreamEndCapture));
        CudaResult result = driver.GraphInstantiate(graph, out nint executable);
        _ = driver.GraphDestroy(graph);
        context.Check(result, nameof(ICudaDriver.GraphInstantiate), "a batch that came before");
        return executable;
    }

    private Entry? Find(int hash, LaunchBatch batch)
    {
        foreach (Entry entry in _entries)
        {
            if (entry.Hash == hash && batch.Launches.SequenceEqual(entry.Launches) && batch.Parameters.SequenceEqual(entry.Parameters))
                return entry;
        }

        return null;
    }

    private void Remember(int hash, LaunchBatch batch)
    {
        if (_entries.Count == Capacity)
        {
            Entry oldest = _entries.MinBy(e => e.LastUse)!;
            if (oldest.Executable != 0)
                Retire(oldest.Executable);
            _entries.Remove(oldest);
        }

        _entries.Add(new Entry(hash, batch.Launches.ToArray(), batch.Parameters.ToArray()) { LastUse = ++_clock });
    }

    /// <summary>Destroys a graph later, when it cannot run any more: new work does not wait for it.</summary>
    private void Retire(nint executable)
    {
        _retired.Add((executable, context.Waits));
        if (_retired.Count > Capacity)
            context.Synchronize();
        for (int n = _retired.Count - 1; n >= 0; n--)
        {
            if (context.Waits > _retired[n].Waits)
            {
                _ = context.Driver.GraphExecDestroy(_retired[n].Executable);
                _retired.RemoveAt(n);
            }
        }
    }

    private void Destroy(Entry entry)
    {
        if (entry.Executable != 0)
            _ = context.Driver.GraphExecDestroy(entry.Executable);
    }

    private static int Hash(LaunchBatch batch)
    {
        var hash = new HashCode();
        hash.AddBytes(batch.Parameters);
        hash.Add(batch.Launches.Length);
        return hash.ToHashCode();
    }

    private sealed class Entry(int hash, Launch[] launches, byte[] parameters)
    {
        public int Hash { get; } = hash;

        public Launch[] Launches { get; } = launches;

        public byte[] Parameters { get; } = parameters;

        public long LastUse { get; set; }

        public nint Executable { get; set; }
    }
}

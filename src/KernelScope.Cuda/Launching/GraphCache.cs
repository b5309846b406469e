using KernelScope.Cuda.Driver;

namespace KernelScope.Cuda.Launching;

/// <summary>Batches that came before, and the graphs of those that came twice.</summary>
/// <remarks>
/// A graph holds addresses. It is replayed only for a batch with the same kernels, grids and parameters bit by bit, so that it does what the launches
/// would have done, even where memory was given back and out again in between.
/// </remarks>
internal sealed class GraphCache(CudaContext context) : IDisposable
{
    /// <summary>Batches that are remembered; the one used longest ago makes room.</summary>
    private const int Capacity = 32;

    /// <summary>A graph of fewer launches gains nothing.</summary>
    private const int FewestLaunches = 4;

    private readonly List<Entry> _entries = [];
    private long _clock;

    /// <summary>Launches the batch as a graph if it came before.</summary>
    /// <returns>False: it is new, or too small; the caller launches it.</returns>
    public bool TryReplay(LaunchBatch batch)
    {
        if (batch.Launches.Length < FewestLaunches)
            return false;
        int hash = Hash(batch);
        Entry? entry = Find(hash, batch);
        if (entry is null)
        {
            Remember(hash, batch);
            return false;
        }

        entry.LastUse = ++_clock;
        if (entry.Executable == 0)
            entry.Executable = Capture(batch);
        context.Check(context.Driver.GraphLaunch(entry.Executable, context.Stream), nameof(ICudaDriver.GraphLaunch), "a batch that came before");
        return true;
    }

    public void Dispose()
    {
        foreach (Entry entry in _entries)
            Destroy(entry);
        _entries.Clear();
    }

    private nint Capture(LaunchBatch batch)
    {
        ICudaDriver driver = context.Driver;
        context.Check(driver.StreamBeginCapture(context.Stream), nameof(ICudaDriver.StreamBeginCapture));
        try
        {
            batch.Issue(context);
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
            context.Synchronize();
            Destroy(oldest);
            _entries.Remove(oldest);
        }

        _entries.Add(new Entry(hash, batch.Launches.ToArray(), batch.Parameters.ToArray()) { LastUse = ++_clock });
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

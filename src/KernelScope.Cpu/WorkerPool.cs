using System.Diagnostics;
using System.Runtime.ExceptionServices;

namespace KernelScope.Cpu;

/// <summary>A few threads that run numbered units of one job at a time. The caller is worker 0 and works too.</summary>
/// <remarks>
/// A job is a function over unit numbers; who runs which unit is left to chance, so a unit must not depend on it: then results do not depend on the number of threads.
/// Each worker has a range of units of its own and takes them in order, so that units which follow each other in memory are one stream; who has none left takes the last of whoever has most.
/// A run allocates nothing and does not wait for a thread that has no unit, so more threads than cores are slow at worst. One run at a time.
/// </remarks>
internal sealed unsafe class WorkerPool : IDisposable
{
    // Between two ops of a forward pass lie microseconds; between two tokens, far less than it takes to wake a thread.
    private const double SpinMicroseconds = 100;

    // Longs from one worker's range to the next: two cache lines, which processors fetch in pairs.
    private const int RangeStride = 16;

    private readonly Thread[] _threads;
    private readonly long[] _ranges; // of each worker: upper half, the next unit of its range; lower half, the range's end
    private readonly object _gate = new();
    private readonly bool _spins;
    private delegate*<void*, int, int, void> _body;
    private void* _arguments;
    private long _ticket; // upper half: number of the job; lower half: its units that nobody has taken yet
    private int _done;
    private int _sleeping;
    private volatile bool _stopped;
    private Exception? _failure;

    /// <summary>Starts <paramref name="workers"/> − 1 threads.</summary>
    public WorkerPool(int workers)
    {
        Workers = workers;
        _ranges = new long[workers * RangeStride];
        _spins = workers <= Environment.ProcessorCount;
        _threads = new Thread[workers - 1];
        for (int n = 0; n < _threads.Length; n++)
        {
            int worker = n + 1;
            _threads[n] = new Thread(() => Serve(worker)) { IsBackground = true, Name = $"cpu worker {worker}" };
            _threads[n].Start();
        }
    }

    /// <summary>Number of workers, the caller included; worker numbers are below it.</summary>
    public int Workers { get; }

    /// <summary>Runs <paramref name="body"/>(arguments, unit, worker) for every unit below <paramref name="units"/> and returns when all are done.</summary>
    /// <remarks>A unit that throws does not stop the others; the first exception is thrown here.</remarks>
    public void Run(delegate*<void*, int, int, void> body, void* arguments, int units)
    {
        ObjectDisposedException.ThrowIf(_stopped, this);
        if (units <= 1 || _threads.Length == 0)
        {
            for (int unit = 0; unit < units; unit++)
                body(arguments, unit, 0);
            return;
        }

        _body = body;
        _arguments = arguments;
        _done = 0;
        for (int worker = 0; worker < Workers; worker++)
            _ranges[worker * RangeStride] = (((long)units * worker / Workers) << 32) | ((long)units * (worker + 1) / Workers);
        long job = (_ticket >> 32) + 1;
        Interlocked.Exchange(ref _ticket, (job << 32) | (uint)units);
        if (Volatile.Read(ref _sleeping) > 0)
        {
            lock (_gate)
                Monitor.PulseAll(_gate);
        }

        Work(0);
        var wait = default(SpinWait);
        while (Volatile.Read(ref _done) != units)
            wait.SpinOnce(sleep1Threshold: -1);
        Rethrow();
    }

    /// <summary>Lets the threads end, without waiting for them. They hold the pool, not its device, so a device that nobody holds can be finalized and stop them.</summary>
    public void Stop()
    {
        _stopped = true;
        lock (_gate)
            Monitor.PulseAll(_gate);
    }

    /// <summary>Stops and joins the threads.</summary>
    public void Dispose()
    {
        Stop();
        foreach (Thread thread in _threads)
            thread.Join();
    }

    private void Serve(int worker)
    {
        while (!_stopped)
        {
            Work(worker);
            AwaitJob();
        }
    }

    /// <summary>Takes units until none is left.</summary>
    /// <remarks>Body, arguments and ranges are read only after a ticket was taken: from then on the job cannot end, so they belong to it.</remarks>
    private void Work(int worker)
    {
        int finished = 0;
        for (long ticket = Volatile.Read(ref _ticket); (uint)ticket != 0; ticket = Volatile.Read(ref _ticket))
        {
            if (Interlocked.CompareExchange(ref _ticket, ticket - 1, ticket) != ticket)
                continue;
            Call(TakeUnit(worker), worker);
            finished++;
        }

        if (finished > 0)
            Interlocked.Add(ref _done, finished);
    }

    /// <summary>The unit for a ticket: the next of the worker's own range, else the last of the longest range. There are as many units as tickets, so there is one.</summary>
    private int TakeUnit(int worker)
    {
        ref long own = ref _ranges[worker * RangeStride];
        for (long range = Volatile.Read(ref own); Left(range) > 0; range = Volatile.Read(ref own))
        {
            if (Interlocked.CompareExchange(ref own, range + (1L << 32), range) == range)
                return (int)(range >> 32);
        }

        while (true)
        {
            int victim = 0;
            for (int other = 1; other < Workers; other++)
            {
                if (Left(Volatile.Read(ref _ranges[other * RangeStride])) > Left(Volatile.Read(ref _ranges[victim * RangeStride])))
                    victim = other;
            }

            ref long theirs = ref _ranges[victim * RangeStride];
            long range = Volatile.Read(ref theirs);
            if (Left(range) > 0 && Interlocked.CompareExchange(ref theirs, range - 1, range) == range)
                return (int)range - 1;
        }
    }

    private static int Left(long range) => (int)range - (int)(range >> 32);

#pragma warning disable CA1031 // Whatever a unit throws belongs to the caller of Run.
    private void Call(int unit, int worker)
    {
        try
        {
            _body(_arguments, unit, worker);
        }
        catch (Exception failure)
        {
            Interlocked.CompareExchange(ref _failure, failure, null);
        }
    }
#pragma warning restore CA1031

    private void AwaitJob()
    {
        long start = Stopwatch.GetTimestamp();
        while (_spins && Stopwatch.GetElapsedTime(start).TotalMicroseconds < SpinMicroseconds)
        {
            if (HasWork)
                return;
            Thread.SpinWait(4);
        }

        lock (_gate)
        {
            // A full fence: either this thread sees the job, or the caller sees this thread asleep and wakes it.
            Interlocked.Increment(ref _sleeping);
            while (!HasWork)
                Monitor.Wait(_gate);
            Interlocked.Decrement(ref _sleeping);
        }
    }

    private bool HasWork => (uint)Volatile.Read(ref _ticket) != 0 || _stopped;

    private void Rethrow()
    {
        if (Interlocked.Exchange(ref _failure, null) is { } failure)
            ExceptionDispatchInfo.Throw(failure);
    }
}

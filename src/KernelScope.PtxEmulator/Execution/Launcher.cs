namespace KernelScope.PtxEmulator.Execution;

/// <summary>
/// Runs the blocks of a launch on one or more host threads. Of several faults the one of the lowest block is thrown: blocks below it run to their
/// end, so which one that is does not depend on the host (which of two racing blocks notices a race does).
/// </summary>
internal sealed class Launcher(LaunchState launch)
{
    private readonly Lock _gate = new();
    private long _next = -1;
    private long _faultBlock = long.MaxValue;
    private Exception? _fault;

    public LaunchResult Run()
    {
        Program program = launch.Kernel.Program;
        int asked = launch.Options.HostThreads > 0 ? launch.Options.HostThreads : Environment.ProcessorCount;
        int threads = program.NeedsBlockOrder ? 1 : (int)Math.Min(asked, launch.Grid.Count);
        int shared = program.DynamicSharedOffset + launch.DynamicSharedBytes;
        var total = new Counter[program.Ops.Length];
        var workers = new Thread[threads - 1];
        for (int i = 0; i < workers.Length; i++)
        {
            workers[i] = new Thread(() => Work(shared, total)) { IsBackground = true };
            workers[i].Start();
        }
        Work(shared, total);
        foreach (Thread worker in workers)
            worker.Join();
        if (_fault is not null)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(_fault);
        return new LaunchResult(Report(program, total), launch.Grid.Count)
        {
            ReadFootprint = launch.Footprint?.ReadBytes
            ?? 0,
            WriteFootprint = launch.Footprint?.WrittenBytes ?? 0
        };
    }

    private void Work(int shared, Counter[] total)
    {
        long block = 0;
        try
        {
            using var runner = new BlockRunner(launch, shared);
            while ((block = Interlocked.Increment(ref _next)) < launch.Grid.Count && block < Volatile.Read(ref _faultBlock))
                runner.Run(block);
            lock (_gate)
                for (int i = 0; i < total.Length; i++)
                    total[i].Add(runner.Counters[i]);
        }
#pragma warning disable CA1031 // Whatever stops a worker must reach the caller's thread.
        catch (Exception fault)
#pragma warning restore CA1031
        {
            lock (_gate)
            {
                if (block >= _faultBlock)
                    return;
                _faultBlock = block;
                _fault = fault;
            }
        }
    }

    /// <summary>Inlined copies of an instruction are one instruction of the text.</summary>
    private static List<InstructionCount> Report(Program program, Counter[] total)
    {
        var merged = new Dictionary<(int Line, string Text), (Op Op, Counter Counter)>();
        // The last one stands for the end of the text.
        for (int i = 0; i < program.Ops.Length - 1; i++)
        {
            Op op = program.Ops[i];
            Counter counter = total[i];
            if (merged.TryGetValue((op.Line, op.Text), out (Op Op, Counter Counter) known))
            {
                counter.Add(known.Counter);
                op = known.Op;
            }
            merged[(op.Line, op.Text)] = (op, counter);
        }
        return [.. merged.Values.OrderBy(m => m.Op.Line).ThenBy(m => m.Op.Index).Select(m => m.Counter.Report(m.Op))];
    }
}

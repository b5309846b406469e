using System.Runtime.InteropServices;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>What is common to all blocks of a launch.</summary>
internal sealed record LaunchState(PtxKernel Kernel, Dim3 Grid, Dim3 BlockSize, int DynamicSharedBytes, byte[] Parameters,
    LaunchOptions Options, GlobalMemory Global,
    GlobalRaces Races, bool ChecksRaces, int MultiprocessorCount, Func<Syntax.PtxVariable, ulong> GlobalAddress)
{
    /// <summary>How <c>mma</c> sums, settled.</summary>
    public required MatrixModel MatrixModel { get; init; }

    /// <summary>The sectors that were touched; null: nobody asks.</summary>
    public Footprint? Footprint { get; } = Options.CountFootprint ? new Footprint(Global.Bytes) : null;
}

/// <summary>Runs blocks, one after the other, on one host thread.</summary>
internal sealed unsafe class BlockRunner : IDisposable
{
    private readonly Program _program;
    private readonly BlockBarriers _barriers;
    private readonly int _localStride;

    public BlockRunner(LaunchState launch, int sharedCapacity)
    {
        Launch = launch;
        _program = launch.Kernel.Program;
        _barriers = new BlockBarriers(this);
        Shared = new SharedMemory(sharedCapacity) { Checked = launch.Options.Checked };
        SharedBytes = sharedCapacity;
        Counters = new Counter[_program.Ops.Length];
        Cache = new Allocation?[_program.Ops.Length];
        ThreadCount = (int)launch.BlockSize.Count;
        _localStride = _program.LocalBytes;
        Local = (byte*)NativeMemory.AllocZeroed((nuint)Math.Max(1, (long)_localStride * ThreadCount));
        Parameters = (byte*)NativeMemory.Alloc((nuint)launch.Parameters.Length + 1);
        launch.Parameters.CopyTo(new Span<byte>(Parameters, launch.Parameters.Length));
        Warps = new Warp[(ThreadCount + 31) / 32];
        LocalWritten = (uint*)NativeMemory.AllocZeroed((nuint)Math.Max(1, (long)_localStride * Warps.Length * sizeof(uint)));
        for (int i = 0; i < Warps.Length; i++)
        {
            Warps[i] = new Warp(this, i, _program);
            BankLayout.FillConstants(Warps[i], launch);
        }
    }

    public LaunchState Launch { get; }

    public SharedMemory Shared { get; }

    public int SharedBytes { get; }

    public Warp[] Warps { get; }

    public Counter[] Counters { get; }

    /// <summary>Per instruction, the buffer that it touched last.</summary>
    public Allocation?[] Cache { get; }

    public int ThreadCount { get; }

    /// <summary>Local frames, one thread's after the other's.</summary>
    public byte* Local { get; private set; }

    /// <summary>For each warp and byte of the frame, the lanes that have written it.</summary>
    public uint* LocalWritten { get; private set; }

    public byte* Parameters { get; private set; }

    public int LocalBytes => _localStride;

    public long BlockNumber { get; private set; }

    public Dim3 Position { get; private set; }

    /// <summary>Warps that have lanes left.</summary>
    public uint LiveWarps { get; private set; }

    public BlockBarriers Barriers => _barriers;

    public void Run(long blockNumber)
    {
        BlockNumber = blockNumber;
        Position = Launch.Grid.At(blockNumber);
        Shared.Start(SharedBytes);
        _barriers.Reset();
        NativeMemory.Clear(LocalWritten, (nuint)((long)_localStride * Warps.Length * sizeof(uint)));
        LiveWarps = (uint)((1UL << Warps.Length) - 1);
        foreach (Warp warp in Warps)
        {
            int lanes = Math.Min(32, ThreadCount - warp.Number * 32);
            warp.Start((uint)((1UL << lanes) - 1));
            BankLayout.FillSpecials(warp, Launch, Position, blockNumber);
        }
        while (LiveWarps != 0)
        {
            bool progress = false;
            foreach (Warp warp in Warps)
            {
                if (warp.Status != WarpStatus.Running)
                    continue;
                progress = true;
                RunWarp(warp);
            }
            if (!progress)
                throw Deadlock();
        }
    }

    public string ThreadName(int thread) => Launch.BlockSize.At(thread).ToString();

    public EmulatorFault Fault(FaultKind kind, Op op, int thread, ulong? address, string what)
    {
        Dim3 position = Launch.BlockSize.At(thread);
        string where = $"{Launch.Kernel.Name} ({Launch.Kernel.ModuleName} line {op.Line}: {op.Text}), block {Position}, thread {position}";
        return new EmulatorFault(kind, Launch.Kernel.Name, op.Line, Position, position, address, where, what);
    }

    public void Dispose()
    {
        foreach (Warp warp in Warps)
            warp.Dispose();
        Shared.Dispose();
        NativeMemory.Free(Local);
        NativeMemory.Free(LocalWritten);
        NativeMemory.Free(Parameters);
        Local = Parameters = null;
        LocalWritten = null;
    }

    private void RunWarp(Warp warp)
    {
        Op[] ops = _program.Ops;
        Counter[] counters = Counters;
        bool checkedRegisters = Launch.Options.Checked;
        long budget = Launch.Options.WarpInstructionBudget;
        while (warp.Status == WarpStatus.Running)
        {
            if (!warp.Settle())
            {
                LiveWarps &= ~(1u << warp.Number);
                _barriers.WarpEnded();
                return;
            }
            Op op = ops[warp.Pc++];
            uint mask = warp.Active;
            if (op.Guard >= 0)
            {
                uint guard = warp.Predicates[op.Guard];
                mask &= op.GuardNegated ? ~guard : guard;
            }
            if (checkedRegisters)
                CheckReads(warp, op, mask);
            if (++warp.Executed > budget)
                throw warp.Fault(FaultKind.InstructionBudget, op, warp.Active, null, $"the warp has executed {budget} instructions, " +
                    "all that the launch allows");
            ref Counter counter = ref counters[op.Index];
            counter.Warps++;
            if (mask == 0)
                continue;
            counter.Threads += System.Numerics.BitOperations.PopCount(mask);
            op.Execute(warp, mask);
            foreach (int register in op.Writes)
                warp.Defined[register] |= mask;
        }
    }

    private static void CheckReads(Warp warp, Op op, uint mask)
    {
        if (op.GuardRegister >= 0)
        {
            uint missing = warp.Active & ~warp.Defined[op.GuardRegister];
            if (missing != 0)
                throw Undefined(warp, op, op.GuardRegister, missing);
        }
        foreach (int register in op.Reads)
        {
            uint missing = mask & ~warp.Defined[register];
            if (missing != 0)
                throw Undefined(warp, op, register, missing);
        }
    }

    private static EmulatorFault Undefined(Warp warp, Op op, int register, uint missing) =>
        warp.Fault(FaultKind.UninitializedRegister, op, missing, null, $"reads register {warp.Program.RegisterNames[register]}, which " +
        "this thread has not written");

    private EmulatorFault Deadlock()
    {
        Warp waiting = Array.Find(Warps, w => w.Status == WarpStatus.Waiting)!;
        var others = Warps.Where(w => w.Status == WarpStatus.Waiting && w.WaitingAt != waiting.WaitingAt).ToList();
        string elsewhere = others.Count > 0
            ? $"other threads wait at line {others[0].WaitingAt!.Line}"
            : $"{Warps.Count(w => w.Status == WarpStatus.Done)} of {Warps.Length} warps have ended and the barrier's thread count " +
            "cannot be reached";
        return waiting.Fault(FaultKind.DivergentBarrier, waiting.WaitingAt!, waiting.Active, null, $"waits for ever: {elsewhere}");
    }
}

using System.Runtime.InteropServices;

namespace KernelScope.PtxEmulator.Execution;

internal enum WarpStatus
{
    Running,
    Waiting,
    Done,
}

/// <summary>
/// 32 threads: their registers, and the stack of paths that they still have to take. The top entry runs; where its counter meets its point of
/// reconvergence it is dropped and the entry below, which holds the lanes of both sides, goes on.
/// </summary>
internal sealed unsafe class Warp : IDisposable
{
    // Every split leaves fewer lanes on the running path and adds at most two entries.
    private readonly Path[] _stack = new Path[72];
    private int _depth;

    public Warp(BlockRunner block, int number, Program program)
    {
        Block = block;
        Number = number;
        Program = program;
        Bank = (byte*)NativeMemory.AlignedAlloc((nuint)Math.Max(64, program.BankBytes), 64);
        NativeMemory.Clear(Bank, (nuint)Math.Max(64, program.BankBytes));
        Predicates = new uint[Math.Max(1, program.PredicateCount)];
        Defined = new uint[Math.Max(1, program.RegisterNames.Count)];
        AsyncCopies = new List<AsyncCopy>[32];
        for (int lane = 0; lane < 32; lane++)
            AsyncCopies[lane] = [];
    }

    private record struct Path(int Pc, int Reconverge, uint Mask, bool Waits = false);

    public BlockRunner Block { get; }

    public int Number { get; }

    public Program Program { get; }

    public byte* Bank { get; private set; }

    public uint[] Predicates { get; }

    /// <summary>For each register, the lanes that have written it.</summary>
    public uint[] Defined { get; }

    /// <summary>Per lane, the asynchronous copies that have not been waited for.</summary>
    public List<AsyncCopy>[] AsyncCopies { get; }

    /// <summary>Per lane, the groups of asynchronous copies committed.</summary>
    public int[] AsyncGroups { get; } = new int[32];

    /// <summary>Lanes that have waited for the launch before.</summary>
    public uint GridWaited { get; set; }

    public WarpStatus Status { get; set; }

    public int Pc { get; set; }

    public int Reconverge { get; private set; }

    /// <summary>Lanes on the running path.</summary>
    public uint Active { get; private set; }

    /// <summary>Lanes that exist and have not exited.</summary>
    public uint Live { get; private set; }

    public long Executed { get; set; }

    /// <summary>Instruction at which the warp waits, for messages and for results of reductions.</summary>
    public Op? WaitingAt { get; set; }

    public void Start(uint lanes)
    {
        _depth = 0;
        Live = Active = lanes;
        Pc = 0;
        Reconverge = -1;
        Executed = 0;
        GridWaited = 0;
        Status = lanes == 0 ? WarpStatus.Done : WarpStatus.Running;
        WaitingAt = null;
        Array.Clear(Defined);
        for (int lane = 0; lane < 32; lane++)
        {
            AsyncCopies[lane].Clear();
            AsyncGroups[lane] = 0;
        }
    }

    public byte* At(Slot slot) => Bank + slot.Offset;

    /// <summary>Drops paths that have reached the point where they meet the others. False when no lane is left.</summary>
    public bool Settle()
    {
        while (Active == 0 || Pc == Reconverge)
        {
            if (_depth == 0)
            {
                Status = WarpStatus.Done;
                return false;
            }
            Path below = _stack[--_depth];
            Pc = below.Pc;
            Reconverge = below.Reconverge;
            Active = below.Mask;
        }
        return true;
    }

    /// <summary>
    /// Splits the running path in two: <paramref name="taken"/> continues at <paramref name="target"/> first, the others where they are; they meet
    /// at <paramref name="meet"/> (-1: only by exiting).
    /// </summary>
    public void Split(uint taken, int target, int meet)
    {
        uint others = Active & ~taken;
        if (meet < 0)
            meet = Reconverge;
        if (meet != Reconverge)
            Push(new Path(meet, Reconverge, Active));
        if (Pc != meet)
            Push(new Path(Pc, meet, others));
        Pc = target;
        Reconverge = meet;
        Active = taken;
    }

    /// <summary>
    /// At an instruction that needs lanes of other paths: runs one of those first, in case it ends by exiting. Only paths that never meet the running
    /// one can be tried. False when there is none left: the lanes will not come.
    /// </summary>
    public bool TryYield(int pc)
    {
        if (Reconverge >= 0)
            return false;
        for (int i = _depth - 1; i >= 0; i--)
        {
            if (_stack[i].Waits || _stack[i].Mask == 0)
                continue;
            Path other = _stack[i];
            _stack[i] = new Path(pc, Reconverge, Active, Waits: true);
            Pc = other.Pc;
            Reconverge = other.Reconverge;
            Active = other.Mask;
            return true;
        }
        return false;
    }

    /// <summary>Ends lanes of the running path.</summary>
    public void Exit(uint lanes)
    {
        Live &= ~lanes;
        Active &= ~lanes;
        for (int i = 0; i < _depth; i++)
            _stack[i].Mask &= ~lanes;
    }

    public EmulatorFault Fault(FaultKind kind, Op op, uint lanes, ulong? address, string what) =>
        Block.Fault(kind, op, Number * 32 + System.Numerics.BitOperations.TrailingZeroCount(lanes), address, what);

    public void Dispose()
    {
        NativeMemory.AlignedFree(Bank);
        Bank = null;
    }

    private void Push(Path path)
    {
        _stack[_depth++] = path;
    }
}

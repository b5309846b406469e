using System.Diagnostics.CodeAnalysis;

namespace KernelScope.PtxEmulator;

/// <summary>What a kernel did wrong.</summary>
public enum FaultKind
{
    /// <summary>An access outside every allocation, of shared memory beyond what the launch has, or of local memory beyond the thread's frame.</summary>
    OutOfBounds,

    /// <summary>An address that is not a multiple of the access's size.</summary>
    Misaligned,

    /// <summary>A read of bytes that nothing wrote.</summary>
    UninitializedMemory,

    /// <summary>A read of a register that nothing wrote in that thread.</summary>
    UninitializedRegister,

    /// <summary>An access to a device buffer after it was freed.</summary>
    UseAfterFree,

    /// <summary>Two threads of a block touched the same byte of shared memory, one writing, with no barrier between.</summary>
    SharedRace,

    /// <summary>Two blocks of a launch touched the same byte of global memory, one writing, not by atomics.</summary>
    GlobalRace,

    /// <summary>Live threads of a block do not all reach the same barrier.</summary>
    DivergentBarrier,

    /// <summary>Shared bytes touched while a <c>cp.async</c> to them has not been waited for.</summary>
    MissingAsyncWait,

    /// <summary>
    /// In a launch that overlaps with the one before, a thread that has not executed <c>griddepcontrol.wait</c> writes memory, reads a buffer that kernels write, or ends.
    /// </summary>
    MissingGridWait,

    /// <summary>A warp-wide instruction executed without all lanes that its mask names, or reading a lane that does not take part.</summary>
    InactiveLane,

    /// <summary>A branch marked <c>.uni</c> on which the lanes of a warp disagree.</summary>
    DivergentUniformBranch,

    /// <summary>A warp executed more instructions than the launch allows.</summary>
    InstructionBudget,

    /// <summary>A launch that does not fit the kernel or the device: block size, shared memory, parameter bytes, target.</summary>
    LaunchContract,

    /// <summary>The kernel executed <c>trap</c> or <c>brkpt</c>, or an operand has no defined meaning (a barrier number above 15).</summary>
    Trap,
}

/// <summary>A fault of an emulated kernel; the message is one sentence that names kernel, PTX line, block, thread and address.</summary>
[SuppressMessage("Naming", "CA1710", Justification = "A fault is what the field calls it, and what a GPU reports.")]
public sealed class EmulatorFault : Exception
{
    internal EmulatorFault(FaultKind kind, string kernel, int line, Dim3? block, Dim3? thread, ulong? address, string where, string what)
        : base($"{where}: {what}.")
    {
        Kind = kind;
        Kernel = kernel;
        Line = line;
        Block = block;
        Thread = thread;
        Address = address;
    }

    /// <summary>What went wrong.</summary>
    public FaultKind Kind { get; }

    /// <summary>Name of the kernel.</summary>
    public string Kernel { get; }

    /// <summary>Line of the PTX text, from 1; of the kernel's head for a launch that is refused.</summary>
    public int Line { get; }

    /// <summary>Position of the block, if a block was running.</summary>
    public Dim3? Block { get; }

    /// <summary>Position of the first thread at fault in its block.</summary>
    public Dim3? Thread { get; }

    /// <summary>The address at fault: of the state space accessed (shared and local addresses are offsets in their own window).</summary>
    public ulong? Address { get; }
}

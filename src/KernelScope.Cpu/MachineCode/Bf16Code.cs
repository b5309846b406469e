using System.Runtime.Intrinsics.X86;

namespace KernelScope.Cpu.MachineCode;

/// <summary>Machine code around <c>vdpbf16ps</c>, for which .NET 10 has no intrinsic, in executable memory.</summary>
internal sealed unsafe class Bf16Code : IDisposable
{
    /// <summary>Columns of a tile: two vectors of 16.</summary>
    public const int Columns = 32;

    /// <summary>Rows of the tall tile: 24 accumulators hide the instruction's latency, and with 12 rows a step loads less than the processor can.</summary>
    public const int TallRows = 12;

    /// <summary>Rows of the tile for what is left.</summary>
    public const int LowRows = 6;

    private readonly ExecutableMemory _memory;
    private readonly int _low;
    private readonly int _loop;

    private Bf16Code(ExecutableMemory memory, int low, int loop) => (_memory, _low, _loop) = (memory, low, loop);

    /// <summary>Whether the processor has AVX512_BF16 and the system keeps its registers (CPUID leaf 7, subleaf 1, EAX bit 5).</summary>
    public static bool IsSupported =>
        Environment.Is64BitProcess && Avx512F.IsSupported && X86Base.CpuId(0, 0).Eax >= 7 && X86Base.CpuId(7, 0).Eax >= 1
        && (X86Base.CpuId(7, 1).Eax & (1 << 5)) != 0;

    /// <summary>Assembles the code; null where the processor lacks the instruction or the system does not let new code run.</summary>
    public static Bf16Code? TryCreate()
    {
        if (!IsSupported)
            return null;
        bool windows = OperatingSystem.IsWindows();
        byte[] tall = Bf16Assembly.Tile(TallRows, windows), low = Bf16Assembly.Tile(LowRows, windows),
            loop = Bf16Assembly.PeakLoop(windows);
        return ExecutableMemory.TryCreate([.. tall, .. low, .. loop]) is { } memory
            ? new Bf16Code(memory, tall.Length, tall.Length + low.Length) : null;
    }

    /// <summary>The tile of <see cref="TallRows"/> or <see cref="LowRows"/> rows. It takes about a microsecond and calls nobody, so the collector may wait for it.</summary>
    public delegate* unmanaged[SuppressGCTransition]<Bf16Tile*, void> Tile(int rows) =>
        (delegate* unmanaged[SuppressGCTransition]<Bf16Tile*, void>)(_memory.Start + (rows == TallRows ? 0 : _low));

    /// <summary>Runs <paramref name="turns"/> times <see cref="Bf16Assembly.LoopProducts"/> instructions that touch registers only.</summary>
    public void RunPeakLoop(long turns) => ((delegate* unmanaged<long, void>)(_memory.Start + _loop))(turns);

    public void Dispose() => _memory.Dispose();
}

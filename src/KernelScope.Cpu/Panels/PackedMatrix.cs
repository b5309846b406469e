using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>A matrix packed into memory of its own (<see cref="PanelLayout"/>), for matrices that no panel file holds.</summary>
/// <remarks>Any number of threads may read it; who disposes it sees to it that none does.</remarks>
internal sealed unsafe class PackedMatrix : IDisposable
{
    private readonly NativeBuffer _memory;
    private readonly NativeBuffer? _table;

    /// <summary>Packs a matrix: bfloat16 into compact panels where that pays.</summary>
    /// <param name="tensor">A matrix of a type that <see cref="PanelLayout.Covers"/>.</param>
    /// <param name="transposed">Whether it is stored [in, out].</param>
    /// <exception cref="ArgumentException">It is not such a matrix.</exception>
    /// <exception cref="InsufficientMemoryException">There is no memory for it.</exception>
    public PackedMatrix(TensorView tensor, bool transposed = false)
    {
        if (tensor.Shape.Length != 2 || !PanelLayout.Covers(tensor.DType)) throw new ArgumentException(
            $"{tensor.Describe()} is not a matrix of F32, BF16 or F16.", nameof(tensor));
        var matrix = StoredMatrix.From(new HostPart(new WeightPart(tensor, transposed), firstRow: 0));
        CompactPlan? plan = CompactPlan.TryCreate(matrix);
        _memory = Allocate(plan?.PanelBytes ?? PanelLayout.Bytes(matrix.DType, matrix.Outputs, matrix.Inputs), tensor);
        _table = plan is null ? null : Allocate(plan.TableBytes, tensor);
        if (_table is null)
            PanelPacker.Pack(matrix, _memory.Pointer);
        else
            CompactPacker.Pack(matrix, plan!.Begin(_table.Pointer), 0, _memory.Pointer);
        View = new PanelView(matrix.DType, matrix.Outputs, matrix.Inputs, _memory.Pointer, this, _table is null ? null
            : (PanelWindow*)_table.Pointer);
    }

    /// <summary>The panels, lent until this is disposed.</summary>
    public PanelView View { get; }

    /// <summary>Bytes of memory.</summary>
    public long ByteLength => _memory.Length + (_table?.Length ?? 0);

    /// <summary>Gives the memory back; <see cref="View"/> must no longer be used.</summary>
    public void Dispose()
    {
        _memory.Dispose();
        _table?.Dispose();
    }

    private static NativeBuffer Allocate(long bytes, TensorView tensor) =>
        NativeBuffer.TryCreate(bytes) ?? throw new InsufficientMemoryException($"{tensor.Describe()}: there are no {bytes} bytes of " +
        "memory to pack it.");
}

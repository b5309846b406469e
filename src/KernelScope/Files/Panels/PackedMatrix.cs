namespace KernelScope.Files;

/// <summary>A matrix packed into memory of its own (<see cref="PanelLayout"/>), for matrices that no panel file holds.</summary>
public sealed unsafe class PackedMatrix : IDisposable
{
    private readonly NativeBuffer _memory;

    /// <summary>Packs a matrix.</summary>
    /// <param name="tensor">A matrix of a type that <see cref="PanelLayout.Covers"/>.</param>
    /// <param name="transposed">Whether it is stored [in, out].</param>
    /// <exception cref="ArgumentException">It is no such matrix.</exception>
    /// <exception cref="InsufficientMemoryException">There is no memory for it.</exception>
    public PackedMatrix(TensorView tensor, bool transposed = false)
    {
        if (tensor.Shape.Length != 2 || !PanelLayout.Covers(tensor.DType)) throw new ArgumentException($"{tensor.Describe()} is no matrix of F32, BF16 or F16.", nameof(tensor));
        int outputs = checked((int)tensor.Shape[transposed ? 1 : 0]), inputs = checked((int)tensor.Shape[transposed ? 0 : 1]);
        long bytes = PanelLayout.Bytes(tensor.DType, outputs, inputs);
        _memory = NativeBuffer.TryCreate(bytes) ?? throw new InsufficientMemoryException($"{tensor.Describe()}: there are no {bytes} bytes of memory to pack it.");
        PanelPacker.Pack(tensor, transposed, _memory.Pointer);
        View = new PanelView(tensor.DType, outputs, inputs, _memory.Pointer, _memory);
    }

    /// <summary>The panels, lent until this is disposed.</summary>
    public PanelView View { get; }

    /// <summary>Bytes of memory.</summary>
    public long ByteLength => _memory.Length;

    /// <summary>Gives the memory back; <see cref="View"/> must no longer be used.</summary>
    public void Dispose() => _memory.Dispose();
}

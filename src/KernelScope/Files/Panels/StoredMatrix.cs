namespace KernelScope.Files;

/// <summary>A matrix of a type that <see cref="PanelLayout.Covers"/>, as it lies in memory before it is packed.</summary>
internal readonly unsafe struct StoredMatrix
{
    private readonly byte* _first;
    private readonly bool _inputsFirst;

    /// <summary>A matrix [out, in] at some address, or [in, out] if <paramref name="inputsFirst"/>.</summary>
    public StoredMatrix(DType type, byte* first, int outputs, int inputs, bool inputsFirst)
    {
        Type = type;
        _first = first;
        Outputs = outputs;
        Inputs = inputs;
        _inputsFirst = inputsFirst;
    }

    public DType Type { get; }

    public int Outputs { get; }

    public int Inputs { get; }

    public int Panels => (int)PanelLayout.PanelCount(Outputs);

    // Bytes from an output to the next, and from an input to the next.
    private long OutputStride => Type.ByteSize() * (_inputsFirst ? 1L : Inputs);

    private long InputStride => Type.ByteSize() * (_inputsFirst ? Outputs : 1L);

    /// <summary>A tensor [out, in], or [in, out] if <paramref name="transposed"/>.</summary>
    public static StoredMatrix Of(TensorView tensor, bool transposed) =>
        new(tensor.DType, tensor.Pointer, checked((int)tensor.Shape[transposed ? 1 : 0]), checked((int)tensor.Shape[transposed ? 0 : 1]), transposed ^ tensor.ColumnMajor);

    /// <summary>Outputs of a panel that there are.</summary>
    public int OutputsOf(int panel) => Math.Min(PanelLayout.Outputs, Outputs - (panel * PanelLayout.Outputs));

    /// <summary>Packs a panel in the plain layout of its type.</summary>
    public void Pack(int panel, byte* destination) =>
        PanelPacker.PackPanel(Type, PanelStart(panel), OutputStride, InputStride, OutputsOf(panel), Inputs, destination);

    /// <summary>Counts the biased exponents of a panel of bfloat16; 256 counts, zeros before.</summary>
    public void CountExponents(int panel, Span<int> counts)
    {
        Span<int> others = stackalloc int[256];
        others.Clear();
        int runs = _inputsFirst ? Inputs : OutputsOf(panel), length = _inputsFirst ? OutputsOf(panel) : Inputs;
        long stride = _inputsFirst ? InputStride : OutputStride;
        for (int r = 0; r < runs; r++)
            CompactPacker.CountExponents((ushort*)(PanelStart(panel) + (r * stride)), length, counts, others);
        for (int e = 0; e < others.Length; e++)
            counts[e] += others[e];
    }

    private byte* PanelStart(int panel) => _first + (panel * PanelLayout.Outputs * OutputStride);
}

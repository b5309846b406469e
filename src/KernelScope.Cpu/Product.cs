using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cpu;

/// <summary>A stored matrix of a weight, as kernels see it.</summary>
internal unsafe struct StoredPart
{
    /// <summary>The first stored element.</summary>
    public byte* Pointer;

    /// <summary>Type of the elements.</summary>
    public DType DType;

    /// <summary>The weight's output to which row 0 belongs.</summary>
    public int FirstOutput;

    /// <summary>Number of outputs.</summary>
    public int Outputs;

    /// <summary>Whether it is stored [in, out].</summary>
    public bool Transposed;

    /// <summary>The same values in panels (<see cref="PanelLayout"/>), which products read instead; null where there are none.</summary>
    public byte* Panels;

    /// <summary>What lies beside compact panels (<see cref="CompactTable"/>); null where the panels are others.</summary>
    public PanelWindow* Windows;

    /// <summary>The checksums that the panels must have, to be compared as they are read; null where they were.</summary>
    public uint* Checksums;

    /// <summary>One more than the number of a panel whose checksum is another; 0 where none was found.</summary>
    public int Damaged;

    /// <summary>The table, to be read.</summary>
    public readonly CompactTable Table => new(Windows, (int)PanelLayout.PanelCount(Outputs));

    /// <summary>Bytes of one panel.</summary>
    public readonly long PanelBytes(int inputs) => PanelLayout.PanelBytes(DType, inputs, compact: Windows != null);
}

/// <summary>x·Wᵀ with everything that a unit of work needs to compute a range of outputs for all rows.</summary>
internal unsafe struct Product
{
    /// <summary>The rows of x, <see cref="XStride"/> apart.</summary>
    public float* X;

    public long XStride;

    /// <summary>Number of rows of x.</summary>
    public int Rows;

    /// <summary>Number of inputs.</summary>
    public int Inputs;

    /// <summary>Number of outputs.</summary>
    public int Outputs;

    /// <summary>x in row panels (<see cref="ProductKernel{S, V}.PackX"/>), or null where kernels read x itself.</summary>
    public float* PackedX;

    /// <summary>Whether weights are rounded to bfloat16 as they are read; x was.</summary>
    public bool RoundsWeights;

    /// <summary>The machine code for pairs of bfloat16, if that is what computes: then <see cref="PackedX"/> holds pairs.</summary>
    public Bf16Tiles Bf16;

    /// <summary>The weight's stored matrices.</summary>
    public StoredPart* Parts;

    public int PartCount;

    /// <summary>Memory of each worker, <see cref="ScratchStride"/> values apart: first a weight panel, then what the op asked for.</summary>
    public float* Scratch;

    public long ScratchStride;

    /// <summary>Outputs of one unit of work.</summary>
    public int UnitOutputs;

    /// <summary>Outputs of which a worker packs the weights at once.</summary>
    public int PanelOutputs;

    /// <summary>Inputs of which a worker packs the weights at once.</summary>
    public int PanelInputs;

    /// <summary>Whether the product is added to the destination; by panels only.</summary>
    public bool Adds;

    /// <summary>Whether the panel memory is two panels of <see cref="AheadKernel{S, V}"/>, for parts that are stored [in, out].</summary>
    public bool CopiesAhead;

    /// <summary>Number of rows of <see cref="PackedX"/>: whole tiles.</summary>
    public int PaddedRows;

    /// <summary>
    /// The packed rows from <paramref name="row"/> on (the first of a tile) for <paramref name="depth"/> inputs. All rows' values for the inputs of one weight panel
    /// follow each other, so that a pass over a panel reads one stream.
    /// </summary>
    public readonly float* PackedRows(int row, int firstInput, int depth) => PackedX + ((long)firstInput * PaddedRows) + ((long)row * depth);

    /// <summary>The memory of a worker that is the op's own.</summary>
    public readonly float* OwnScratch(int worker) => Scratch + (worker * ScratchStride) + ((long)PanelOutputs * PanelInputs);
}

/// <summary>Ranges of outputs of x·Wᵀ, for any mixture of stored matrices: what every op with a weight matrix is built on.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[first + j, i], in float32, in an order that depends on shapes and storage alone.
/// Few rows: <see cref="DotKernel{S, V}"/> (stored [out, in]) or <see cref="AxpyKernel{S, V}"/> (one row) and <see cref="StripKernel{S, V}"/> (stored [in, out]), each weight read once from memory.
/// Tens of rows: <see cref="AheadKernel{S, V}"/> (stored [in, out]). Many rows: <see cref="PanelKernel{S, V}"/> over packed panels. A weight that is stored packed: <see cref="PanelDot{S, V}"/> and <see cref="PanelKernel{S, V}.Packed"/>.
/// In <see cref="Precision.Fast"/> x and W are rounded to bfloat16 first, and many rows take <see cref="Bf16PanelKernel{S, V}"/> where the processor multiplies bfloat16.
/// </remarks>
internal static unsafe class ProductKernel<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>Computes outputs <paramref name="first"/> … of all rows into <paramref name="y"/>, whose rows are <paramref name="stride"/> apart.</summary>
    public static void Range(Product* product, int worker, int first, int count, float* y, long stride)
    {
        int end = first + count;
        for (int p = 0; p < product->PartCount; p++)
        {
            StoredPart* part = product->Parts + p;
            int from = Math.Max(first, part->FirstOutput);
            int to = Math.Min(end, part->FirstOutput + part->Outputs);
            if (from < to)
                OfPart(product, part, worker, from - part->FirstOutput, to - from, y + (from - first), stride);
        }
    }

    private static void OfPart(Product* product, StoredPart* part, int worker, int first, int count, float* y, long stride)
    {
        if (part->Panels != null)
        {
            if (part->Checksums != null)
                Compare(part, product->Inputs, first, count);
            OfPanels(product, part, worker, first, count, y, stride);
            return;
        }

        switch (part->DType)
        {
            case DType.F32 when product->RoundsWeights:
                OfType<Rounded<ElementF32>>(product, part, worker, first, count, y, stride);
                break;
            case DType.F16 when product->RoundsWeights:
                OfType<Rounded<ElementF16>>(product, part, worker, first, count, y, stride);
                break;
            case DType.F64 when product->RoundsWeights:
                OfType<Rounded<ElementF64>>(product, part, worker, first, count, y, stride);
                break;
            case DType.F32:
                OfType<ElementF32>(product, part, worker, first, count, y, stride);
                break;
            case DType.BF16:
                OfType<ElementBf16>(product, part, worker, first, count, y, stride);
                break;
            case DType.F16:
                OfType<ElementF16>(product, part, worker, first, count, y, stride);
                break;
            default:
                OfType<ElementF64>(product, part, worker, first, count, y, stride);
                break;
        }
    }

    /// <summary>Compares the panels of some outputs just before they are multiplied: they come from memory once, the product finds them in the cache.</summary>
    private static void Compare(StoredPart* part, int inputs, int first, int count)
    {
        long bytes = part->PanelBytes(inputs);
        for (int p = first / PanelLayout.Outputs; p * PanelLayout.Outputs < first + count; p++)
        {
            if (PanelChecksum.Of(new ReadOnlySpan<byte>(part->Panels + (p * bytes), checked((int)bytes))) != part->Checksums[p])
                Volatile.Write(ref part->Damaged, p + 1);
        }
    }

    private static void OfPanels(Product* product, StoredPart* part, int worker, int first, int count, float* y, long stride)
    {
        switch (part->DType)
        {
            case DType.F32 when product->RoundsWeights:
                OfPanels<RoundedPanel<PanelF32>>(product, part, worker, first, count, y, stride);
                break;
            case DType.F16 when product->RoundsWeights:
                OfPanels<RoundedPanel<PanelF16>>(product, part, worker, first, count, y, stride);
                break;
            case DType.F32:
                OfPanels<PanelF32>(product, part, worker, first, count, y, stride);
                break;
            case DType.BF16 when part->Windows != null:
                OfPanels<PanelCompact>(product, part, worker, first, count, y, stride);
                break;
            case DType.BF16:
                OfPanels<PanelBf16>(product, part, worker, first, count, y, stride);
                break;
            default:
                OfPanels<PanelF16>(product, part, worker, first, count, y, stride);
                break;
        }
    }

    private static void OfPanels<E>(Product* product, StoredPart* part, int worker, int first, int count, float* y, long stride)
        where E : struct, IPanelElement
    {
        if (product->Bf16.Exist)
            Bf16PanelKernel<S, V>.Packed<E>(product, part, worker, first, count, y, stride);
        else if (product->PackedX != null)
            PanelKernel<S, V>.Packed<E>(product, part, worker, first, count, y, stride);
        else
            PanelDot<S, V>.Range<E>(product, part, first, count, y, stride);
    }

    private static void OfType<E>(Product* product, StoredPart* part, int worker, int first, int count, float* y, long stride)
        where E : struct, IElement
    {
        if (product->Bf16.Exist)
            Bf16PanelKernel<S, V>.Range<E>(product, part, worker, first, count, y, stride);
        else if (product->PackedX != null)
            PanelKernel<S, V>.Range<E>(product, part, worker, first, count, y, stride);
        else if (part->Transposed && product->CopiesAhead)
            AheadKernel<S, V>.Range<E>(product, part, worker, first, count, y, stride);
        else if (part->Transposed && product->Rows > 1)
            StripKernel<S, V>.Range<E>(product, part, first, count, y, stride);
        else if (part->Transposed)
            AxpyKernel<S, V>.Range<E>(product, part, first, count, y, stride);
        else
            DotKernel<S, V>.Range<E>(product, part, first, count, y, stride);
    }

    /// <summary>Packs one row panel of x: the values of its rows side by side for each input, zero where the panel has more rows than x.</summary>
    public static void PackX(void* argument, int panel, int worker)
    {
        var product = (Product*)argument;
        int first = panel * S.TileRows;
        int rows = Math.Min(S.TileRows, product->Rows - first);
        float* x = product->X + (first * product->XStride);
        for (int i = 0; i < product->Inputs; i += product->PanelInputs)
        {
            int depth = Math.Min(product->PanelInputs, product->Inputs - i);
            RegisterTile<S, V>.PackRows(x + i, product->XStride, rows, depth, product->PackedRows(first, i, depth));
        }
    }
}

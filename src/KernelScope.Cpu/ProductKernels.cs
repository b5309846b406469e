using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cpu;

/// <summary>Ranges of outputs of x·Wᵀ, for any mixture of stored matrices: what every op with a weight matrix is built on.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[first + j, i], in float32, in an order that depends on the storage alone, whichever kernel multiplies (<see cref="ProductPlan"/>): a row's bits do not depend on the rows beside it.
/// In <see cref="Precision.Fast"/> x and W are rounded to bfloat16 where <see cref="ProductKernel.Bf16Tiles"/> multiply.
/// </remarks>
internal static unsafe class ProductKernels<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    /// <summary>Computes outputs <paramref name="first"/> … of all rows into <paramref name="y"/>, whose rows are <paramref name="stride"/> apart.</summary>
    public static void Range(Product* product, int worker, int first, int count, float* y, long stride)
    {
        int end = first + count;
        for (int p = 0; p < product->PartCount; p++)
        {
            StoredMatrix* part = product->Parts + p;
            int from = Math.Max(first, part->FirstOutput);
            int to = Math.Min(end, part->FirstOutput + part->Outputs);
            if (from < to)
                OfPart(product, part, worker, from - part->FirstOutput, to - from, y + (from - first), stride);
        }
    }

    private static void OfPart(Product* product, StoredMatrix* part, int worker, int first, int count, float* y, long stride)
    {
        if (part->Form == StoredForms.InPanels)
        {
            if (part->Checksums != null)
                Compare(part, first, count);
            OfPanels(product, part, worker, first, count, y, stride);
            return;
        }

        switch (part->DType)
        {
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
    private static void Compare(StoredMatrix* part, int first, int count)
    {
        long bytes = part->PanelBytes;
        for (int p = first / PanelLayout.Outputs; p * PanelLayout.Outputs < first + count; p++)
        {
            if (PanelChecksum.Of(new ReadOnlySpan<byte>(part->Panels + (p * bytes), checked((int)bytes))) != part->Checksums[p])
                Volatile.Write(ref part->Damaged, p + 1);
        }
    }

    private static void OfPanels(Product* product, StoredMatrix* part, int worker, int first, int count, float* y, long stride)
    {
        switch (part->DType)
        {
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

    private static void OfPanels<E>(Product* product, StoredMatrix* part, int worker, int first, int count, float* y, long stride)
        where E : struct, IPanelElement
    {
        switch (product->Plan[StoredForms.InPanels])
        {
            case ProductKernel.Bf16Tiles:
                TileProduct<Bf16Blocks<S, V>>.Packed<E>(product, part, worker, first, count, y, stride);
                break;
            case ProductKernel.Tiles:
                TileProduct<FloatBlocks<S, V>>.Packed<E>(product, part, worker, first, count, y, stride);
                break;
            default:
                PanelDot<S, V>.Range<E>(product, part, (uint*)Panel(product, worker), first, count, y, stride);
                break;
        }
    }

    private static void OfType<E>(Product* product, StoredMatrix* part, int worker, int first, int count, float* y, long stride)
        where E : struct, IElement
    {
        switch (product->Plan[part->Form])
        {
            case ProductKernel.Bf16Tiles:
                TileProduct<Bf16Blocks<S, V>>.Range<E>(product, part, worker, first, count, y, stride);
                break;
            case ProductKernel.Tiles:
                TileProduct<FloatBlocks<S, V>>.Range<E>(product, part, worker, first, count, y, stride);
                break;
            case ProductKernel.CopyAhead:
                AheadKernel<S, V>.Range<E>(product, part, worker, first, count, y, stride);
                break;
            case ProductKernel.Strip:
                StripKernel<S, V>.Range<E>(product, part, first, count, y, stride);
                break;
            case ProductKernel.Axpy:
                AxpyKernel<S, V>.Range<E>(product, part, first, count, y, stride);
                break;
            default:
                TransposeKernel<S, V>.Range<E>(product, part, Panel(product, worker), first, count, y, stride);
                break;
        }
    }

    /// <summary>A worker's memory for a panel of weights.</summary>
    private static float* Panel(Product* product, int worker) => product->Scratch + (worker * product->ScratchStride);
}

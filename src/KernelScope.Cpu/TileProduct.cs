using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>What the blocks of weights hold that register tiles pass over, in words of 32 bits: float32 values, or pairs of bfloat16.</summary>
internal unsafe interface IBlockFormat
{
    /// <summary>Rows of a packed panel of x.</summary>
    static abstract int TileRows { get; }

    /// <summary>Outputs of a panel of a block.</summary>
    static abstract int Columns { get; }

    /// <summary>Words that hold an output's values for so many inputs.</summary>
    static abstract int Words(int depth);

    /// <summary>Packs rows of x, at most <see cref="TileRows"/>; rows that are missing in the tile are zeros.</summary>
    static abstract void PackRows(float* x, long stride, int rows, int depth, float* packed);

    /// <summary>Packs a block of stored weights.</summary>
    /// <param name="product">The product.</param>
    /// <param name="part">The stored matrix.</param>
    /// <param name="first">The first output.</param>
    /// <param name="width">Number of outputs.</param>
    /// <param name="firstInput">The first input.</param>
    /// <param name="depth">Number of inputs.</param>
    /// <param name="block">Receives panels of <see cref="Columns"/> outputs; as large as the product's blocks are.</param>
    static abstract void Pack<E>(Product* product, StoredMatrix* part, int first, int width, int firstInput, int depth, float* block)
        where E : struct, IElement;

    /// <summary>Whether stored panels of a type are a block as they are.</summary>
    static abstract bool TakesPanels<E>()
        where E : struct, IPanelElement;

    /// <summary>Turns stored panels into a block of panels of <see cref="PanelLayout.Outputs"/> outputs.</summary>
    /// <param name="part">The stored matrix.</param>
    /// <param name="firstPanel">The first panel.</param>
    /// <param name="panels">Where its first input of the block is.</param>
    /// <param name="width">Number of outputs.</param>
    /// <param name="firstInput">The first input.</param>
    /// <param name="depth">Number of inputs.</param>
    /// <param name="block">Receives the block.</param>
    static abstract void Expand<E>(StoredMatrix* part, int firstPanel, byte* panels, int width, int firstInput, int depth, float* block)
        where E : struct, IPanelElement;

    /// <summary>All rows of x over a block of weights.</summary>
    /// <param name="product">The product.</param>
    /// <param name="block">Panels of <paramref name="panelWidth"/> outputs, <paramref name="panelStep"/> words apart.</param>
    /// <param name="panelStep">See <paramref name="block"/>.</param>
    /// <param name="panelWidth">See <paramref name="block"/>.</param>
    /// <param name="skip">Outputs at the block's beginning that are not wanted, fewer than a panel has.</param>
    /// <param name="width">Outputs up to the last that is wanted.</param>
    /// <param name="firstInput">The input at which the block begins.</param>
    /// <param name="depth">Its number of inputs.</param>
    /// <param name="y">Receives the first output that is wanted.</param>
    /// <param name="stride">Distance of rows of y.</param>
    /// <param name="next">What will be read next.</param>
    static abstract void OverRows(Product* product, float* block, long panelStep, int panelWidth, int skip, int width, int firstInput,
        int depth, float* y, long stride, ref Prefetch next);
}

/// <summary>Many rows of x against any stored matrix, by register tiles over blocks of packed weights.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[j, i]. A worker packs a block of weights (<see cref="Product.PanelOutputs"/> by <see cref="Product.PanelInputs"/>) into memory of its own
/// that fits the second-level cache, and runs all packed rows of x over it; a weight that is stored in panels is widened in order, or used in place. Bytes: each weight once from memory; flops: 2·rows·in·out.
/// </remarks>
internal static unsafe class TileProduct<F>
    where F : struct, IBlockFormat
{
    /// <summary>Packs one row panel of x: the values of its rows side by side for each input, or pair of inputs.</summary>
    public static void PackX(void* argument, int panel, int worker)
    {
        var product = (Product*)argument;
        int first = panel * F.TileRows;
        int rows = Math.Min(F.TileRows, product->Rows - first);
        float* x = product->X + (first * product->XStride);
        for (int i = 0; i < product->Inputs; i += product->PanelInputs)
        {
            int depth = Math.Min(product->PanelInputs, product->Inputs - i);
            F.PackRows(x + i, product->XStride, rows, depth, product->PackedRows(first, F.Words(i), F.Words(depth)));
        }
    }

    /// <summary>From rows as they are stored, in either order.</summary>
    public static void Range<E>(Product* product, StoredMatrix* part, int worker, int first, int count, float* y, long stride)
        where E : struct, IElement
    {
        float* block = product->Scratch + (worker * product->ScratchStride);
        for (int j = 0; j < count; j += product->PanelOutputs)
        {
            int width = Math.Min(product->PanelOutputs, count - j);
            for (int i = 0; i < product->Inputs; i += product->PanelInputs)
            {
                int depth = Math.Min(product->PanelInputs, product->Inputs - i);
                F.Pack<E>(product, part, first + j, width, i, depth, block);
                bool lastOfOutputs = i + depth == product->Inputs;
                Prefetch next = lastOfOutputs && j + width == count
                    ? default
                    : Next<E>(product, part, first + (lastOfOutputs ? j + width : j), lastOfOutputs ? 0 : i + depth);
                F.OverRows(product, block, (long)F.Columns * F.Words(depth), F.Columns, 0, width, i, depth, y + j, stride, ref next);
            }
        }
    }

    /// <summary>From panels as they are stored (<see cref="PanelLayout"/>).</summary>
    public static void Packed<E>(Product* product, StoredMatrix* part, int worker, int first, int count, float* y, long stride)
        where E : struct, IPanelElement
    {
        bool inPlace = F.TakesPanels<E>();
        float* own = product->Scratch + (worker * product->ScratchStride);
        long panelBytes = part->PanelBytes;
        int end = first + count;
        // A block begins with a panel; the outputs of its first panel that lie before the range are skipped.
        for (int j = first / PanelLayout.Outputs * PanelLayout.Outputs; j < end; j += product->PanelOutputs)
        {
            int skip = Math.Max(first - j, 0), width = Math.Min(product->PanelOutputs, end - j);
            byte* panels = part->Panels + (j / PanelLayout.Outputs * panelBytes);
            for (int i = 0; i < product->Inputs; i += product->PanelInputs)
            {
                int depth = Math.Min(product->PanelInputs, product->Inputs - i);
                byte* stored = panels + ((long)(i / E.GroupInputs) * E.GroupBytes);
                if (!inPlace)
                    F.Expand<E>(part, j / PanelLayout.Outputs, stored, width, i, depth, own);
                float* block = inPlace ? (float*)stored : own;
                long step = inPlace ? panelBytes / sizeof(float) : (long)PanelLayout.Outputs * F.Words(depth);
                Prefetch next = NextPacked<E>(product, panels, panelBytes, i + depth, end - j);
                F.OverRows(product, block, step, PanelLayout.Outputs, skip, width, i, depth, y + (j + skip - first), stride, ref next);
            }
        }
    }

    /// <summary>The stored weights of a panel, to prefetch while another is worked on.</summary>
    private static Prefetch Next<E>(Product* product, StoredMatrix* part, int firstOutput, int firstInput)
        where E : struct, IElement
    {
        int outputs = Math.Min(product->PanelOutputs, part->Outputs - firstOutput);
        int inputs = Math.Min(product->PanelInputs, product->Inputs - firstInput);
        return part->Transposed
            ? new Prefetch(part->Pointer + ((((long)firstInput * part->Outputs) + firstOutput) * E.Size), (long)part->Outputs * E.Size,
            outputs * E.Size, inputs)
            : new Prefetch(part->Pointer + ((((long)firstOutput * product->Inputs) + firstInput) * E.Size), (long)product->Inputs * E.Size,
            inputs * E.Size, outputs);
    }

    /// <summary>The same of panels, <paramref name="outputs"/> of which begin at <paramref name="panels"/>.</summary>
    private static Prefetch NextPacked<E>(Product* product, byte* panels, long panelBytes, int firstInput, int outputs)
        where E : struct, IPanelElement
    {
        if (firstInput == product->Inputs)
        {
            panels += product->PanelOutputs / PanelLayout.Outputs * panelBytes;
            outputs -= product->PanelOutputs;
            firstInput = 0;
        }

        if (outputs <= 0)
            return default;
        int inputs = Math.Min(product->PanelInputs, product->Inputs - firstInput);
        int count = (int)PanelLayout.PanelCount(Math.Min(outputs, product->PanelOutputs));
        return new Prefetch(panels + ((long)(firstInput / E.GroupInputs) * E.GroupBytes), panelBytes,
            (inputs + E.GroupInputs - 1) / E.GroupInputs * E.GroupBytes, count);
    }
}

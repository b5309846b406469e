using System.Runtime.CompilerServices;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Many rows of x against any stored matrix, by register tiles over packed panels.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[j, i]. A worker widens a panel of weights (<see cref="Product.PanelOutputs"/> by <see cref="Product.PanelInputs"/>) into memory of its own
/// that fits the second-level cache, and runs all packed rows of x over it; a weight that is stored in panels is widened in order, or used in place. Bytes: each weight once from memory; flops: 2·rows·in·out.
/// </remarks>
internal static unsafe class PanelKernel<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
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

    public static void Range<E>(Product* product, StoredMatrix* part, int worker, int first, int count, float* y, long stride)
        where E : struct, IElement
    {
        float* panel = product->Scratch + (worker * product->ScratchStride);
        for (int j = 0; j < count; j += product->PanelOutputs)
        {
            int width = Math.Min(product->PanelOutputs, count - j);
            for (int i = 0; i < product->Inputs; i += product->PanelInputs)
            {
                int depth = Math.Min(product->PanelInputs, product->Inputs - i);
                if (part->Transposed)
                    PackTransposed<E>(part, first + j, width, i, depth, panel);
                else
                    PackPlain<E>(part, product->Inputs, first + j, width, i, depth, panel);
                bool lastOfOutputs = i + depth == product->Inputs;
                Prefetch next = lastOfOutputs && j + width == count
                    ? default
                    : Next<E>(product, part, first + (lastOfOutputs ? j + width : j), lastOfOutputs ? 0 : i + depth);
                OverRows(product, panel, (long)RegisterTile<S, V>.Columns * depth, RegisterTile<S, V>.Columns, 0, width, i, depth, y + j, stride, ref next);
            }
        }
    }

    /// <summary>From panels as they are stored (<see cref="PanelLayout"/>): float32 where it lies, two-byte types widened into the worker's memory.</summary>
    public static void Packed<E>(Product* product, StoredMatrix* part, int worker, int first, int count, float* y, long stride)
        where E : struct, IPanelElement
    {
        float* wide = product->Scratch + (worker * product->ScratchStride);
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
                byte* block = panels + ((long)(i / E.GroupInputs) * E.GroupBytes);
                if (!E.IsWide)
                    Widen<E>(part, j / PanelLayout.Outputs, block, panelBytes, width, i, depth, wide);
                float* panel = E.IsWide ? (float*)block : wide;
                long step = E.IsWide ? panelBytes / sizeof(float) : (long)PanelLayout.Outputs * depth;
                Prefetch next = NextPacked<E>(product, panels, panelBytes, i + depth, end - j);
                OverRows(product, panel, step, PanelLayout.Outputs, skip, width, i, depth, y + (j + skip - first), stride, ref next);
            }
        }
    }

    /// <summary>The same of panels, <paramref name="outputs"/> of which begin at <paramref name="panels"/>.</summary>
    public static Prefetch NextPacked<E>(Product* product, byte* panels, long panelBytes, int firstInput, int outputs)
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
        return new Prefetch(panels + ((long)(firstInput / E.GroupInputs) * E.GroupBytes), panelBytes, (inputs + E.GroupInputs - 1) / E.GroupInputs * E.GroupBytes, count);
    }

    private static void Widen<E>(StoredMatrix* part, int firstPanel, byte* panels, long panelBytes, int width, int firstInput, int depth, float* wide)
        where E : struct, IPanelElement
    {
        for (int p = firstPanel; width > 0; p++, width -= PanelLayout.Outputs)
        {
            WidenPanel<E>(panels, depth, E.HasWindow ? part->Windows[p].Scale : 1, wide);
            if (E.HasWindow)
            {
                foreach (PanelException e in part->Table.ExceptionsOf(p, firstInput, depth))
                    wide[((e.Input - firstInput) * PanelLayout.Outputs) + e.Output] = e.Value;
            }

            panels += panelBytes;
            wide += (long)PanelLayout.Outputs * depth;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenPanel<E>(byte* panel, int depth, float scale, float* wide)
        where E : struct, IPanelElement
    {
        for (int i = 0; i < depth; i += E.GroupInputs, panel += E.GroupBytes)
        {
            int pairs = Math.Min(E.GroupInputs, depth - i) / 2;
            for (int pair = 0; pair < pairs; pair++, wide += 2 * PanelLayout.Outputs)
            {
                for (int j = 0; j < PanelLayout.Outputs; j += S.Lanes)
                {
                    E.Pair<S, V>(panel + (j * sizeof(float)), pair, out V even, out V odd);
                    S.Store(E.HasWindow ? S.Multiply(even, S.All(scale)) : even, wide + j);
                    S.Store(E.HasWindow ? S.Multiply(odd, S.All(scale)) : odd, wide + PanelLayout.Outputs + j);
                }
            }

            for (int j = 0; (depth - i) % 2 != 0 && i + E.GroupInputs >= depth && j < PanelLayout.Outputs; j += S.Lanes)
            {
                V last = E.Single<S, V>(panel + (j * sizeof(float)), pairs);
                S.Store(E.HasWindow ? S.Multiply(last, S.All(scale)) : last, wide + j);
            }
        }
    }

    /// <summary>The stored weights of a panel, to be asked for while another is worked on.</summary>
    public static Prefetch Next<E>(Product* product, StoredMatrix* part, int firstOutput, int firstInput)
        where E : struct, IElement
    {
        int outputs = Math.Min(product->PanelOutputs, part->Outputs - firstOutput);
        int inputs = Math.Min(product->PanelInputs, product->Inputs - firstInput);
        return part->Transposed
            ? new Prefetch(part->Pointer + ((((long)firstInput * part->Outputs) + firstOutput) * E.Size), (long)part->Outputs * E.Size, outputs * E.Size, inputs)
            : new Prefetch(part->Pointer + ((((long)firstOutput * product->Inputs) + firstInput) * E.Size), (long)product->Inputs * E.Size, inputs * E.Size, outputs);
    }

    /// <summary>All rows of x over a block of weights.</summary>
    /// <param name="product">The product.</param>
    /// <param name="panel">The block: panels of <paramref name="panelWidth"/> outputs, <paramref name="panelStep"/> values apart.</param>
    /// <param name="panelStep">See <paramref name="panel"/>.</param>
    /// <param name="panelWidth">See <paramref name="panel"/>.</param>
    /// <param name="skip">Outputs at the block's beginning that are not wanted, fewer than a panel has.</param>
    /// <param name="width">Outputs up to the last that is wanted.</param>
    /// <param name="firstInput">The input at which the block begins.</param>
    /// <param name="depth">Its number of inputs.</param>
    /// <param name="y">Receives the first output that is wanted.</param>
    /// <param name="stride">Distance of rows of y.</param>
    /// <param name="next">What will be read next.</param>
    private static void OverRows(Product* product, float* panel, long panelStep, int panelWidth, int skip, int width, int firstInput, int depth, float* y, long stride, ref Prefetch next)
    {
        int begin = skip / RegisterTile<S, V>.Columns * RegisterTile<S, V>.Columns;
        int tiles = (width - begin + RegisterTile<S, V>.Columns - 1) / RegisterTile<S, V>.Columns;
        int share = next.Share(product->PaddedRows / S.TileRows * tiles);
        for (int t = 0; t < product->Rows; t += S.TileRows)
        {
            int rows = Math.Min(S.TileRows, product->Rows - t);
            int height = RegisterTile<S, V>.Height(rows);
            float* a = product->PackedRows(t, firstInput, depth);
            var nextRows = new Prefetch((byte*)(a + ((long)height * depth)), 0, height * depth * sizeof(float), 1);
            int rowShare = nextRows.Share(tiles);
            for (int j = begin; j < width; j += RegisterTile<S, V>.Columns)
            {
                next.Issue(share);
                nextRows.Issue(rowShare);
                int skipped = Math.Max(skip - j, 0);
                int columns = Math.Min(RegisterTile<S, V>.Columns, width - j) - skipped;
                float* b = panel + (j / panelWidth * panelStep) + (j % panelWidth);
                RegisterTile<S, V>.Run(height, rows, skipped, columns, depth, a, b, panelWidth, y + (t * stride) + (j + skipped - skip), stride, product->Adds || firstInput > 0);
            }
        }
    }

    /// <summary>From [in, out]: rows of the panel are pieces of stored rows.</summary>
    public static void PackTransposed<E>(StoredMatrix* part, int first, int width, int firstInput, int depth, float* panel)
        where E : struct, IElement
    {
        int tile = RegisterTile<S, V>.Columns;
        for (int i = 0; i < depth; i++)
        {
            byte* w = part->Pointer + ((((long)(firstInput + i) * part->Outputs) + first) * E.Size);
            float* row = panel + ((long)i * tile);
            int j = 0;
            for (; j + tile <= width; j += tile)
            {
                S.Store(E.Load<S, V>(w + ((long)j * E.Size)), row);
                S.Store(E.Load<S, V>(w + ((long)(j + S.Lanes) * E.Size)), row + S.Lanes);
                row += (long)tile * depth;
            }

            for (; j < width; j += S.Lanes)
            {
                byte* source = w + ((long)j * E.Size);
                S.Store(width - j >= S.Lanes ? E.Load<S, V>(source) : Partial.Load<S, V, E>(source, width - j), row);
                row += S.Lanes;
            }
        }
    }

    /// <summary>From [out, in]: blocks of as many rows as lanes are widened and turned.</summary>
    public static void PackPlain<E>(StoredMatrix* part, int inputs, int first, int width, int firstInput, int depth, float* panel)
        where E : struct, IElement
    {
        int tile = RegisterTile<S, V>.Columns;
        long rowBytes = (long)inputs * E.Size;
        for (int j = 0; j < width; j += S.Lanes)
        {
            float* column = panel + ((long)(j / tile) * tile * depth) + (j % tile);
            byte* w = part->Pointer + ((first + j) * rowBytes) + ((long)firstInput * E.Size);
            int rows = Math.Min(S.Lanes, width - j);
            int whole = rows == S.Lanes ? depth / S.Lanes * S.Lanes : 0;
            for (int i = 0; i < whole; i += S.Lanes)
                S.Transpose<E>(w + ((long)i * E.Size), rowBytes, column + ((long)i * tile), tile);
            for (int i = whole; i < depth; i += S.Lanes)
                PackEdge<E>(w + ((long)i * E.Size), rowBytes, rows, Math.Min(S.Lanes, depth - i), column + ((long)i * tile), tile);
        }
    }

    /// <summary>A block with fewer rows or inputs. Columns of the panel that no row fills keep what they have: their results are not stored.</summary>
    private static void PackEdge<E>(byte* w, long rowBytes, int rows, int depth, float* column, int tile)
        where E : struct, IElement
    {
        float* values = stackalloc float[16];
        for (int r = 0; r < rows; r++)
        {
            S.Store(Partial.Load<S, V, E>(w + (r * rowBytes), depth), values);
            for (int i = 0; i < depth; i++)
                column[(i * tile) + r] = values[i];
        }
    }
}

using System.Runtime.CompilerServices;
using KernelScope.Cpu.Panels;

namespace KernelScope.Cpu;

/// <summary>Blocks of float32 values, multiplied by <see cref="RegisterTile{S, V}"/>.</summary>
internal readonly unsafe struct FloatBlocks<S, V> : IBlockFormat
    where S : struct, ISimd<V>
    where V : struct
{
    /// <inheritdoc/>
    public static int TileRows => S.TileRows;

    /// <inheritdoc/>
    public static int Columns => RegisterTile<S, V>.Columns;

    /// <inheritdoc/>
    public static int Words(int depth) => depth;

    /// <inheritdoc/>
    public static void PackRows(float* x, long stride, int rows, int depth, float* packed) =>
        RegisterTile<S, V>.PackRows(x, stride, rows, depth, packed);

    /// <inheritdoc/>
    public static void Pack<E>(Product* product, StoredMatrix* part, int first, int width, int firstInput, int depth, float* block)
        where E : struct, IElement
    {
        if (part->Transposed)
            PackTransposed<E>(part, first, width, firstInput, depth, block);
        else
            PackPlain<E>(part, product->Inputs, first, width, firstInput, depth, block);
    }

    /// <inheritdoc/>
    public static bool TakesPanels<E>()
        where E : struct, IPanelElement => E.IsWide;

    /// <inheritdoc/>
    public static void Expand<E>(StoredMatrix* part, int firstPanel, byte* panels, int width, int firstInput, int depth, float* block)
        where E : struct, IPanelElement
    {
        float* wide = block;
        long panelBytes = part->PanelBytes;
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

    /// <inheritdoc/>
    public static void OverRows(Product* product, float* block, long panelStep, int panelWidth, int skip, int width, int firstInput,
        int depth, float* y, long stride, ref Prefetch next)
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
                float* b = block + (j / panelWidth * panelStep) + (j % panelWidth);
                RegisterTile<S, V>.Run(height, rows, skipped, columns, depth, a, b, panelWidth, y + (t * stride) + (j + skipped - skip),
                    stride, product->Adds || firstInput > 0, product->Plan.SumsApart);
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

    /// <summary>From [out, in]: blocks of as many rows as lanes are widened and transposed.</summary>
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

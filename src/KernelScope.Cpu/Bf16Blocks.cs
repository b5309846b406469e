using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KernelScope.Cpu.MachineCode;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Numerics;

namespace KernelScope.Cpu;

/// <summary>Blocks of pairs of bfloat16, multiplied by the machine-code tiles: <see cref="Precision.Fast"/>.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i bf16(x[t, i])·bf16(W[j, i]), sums in float32, two inputs a step. Packed rows and panels hold pairs of inputs (i, i + 1) as one 32-bit value, an odd last
/// input with 0 (<see cref="PanelLayout"/>).
/// </remarks>
internal readonly unsafe struct Bf16Blocks<S, V> : IBlockFormat
    where S : struct, ISimd<V>
    where V : struct
{
    private const int Columns = Bf16Code.Columns;

    // Bytes from what PanelDot has widened to what is prefetched. With 16 lanes tiles prefetch the next block themselves.
    private const int PrefetchedAhead = 4096;

    /// <inheritdoc/>
    static int IBlockFormat.TileRows => Bf16Code.TallRows;

    /// <inheritdoc/>
    static int IBlockFormat.Columns => Columns;

    /// <inheritdoc/>
    public static int Words(int depth) => Pairs(depth);

    /// <inheritdoc/>
    public static void PackRows(float* x, long stride, int rows, int depth, float* packed) =>
        PackRows(x, stride, rows, depth, Height(rows), (uint*)packed);

    /// <inheritdoc/>
    public static void Pack<E>(Product* product, StoredMatrix* part, int first, int width, int firstInput, int depth, float* block)
        where E : struct, IElement
    {
        // Rounded rows lie behind the panels, which take half the memory that float32 would.
        ushort* rounded = (ushort*)(block + ((long)product->PanelOutputs * product->PanelInputs / 2));
        if (part->Transposed)
            PackTransposed<E>(part, first, width, firstInput, depth, (uint*)block);
        else
            PackPlain<E>(part, product->Inputs, first, width, firstInput, depth, (uint*)block, rounded, product->PanelInputs);
    }

    /// <inheritdoc/>
    public static bool TakesPanels<E>()
        where E : struct, IPanelElement => typeof(E) == typeof(PanelBf16);

    /// <inheritdoc/>
    public static void Expand<E>(StoredMatrix* part, int firstPanel, byte* panels, int width, int firstInput, int depth, float* block)
        where E : struct, IPanelElement
    {
        for (int n = 0; n < width; n += Columns, panels += part->PanelBytes)
        {
            uint* pairs = (uint*)block + ((long)n * Pairs(depth));
            if (E.HasWindow)
                ExpandPanel(part, firstPanel + (n / Columns), panels, firstInput, depth, pairs);
            else
                RoundPanel<E>(panels, depth, pairs);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackRows(float* x, long stride, int rows, int depth, int height, uint* packed)
    {
        int whole = depth / S.Lanes * S.Lanes;
        for (int i = 0; i < whole; i += S.Lanes)
        {
            uint* pairs = packed + ((long)i / 2 * height);
            int m = 0;
            for (; m + 4 <= rows; m += 4)
                S.TurnBf16(x + (m * stride) + i, stride, pairs + m, height);
            PackEdge(x + i, stride, m, rows, S.Lanes, height, pairs);
        }

        PackEdge(x + whole, stride, 0, rows, depth - whole, height, packed + ((long)whole / 2 * height));
    }

    /// <summary>Rows and inputs that are not whole blocks; rows that are missing are zeros.</summary>
    private static void PackEdge(float* x, long stride, int firstRow, int rows, int depth, int height, uint* pairs)
    {
        for (int m = firstRow; m < height; m++)
        {
            for (int i = 0; i < depth; i += 2)
                pairs[(i / 2 * height) + m] = m < rows ? Bits(x[(m * stride) + i]) | (i + 1 < depth
                    ? (uint)Bits(x[(m * stride) + i + 1]) << 16 : 0) : 0;
        }
    }

    private static ushort Bits(float value) => ((BFloat16)value).Bits;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundPanel<E>(byte* panel, int depth, uint* pairs)
        where E : struct, IPanelElement
    {
        for (int i = 0; i < depth; i += 2)
        {
            for (int j = 0; j < Columns; j += S.Lanes)
            {
                V even, odd = S.All(0);
                if (i + 1 < depth)
                    E.Pair<S, V>(panel + (j * sizeof(float)), 0, out even, out odd);
                else
                    even = E.Single<S, V>(panel + (j * sizeof(float)), 0);
                S.Store(S.PairBf16(S.RoundBf16(even), S.RoundBf16(odd)), (float*)pairs + j);
            }

            panel += E.GroupBytes;
            pairs += Columns;
        }
    }

    /// <summary>From a compact panel to pairs of bfloat16: the values as they are. Where the last input is odd its partner is some number, and x has 0 there.</summary>
    public static void ExpandPanel(StoredMatrix* part, int index, byte* panel, int firstInput, int depth, uint* pairs)
    {
        Expand(panel, depth, (ushort)((part->Windows[index].Exponent - PanelWindow.Base) << 7), pairs);
        foreach (PanelException e in part->Table.ExceptionsOf(index, firstInput, depth))
        {
            long input = e.Input - firstInput;
            ((ushort*)pairs)[(((input / 2 * Columns) + e.Output) * 2) + (input % 2)] = e.Bits;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Expand(byte* panel, int depth, ushort add, uint* pairs)
    {
        int i = 0;
        for (; i + PanelLayout.CompactInputs <= depth; i += PanelLayout.CompactInputs, panel += PanelLayout.CompactBytes)
        {
            if (S.Lanes < 16)
                Prefetch.Passing(panel + PrefetchedAhead, PanelLayout.CompactBytes);
            for (int j = 0; j < Columns; j += S.Lanes, pairs += S.Lanes)
            {
                byte* words = panel + (j * sizeof(float));
                // With the pair as a constant its branch in LoadCompact vanishes.
                S.Store(S.NarrowCompact(S.LoadCompact(words, 0), add), (float*)pairs);
                S.Store(S.NarrowCompact(S.LoadCompact(words, 1), add), (float*)(pairs + Columns));
                S.Store(S.NarrowCompact(S.LoadCompact(words, 2), add), (float*)(pairs + (2 * Columns)));
                S.Store(S.NarrowCompact(S.LoadCompact(words, 3), add), (float*)(pairs + (3 * Columns)));
            }

            pairs += 3 * Columns;
        }

        for (int pair = 0; pair < Pairs(depth - i); pair++, pairs += Columns)
        {
            for (int j = 0; j < Columns; j += S.Lanes)
                S.Store(S.NarrowCompact(S.LoadCompact(panel + (j * sizeof(float)), pair), add), (float*)pairs + j);
        }
    }

    private static int Pairs(int inputs) => (inputs + 1) / 2;

    private static int Height(int rows) => rows <= Bf16Code.LowRows ? Bf16Code.LowRows : Bf16Code.TallRows;

    /// <inheritdoc/>
    public static void OverRows(Product* product, float* block, long panelStep, int panelWidth, int skip, int width, int firstInput,
        int depth, float* y, long stride, ref Prefetch next)
    {
        uint* panel = (uint*)block;
        int pairs = Pairs(depth), tiles = (width + Columns - 1) / Columns;
        int share = next.Share(product->PaddedRows / Bf16Code.TallRows * tiles);
        // Of a panel of weights, which stays in the first-level cache, all rows make use before the next comes.
        for (int j = 0; j < width; j += Columns, panel += panelStep)
        {
            int skipped = Math.Max(skip - j, 0);
            for (int t = 0; t < product->Rows; t += Bf16Code.TallRows)
            {
                next.Issue(share);
                var tile = new Bf16Tile
                {
                    A = (uint*)product->PackedRows(t, firstInput / 2, pairs),
                    B = panel,
                    C = y + (t * stride) + (j + skipped - skip),
                    Pairs = pairs,
                    StrideBytes = stride * sizeof(float),
                    Add = firstInput,
                };
                Run(product, &tile, Math.Min(Bf16Code.TallRows, product->Rows - t), skipped, Math.Min(Columns, width - j) - skipped);
            }
        }
    }

    /// <summary>Computes a tile of which only some rows may exist in c, and of the columns only some after the first <paramref name="skip"/>.</summary>
    private static void Run(Product* product, Bf16Tile* tile, int rows, int skip, int columns)
    {
        int height = Height(rows);
        if (rows == height && columns == Columns)
        {
            Call(product, height, tile);
            return;
        }

        float* whole = stackalloc float[Bf16Code.TallRows * Columns];
        Bf16Tile inside = *tile;
        inside.C = whole;
        inside.StrideBytes = Columns * sizeof(float);
        for (int m = 0; m < rows && tile->Add != 0; m++)
            NativeMemory.Copy((byte*)tile->C + (m * tile->StrideBytes), whole + (m * Columns) + skip, (nuint)columns * sizeof(float));
        Call(product, height, &inside);
        for (int m = 0; m < rows; m++)
            NativeMemory.Copy(whole + (m * Columns) + skip, (byte*)tile->C + (m * tile->StrideBytes), (nuint)columns * sizeof(float));
    }

    private static void Call(Product* product, int height, Bf16Tile* tile)
    {
        if (height == Bf16Code.TallRows)
            product->Bf16.Tall(tile);
        else
            product->Bf16.Low(tile);
    }

    /// <summary>From [out, in]: as many rows as lanes are taken as rows of pairs and transposed. bfloat16 rows of an even number of inputs are that already.</summary>
    private static void PackPlain<E>(StoredMatrix* part, int inputs, int first, int width, int firstInput, int depth, uint* panel,
        ushort* rounded, int roundedStride)
        where E : struct, IElement
    {
        int pairs = Pairs(depth);
        long rowBytes = (long)inputs * E.Size;
        bool direct = typeof(E) == typeof(ElementBf16) && depth % 2 == 0;
        for (int j = 0; j < width; j += S.Lanes)
        {
            int rows = Math.Min(S.Lanes, width - j);
            byte* w = part->Pointer + ((first + j) * rowBytes) + ((long)firstInput * E.Size);
            for (int r = 0; r < rows && !direct; r++)
                RoundRow<E>(w + (r * rowBytes), depth, rounded + ((long)r * roundedStride));
            uint* column = panel + ((long)(j / Columns) * Columns * pairs) + (j % Columns);
            if (direct)
                Turn(w, rowBytes, rows, pairs, column);
            else
                Turn((byte*)rounded, (long)roundedStride * sizeof(ushort), rows, pairs, column);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Turn(byte* source, long rowBytes, int rows, int pairs, uint* column)
    {
        int whole = rows == S.Lanes ? pairs / S.Lanes * S.Lanes : 0;
        for (int p = 0; p < whole; p += S.Lanes)
            S.Transpose<ElementF32>(source + ((long)p * sizeof(uint)), rowBytes, (float*)column + ((long)p * Columns), Columns);
        for (int r = 0; r < rows; r++)
        {
            for (int p = whole; p < pairs; p++)
                column[(p * Columns) + r] = Unsafe.ReadUnaligned<uint>(source + (r * rowBytes) + ((long)p * sizeof(uint)));
        }
    }

    /// <summary>From [in, out]: a row of the panel is two stored rows, value beside value.</summary>
    private static void PackTransposed<E>(StoredMatrix* part, int first, int width, int firstInput, int depth, uint* panel)
        where E : struct, IElement
    {
        int pairs = Pairs(depth);
        long rowBytes = (long)part->Outputs * E.Size;
        for (int p = 0; p < pairs; p++)
        {
            byte* w = part->Pointer + ((firstInput + (2 * p)) * rowBytes) + ((long)first * E.Size);
            bool second = (2 * p) + 1 < depth;
            for (int j = 0; j < width; j += S.Lanes)
            {
                byte* source = w + ((long)j * E.Size);
                int count = Math.Min(S.Lanes, width - j);
                V even = Read<E>(source, count), odd = second ? Read<E>(source + rowBytes, count) : S.All(0);
                S.Store(S.PairBf16(even, odd), (float*)panel + ((long)(j / Columns) * Columns * pairs) + (p * Columns) + (j % Columns));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V Read<E>(byte* source, int count)
        where E : struct, IElement => S.RoundBf16(count == S.Lanes ? E.Load<S, V>(source) : Partial.Load<S, V, E>(source, count));

    /// <summary>A row as bfloat16; an odd last value is followed by 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundRow<E>(byte* source, int count, ushort* destination)
        where E : struct, IElement
    {
        ushort* rest = stackalloc ushort[16];
        int i = 0;
        for (; i + S.Lanes <= count; i += S.Lanes)
            S.StoreBf16(S.RoundBf16(E.Load<S, V>(source + ((long)i * E.Size))), destination + i);
        if (i == count)
            return;
        // Zeros follow the last value in the vector, so one of them may be the odd last input's partner.
        S.StoreBf16(S.RoundBf16(Partial.Load<S, V, E>(source + ((long)i * E.Size), count - i)), rest);
        NativeMemory.Copy(rest, destination + i, (nuint)(Pairs(count) * 2 - i) * sizeof(ushort));
    }
}

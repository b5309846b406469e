using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KernelScope.Devices.Cpu;

/// <summary>Many rows of x against any stored matrix, by register tiles over packed panels.</summary>
/// <remarks>
/// Equation: y[t, j] = Σ_i x[t, i]·W[j, i]. A worker widens a panel of weights (<see cref="Product.PanelOutputs"/> by <see cref="Product.PanelInputs"/>) into memory of its own
/// that fits the second-level cache, and runs all packed rows of x over it. Bytes: each weight once from memory; flops: 2·rows·in·out.
/// </remarks>
internal static unsafe class PanelKernel<S, V>
    where S : struct, ISimd<V>
    where V : struct
{
    public static void Range<E>(Product* product, StoredPart* part, int worker, int first, int count, float* y, long stride)
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
                    PackTransposed<E>(part, product->Inputs, first + j, width, i, depth, panel);
                else
                    PackPlain<E>(part, product->Inputs, first + j, width, i, depth, panel);
                OverRows(product, panel, width, i, depth, y + j, stride);
            }
        }
    }

    private static void OverRows(Product* product, float* panel, int width, int firstInput, int depth, float* y, long stride)
    {
        for (int t = 0; t < product->Rows; t += S.TileRows)
        {
            int rows = Math.Min(S.TileRows, product->Rows - t);
            int height = RegisterTile<S, V>.Height(rows);
            float* a = product->PackedX + ((long)t * product->Inputs) + ((long)firstInput * height);
            for (int j = 0; j < width; j += RegisterTile<S, V>.Columns)
            {
                int columns = Math.Min(RegisterTile<S, V>.Columns, width - j);
                RegisterTile<S, V>.Run(height, rows, columns, depth, a, panel + ((long)j * depth), RegisterTile<S, V>.Columns, y + (t * stride) + j, stride, firstInput > 0);
            }
        }
    }

    /// <summary>From [in, out]: rows of the panel are pieces of stored rows.</summary>
    private static void PackTransposed<E>(StoredPart* part, int inputs, int first, int width, int firstInput, int depth, float* panel)
        where E : struct, IElement
    {
        _ = inputs;
        int tile = RegisterTile<S, V>.Columns;
        for (int i = 0; i < depth; i++)
        {
            byte* w = part->Pointer + ((((long)(firstInput + i) * part->Outputs) + first) * E.Size);
            for (int j = 0; j < width; j += S.Lanes)
            {
                byte* source = w + ((long)j * E.Size);
                V values = width - j >= S.Lanes ? E.Load<S, V>(source) : Partial.Load<S, V, E>(source, width - j);
                S.Store(values, panel + ((long)(j / tile) * tile * depth) + (i * tile) + (j % tile));
            }

            for (int j = (width + S.Lanes - 1) / S.Lanes * S.Lanes; j % tile != 0; j += S.Lanes)
                S.Store(S.All(0), panel + ((long)(j / tile) * tile * depth) + (i * tile) + (j % tile));
        }
    }

    /// <summary>From [out, in]: four stored rows are widened, then turned in blocks of 4 by 4.</summary>
    private static void PackPlain<E>(StoredPart* part, int inputs, int first, int width, int firstInput, int depth, float* panel)
        where E : struct, IElement
    {
        int tile = RegisterTile<S, V>.Columns;
        int padded = (width + tile - 1) / tile * tile;
        const int Block = 64;
        float* wide = stackalloc float[4 * Block];
        for (int j = 0; j < padded; j += 4)
        {
            float* column = panel + ((long)(j / tile) * tile * depth) + (j % tile);
            for (int i = 0; i < depth; i += Block)
            {
                int length = Math.Min(Block, depth - i);
                for (int r = 0; r < 4; r++)
                {
                    if (j + r < width)
                        Widen<E>(part->Pointer + ((((long)(first + j + r) * inputs) + firstInput + i) * E.Size), length, wide + (r * Block));
                    else
                        new Span<float>(wide + (r * Block), Block).Clear();
                }

                Turn(wide, Block, length, column + ((long)i * tile), tile);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Widen<E>(byte* source, int length, float* destination)
        where E : struct, IElement
    {
        int i = 0;
        for (; i + S.Lanes <= length; i += S.Lanes)
            S.Store(E.Load<S, V>(source + (i * E.Size)), destination + i);
        if (i < length)
            S.Store(Partial.Load<S, V, E>(source + (i * E.Size), length - i), destination + i);
    }

    /// <summary>Four rows become <paramref name="length"/> rows of four, <paramref name="tile"/> apart.</summary>
    private static void Turn(float* rows, int rowStride, int length, float* destination, int tile)
    {
        int i = 0;
        for (; i + 4 <= length; i += 4)
        {
            Vector128<float> r0 = Vector128.Load(rows + i);
            Vector128<float> r1 = Vector128.Load(rows + rowStride + i);
            Vector128<float> r2 = Vector128.Load(rows + (2 * rowStride) + i);
            Vector128<float> r3 = Vector128.Load(rows + (3 * rowStride) + i);
            (Vector128<float> a0, Vector128<float> a1) = Zip(r0, r1);
            (Vector128<float> b0, Vector128<float> b1) = Zip(r2, r3);
            ZipPairs(a0, b0, destination, tile);
            ZipPairs(a1, b1, destination + (2 * tile), tile);
            destination += 4 * tile;
        }

        for (; i < length; i++)
        {
            for (int r = 0; r < 4; r++)
                destination[r] = rows[(r * rowStride) + i];
            destination += tile;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector128<float> Low, Vector128<float> High) Zip(Vector128<float> a, Vector128<float> b) =>
        (Vector128.Create(a[0], b[0], a[1], b[1]), Vector128.Create(a[2], b[2], a[3], b[3]));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ZipPairs(Vector128<float> a, Vector128<float> b, float* destination, int tile)
    {
        Vector128.Create(a.GetLower(), b.GetLower()).Store(destination);
        Vector128.Create(a.GetUpper(), b.GetUpper()).Store(destination + tile);
    }
}

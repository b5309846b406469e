using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// y[t] = scale · E[token t], the product rounded to float32.
/// Launch: grid (rows, ⌈columns/256⌉), group 256. Reads columns·sizeof(weight) bytes a row and writes 4·columns; columns flops a row.
/// </summary>
/// <remarks>One step: a gather has nothing to reuse. 2-byte weights are read 64 bytes a warp, whole sectors.</remarks>
public static class Embed
{
    /// <summary>Threads of a group.</summary>
    public const int GroupSize = 256;

    /// <summary>Copies rows of a table.</summary>
    /// <param name="tokens">Row of the table for each row of the destination.</param>
    /// <param name="table">E [vocabulary, columns], dense.</param>
    /// <param name="destination">[rows, columns], row stride <paramref name="stride"/>.</param>
    /// <param name="scale">Factor.</param>
    /// <param name="columns">Number of columns.</param>
    /// <param name="stride">Distance of two destination rows, in values.</param>
    public static void Rows<TWeight>(ArrayView<int> tokens, ArrayView<TWeight> table, ArrayView<float> destination, float scale,
        int columns, int stride)
        where TWeight : unmanaged, IWeight<TWeight>
    {
        int t = Grid.IdxX;
        int j = (Grid.IdxY * GroupSize) + Group.IdxX;
        if (j < columns)
            destination[((long)t * stride) + j] = scale * TWeight.Widen(table[((long)tokens[t] * columns) + j]);
    }
}

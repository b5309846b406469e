using System.Numerics;
using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>Top-k.</summary>
public sealed partial class CudaDevice
{
    /// <summary>The longest list that is found by selection; longer ones come from sorting whole rows.</summary>
    private const int MaxSelected = 512;

    /// <summary>Values of a block of the sort's steps: a thread compares two.</summary>
    private const int SortValues = 512;

    /// <summary>List entries of a block.</summary>
    private const int ListEntries = 256;

    /// <inheritdoc/>
    protected override void TopKCore(Mat x, int k, SparseCodes destination)
    {
        CudaCodes codes = CudaCodes.Of(this, destination);
        if (x.Rows > LaunchQueue.MaxGridYZ)
            throw new ArgumentException($"The largest values of {x.Rows} rows were asked for; one call takes up " +
                $"to {LaunchQueue.MaxGridYZ}.", nameof(x));
        codes.Begin(x.Rows, (long)x.Rows * k);
        if (x.Rows == 0)
            return;
        if (k == 1)
        {
            Largest(x, codes);
            return;
        }

        (ulong keys, int stride) = k <= MaxSelected ? Selected(x, k) : Sorted(x);
        BeginOp().Begin(_kernels["top_k_write"], Blocks(k, ListEntries), x.Rows)
            .View(keys, (long)x.Rows * stride).View(Address(x), Span(x))
            .View(codes.Starts, x.Rows + 1L).View(codes.Features, codes.Capacity).View(codes.Values, codes.Capacity)
            .Int(k).Int(stride).Int(x.Stride).End();
    }

    /// <summary>The best of every chunk, then the best of those.</summary>
    private void Largest(Mat x, CudaCodes codes)
    {
        Kernel largest = _kernels["top_1_largest"];
        int chunks = (int)Blocks(x.Columns, largest.Info.TileColumns);
        long count = (long)x.Rows * chunks;
        _scratch.Begin(count * sizeof(ulong));
        ulong keys = _scratch.Take(count * sizeof(ulong));
        BeginOp().Begin(largest, chunks, x.Rows).View(Address(x), Span(x)).View(keys, count).Int(x.Columns).Int(x.Stride).End();
        BeginOp().Begin(_kernels["top_1_write"], 1, x.Rows)
            .View(keys, count).View(Address(x), Span(x))
            .View(codes.Starts, x.Rows + 1L).View(codes.Features, codes.Capacity).View(codes.Values, codes.Capacity)
            .Int(chunks).Int(x.Stride).End();
    }

    /// <summary>Keeps the k best of every chunk, then of every chunk of those, until one chunk is left.</summary>
    private (ulong Keys, int Stride) Selected(Mat x, int k)
    {
        Kernel select = _kernels["top_k_select"], reduce = _kernels["top_k_reduce"];
        int chunk = select.Info.TileColumns;
        int chunks = (int)Blocks(x.Columns, chunk);
        long bytes = (long)x.Rows * chunks * k * sizeof(ulong);
        long halfBytes = (long)x.Rows * Blocks((long)chunks * k, chunk) * k * sizeof(ulong);
        _scratch.Begin(bytes, halfBytes);
        ulong keys = _scratch.Take(bytes), other = _scratch.Take(halfBytes);
        BeginOp().Begin(select, chunks, x.Rows).View(Address(x), Span(x)).View(keys, (long)x.Rows * chunks * k).Int(x.Columns).Int(k)
            .Int(x.Stride).End();
        while (chunks > 1)
        {
            int count = chunks * k;
            chunks = (int)Blocks(count, chunk);
            BeginOp().Begin(reduce, chunks, x.Rows)
                .View(keys, (long)x.Rows * count).View(other, (long)x.Rows * chunks * k).Int(count).Int(k).Int(count).End();
            (keys, other) = (other, keys);
        }

        return (keys, k);
    }

    /// <summary>A bitonic sort of every row.</summary>
    private (ulong Keys, int Stride) Sorted(Mat x)
    {
        int pitch = checked((int)BitOperations.RoundUpToPowerOf2((uint)x.Columns));
        long length = (long)x.Rows * pitch;
        _scratch.Begin(length * sizeof(ulong));
        ulong keys = _scratch.Take(length * sizeof(ulong));
        BeginOp().Begin(_kernels["top_k_keys"], Blocks(pitch, ListEntries), x.Rows)
            .View(Address(x), Span(x)).View(keys, length).Int(x.Columns).Int(x.Stride).Int(pitch).End();
        Kernel step = _kernels["top_k_step"];
        for (int run = 2; run <= pitch; run *= 2)
        {
            for (int distance = run / 2; distance > 0; distance /= 2)
                BeginOp().Begin(step, Blocks(pitch, SortValues), x.Rows).View(keys, length).Int(pitch).Int(run).Int(distance).End();
        }

        return (keys, pitch);
    }
}

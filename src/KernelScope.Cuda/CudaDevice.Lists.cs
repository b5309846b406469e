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
        CudaCodes codes = CudaCodes.From(this, destination);
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
        _kernels.TopKWrite().Launch(BeginOp(), new(Blocks(k, ListEntries), x.Rows), new(keys, (long)x.Rows * stride), View(x), codes.Starts,
            codes.Features, codes.Values, k, stride, x.Stride);
    }

    /// <summary>The best of every chunk, then the best of those.</summary>
    private void Largest(Mat x, CudaCodes codes)
    {
        Top1LargestKernel largest = _kernels.Top1Largest();
        int chunks = (int)Blocks(x.Columns, largest.Info.TileColumns);
        long count = (long)x.Rows * chunks;
        _scratch.Begin(count * sizeof(ulong));
        View<ulong> keys = new(_scratch.Take(count * sizeof(ulong)), count);
        largest.Launch(BeginOp(), new(chunks, x.Rows), View(x), keys, x.Columns, x.Stride);
        _kernels.Top1Write().Launch(BeginOp(), new(1, x.Rows), keys, View(x), codes.Starts, codes.Features, codes.Values, chunks, x.Stride);
    }

    /// <summary>Keeps the k best of every chunk, then of every chunk of those, until one chunk is left.</summary>
    private (ulong Keys, int Stride) Selected(Mat x, int k)
    {
        TopKSelectKernel select = _kernels.TopKSelect();
        TopKReduceKernel reduce = _kernels.TopKReduce();
        int chunk = select.Info.TileColumns;
        int chunks = (int)Blocks(x.Columns, chunk);
        long bytes = (long)x.Rows * chunks * k * sizeof(ulong);
        long halfBytes = (long)x.Rows * Blocks((long)chunks * k, chunk) * k * sizeof(ulong);
        _scratch.Begin(bytes, halfBytes);
        ulong keys = _scratch.Take(bytes), other = _scratch.Take(halfBytes);
        select.Launch(BeginOp(), new(chunks, x.Rows), View(x), new(keys, (long)x.Rows * chunks * k), x.Columns, k, x.Stride);
        while (chunks > 1)
        {
            int count = chunks * k;
            chunks = (int)Blocks(count, chunk);
            reduce.Launch(BeginOp(), new(chunks, x.Rows), source: new(keys, (long)x.Rows * count),
                keys: new(other, (long)x.Rows * chunks * k), count, k, sourceStride: count);
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
        _kernels.TopKKeys().Launch(BeginOp(), new(Blocks(pitch, ListEntries), x.Rows), View(x), new(keys, length), x.Columns, x.Stride,
            pitch);
        TopKStepKernel step = _kernels.TopKStep();
        for (int run = 2; run <= pitch; run *= 2)
        {
            for (int distance = run / 2; distance > 0; distance /= 2)
                step.Launch(BeginOp(), new(Blocks(pitch, SortValues), x.Rows), new(keys, length), pitch, run, distance);
        }

        return (keys, pitch);
    }
}

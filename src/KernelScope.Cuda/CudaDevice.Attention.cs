using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>Attention.</summary>
public sealed partial class CudaDevice
{
    /// <summary>The largest head that the kernels have registers for.</summary>
    private const int MaxHeadDim = 256;

    /// <summary>Blocks of decode attention beyond which more splits gain nothing: two for each multiprocessor of a large device.</summary>
    private const int EnoughBlocks = 256;

    /// <inheritdoc/>
    /// <remarks>Up to 8 rows: the keys split over blocks, then a merge in order. More: tiles of 32 queries by 32 keys.</remarks>
    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        if (cache.HeadDim > MaxHeadDim)
            throw new ArgumentException($"Heads of {cache.HeadDim} values are too large for the CUDA kernels, which take up to {MaxHeadDim}.", nameof(cache));
        if (q.Rows > FewRows)
            AttendTiles(q, cache, position, shape, destination);
        else
            AttendSplits(q, cache, position, shape, destination);
    }

    private void AttendTiles(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        Kernel kernel = _kernels[cache.HeadDim <= 64 ? "attend_tile_64" : cache.HeadDim <= 128 ? "attend_tile_128" : "attend_tile_256"];
        LaunchQueue queue = BeginOp();
        ulong at = queue.Position(position);
        queue.Begin(kernel, Blocks(q.Rows, kernel.Info.TileRows), shape.HeadCount)
            .View(Address(q), Span(q)).View(Address(cache.Keys), Span(cache.Keys)).View(Address(cache.Values), Span(cache.Values)).View(at, 1)
            .View(Address(destination), Span(destination))
            .Int(q.Rows).Int(cache.KvHeadCount).Int(cache.HeadDim).Int(cache.Capacity).Int(shape.Window).Float(shape.Scale).Float(shape.Softcap)
            .Int(q.Stride).Int(destination.Stride).End();
    }

    private void AttendSplits(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        bool pairs = shape.HeadCount / cache.KvHeadCount % 2 == 0;
        bool wide = cache.HeadDim % 4 == 0 && Operand.Of(this, q).IsAligned && Address(cache.Keys) % 16 == 0 && Address(cache.Values) % 16 == 0;
        int headGroups = pairs ? shape.HeadCount / 2 : shape.HeadCount;
        int splits = SplitsFor(cache.Capacity, shape.Window, headGroups * q.Rows);
        long partValues = (long)q.Rows * shape.HeadCount * splits * (cache.HeadDim + 2);
        _scratch.Begin(partValues * sizeof(float));
        ulong parts = _scratch.Take(partValues * sizeof(float));
        Kernel kernel = _kernels[wide ? "attend_wide_part" : "attend_part", pairs ? "2heads" : "1head"];
        int unit = ElementsOf(kernel, 0);
        LaunchQueue queue = BeginOp();
        ulong at = queue.Position(position);
        queue.Begin(kernel, splits, headGroups, q.Rows)
            .View(Address(q), Span(q) / unit).View(Address(cache.Keys), Span(cache.Keys) / unit).View(Address(cache.Values), Span(cache.Values) / unit).View(at, 1)
            .View(parts, partValues)
            .Int(shape.HeadCount).Int(cache.KvHeadCount).Int(cache.HeadDim).Int(cache.Capacity).Int(shape.Window).Float(shape.Scale).Float(shape.Softcap)
            .Int(q.Stride).End();
        queue.Begin(_kernels["attend_merge"], shape.HeadCount, q.Rows)
            .View(parts, partValues).View(Address(destination), Span(destination)).Int(splits).Int(cache.HeadDim).Int(destination.Stride).End();
    }

    /// <summary>
    /// Over how many blocks the keys of a query are split. It depends on the cache, not on the position: the same launches then serve every decode step.
    /// </summary>
    private int SplitsFor(int capacity, int window, int blocksOfSplit)
    {
        int keys = window > 0 ? Math.Min(capacity, window) : capacity;
        long wanted = Blocks(keys, Options.KeysPerSplit);
        return (int)Math.Clamp(wanted, 1, Math.Max(1, EnoughBlocks / blocksOfSplit));
    }
}

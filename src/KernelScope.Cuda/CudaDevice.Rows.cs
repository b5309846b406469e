using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>Ops that go row by row or value by value.</summary>
public sealed partial class CudaDevice
{
    /// <summary>Token ids that go over at once.</summary>
    private const int TokensAtOnce = 32_768;

    /// <summary>Columns of a block of the element-wise kernels.</summary>
    private const int ElementColumns = 256;

    /// <summary>Pairs of a block of the RoPE kernels.</summary>
    private const int RopePairs = 128;

    /// <inheritdoc/>
    protected override void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination)
    {
        CudaWeight weight = CudaWeight.From(this, table);
        View<Stored> rows = weight.View(WeightLayout.OutputMajor);
        for (int first = 0; first < tokens.Length; first += TokensAtOnce)
        {
            int count = Math.Min(TokensAtOnce, tokens.Length - first);
            Mat target = destination.RowRange(first, count);
            LaunchQueue queue = BeginOp(count * sizeof(int));
            View<int> ids = queue.Upload(tokens.Slice(first, count));
            _kernels.Embed(weight.Type).Launch(queue, new(count, Blocks(table.Columns, ElementColumns)), ids, rows, View(target), scale,
                table.Columns, target.Stride);
        }
    }

    /// <inheritdoc/>
    protected override void NormalizeCore(Mat x, float epsilon, Mat destination) =>
        _kernels.RmsNormalize().Launch(BeginOp(), new(x.Rows), View(x), View(destination), epsilon, x.Columns, x.Stride,
            destination.Stride, wide: InQuads(x, destination));

    /// <inheritdoc/>
    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination) =>
        _kernels.ApplyGain().Launch(BeginOp(), new(unit.Rows, Blocks(unit.Columns, ElementColumns)), View(unit), View(gain),
            View(destination), unit.Columns, unit.Stride, destination.Stride);

    /// <inheritdoc/>
    protected override void RmsNormCore(Mat x, Mat gain, float epsilon, Mat destination) =>
        _kernels.RmsNorm().Launch(BeginOp(), new(x.Rows), View(x), View(gain), View(destination), epsilon, x.Columns, x.Stride,
            destination.Stride, wide: InQuads(x, gain, destination));

    /// <inheritdoc/>
    protected override void AddNormedThenNormCore(Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        LaunchQueue queue = BeginOp();
        int wide = InQuads(branch, postGain, nextGain, resid, normed);
        if (branch.Rows == 1 && wide == 1 && TakeBack(branch, out GemvLaunch product))
        {
            LaunchWithNorm(product, branch, postGain, nextGain, epsilon, resid, normed);
            return;
        }

        _kernels.RmsAddNormedThenNorm().Launch(queue, new(branch.Rows), View(branch), View(postGain), View(nextGain), View(resid),
            View(normed), epsilon, branch.Columns, branch.Stride, resid.Stride, normed.Stride, wide);
    }

    /// <inheritdoc/>
    protected override void RopeCore(Mat x, int position, Mat cosSin)
    {
        // The kernel reads a table without gaps; of another it gets the rows that it needs, the first as position 0.
        Mat used = cosSin.IsDense ? cosSin : cosSin.RowRange(position, x.Rows);
        ulong table = cosSin.IsDense ? Address(cosSin) : Gathered(used);
        int pairs = x.Columns / 2;
        LaunchQueue queue = BeginOp();
        View<int> at = queue.Position(cosSin.IsDense ? position : 0);
        _kernels.RopeRotate().Launch(queue, new(x.Rows, Blocks(pairs, RopePairs)), View(x),
            cosSin: new(table, (long)used.Rows * used.Columns), at, headDim: used.Columns, pairs, x.Stride);
    }

    /// <inheritdoc/>
    protected override void StoreCore(Mat k, Mat v, int position, KvLayer cache)
    {
        if (cache.HeadDim % 2 != 0)
        {
            StoreOddHeads(k, cache.Keys, position, cache);
            StoreOddHeads(v, cache.Values, position, cache);
            return;
        }

        int pairs = k.Columns / 2;
        LaunchQueue queue = BeginOp();
        View<int> at = queue.Position(position);
        _kernels.RopeStore(cache.Type).Launch(queue, new(k.Rows, Blocks(pairs, RopePairs)), View(k), View(v), at, Keys(cache),
            Values(cache), cache.HeadDim, pairs, cache.Capacity, k.Stride, v.Stride);
    }

    /// <inheritdoc/>
    protected override void RopeThenStoreCore(Mat qkv, int position, Mat cosSin, KvLayer cache)
    {
        if (cache.HeadDim % 2 != 0)
            throw new ArgumentException($"Heads of {cache.HeadDim} values cannot be rotated: RoPE turns pairs.", nameof(cache));
        if (!cosSin.IsDense)
        {
            base.RopeThenStoreCore(qkv, position, cosSin, cache);
            return;
        }

        LaunchQueue queue = BeginOp();
        if (qkv.Rows == 1 && TakeBack(qkv, out GemvLaunch product))
        {
            LaunchWithRope(product, qkv, position, cosSin, cache);
            return;
        }

        int heads = (qkv.Columns / cache.HeadDim) - (2 * cache.KvHeadCount);
        View<int> at = queue.Position(position);
        _kernels.RopeRotateThenStore(cache.Type).Launch(queue, new(qkv.Rows, Blocks(qkv.Columns / 2, RopePairs)), View(qkv), View(cosSin),
            at, Keys(cache), Values(cache), heads, cache.KvHeadCount, cache.HeadDim, cache.Capacity, qkv.Stride);
    }

    /// <inheritdoc/>
    protected override void RopeThenStoreCore(Mat qkv, ReadOnlySpan<SequenceRows> sequences, Mat cosSin)
    {
        KvLayer first = sequences[0].Cache;
        if (first.HeadDim % 2 != 0 || !cosSin.IsDense || !TryPlace(sequences, default, qkv.Rows))
        {
            base.RopeThenStoreCore(qkv, sequences, cosSin);
            return;
        }

        int heads = (qkv.Columns / first.HeadDim) - (2 * first.KvHeadCount), count = _placeCount * PlaceFields;
        LaunchQueue queue = BeginOp(count * sizeof(long));
        View<long> places = queue.Upload<long>(_places.AsSpan(0, count));
        _kernels.RopeRowsRotateThenStore(first.Type).Launch(queue, new(_placeCount, Blocks(qkv.Columns / 2, RopePairs)), View(qkv),
            View(cosSin), places, Keys(first), Values(first), heads, first.KvHeadCount, first.HeadDim, qkv.Stride);
    }

    /// <inheritdoc/>
    protected override void SoftcapCore(Mat x, float cap)
    {
        LaunchQueue queue = BeginOp();
        if (TakeBack(x, out GemvLaunch product))
        {
            Launch(product, cap);
            return;
        }

        _kernels.Softcap().Launch(queue, new(x.Rows, Blocks(x.Columns, ElementColumns)), View(x), cap, x.Columns, x.Stride);
    }

    /// <inheritdoc/>
    protected override void AddScaledCore(Mat x, float alpha, Mat destination) =>
        _kernels.AddScaled().Launch(BeginOp(), new(destination.Rows, Blocks(destination.Columns, ElementColumns)), View(x),
            View(destination), alpha, destination.Columns, xStride: x.Rows == 1 ? 0 : x.Stride, destination.Stride);

    /// <inheritdoc/>
    protected override void CopyCore(Mat x, Mat destination)
    {
        if (x != destination)
            Copy(Address(x), x.Stride, Address(destination), destination.Stride, x.Rows, x.Columns);
    }

    /// <summary>
    /// 1 if all rows begin at multiples of 16 bytes and have a multiple of four values, so that a lane may take four at once; else 0.
    /// </summary>
    private int InQuads(params ReadOnlySpan<Mat> all)
    {
        foreach (Mat x in all)
        {
            if (x.Columns % 4 != 0 || !Operand.From(this, x).IsAligned)
                return 0;
        }

        return 1;
    }

    private static long Blocks(long count, int size) => Math.Max(1, (count + size - 1) / size);

    /// <summary>Number of values from the first to the last of a view.</summary>
    private static long Span(Mat x) => ((x.Rows - 1L) * x.Stride) + x.Columns;

    /// <summary>From the first value to the last.</summary>
    private View<float> View(Mat x) => new(Address(x), Span(x));

    private ulong Address(Mat x) => CudaBuffer.AddressOf(this, x);

    private LaunchQueue BeginOp(int hostBytes = 0)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        _queue.BeginOp(RunningOpName, hostBytes);
        return _queue;
    }

    private void Copy(ulong source, int sourceStride, ulong target, int targetStride, int rows, int columns) =>
        _kernels.Copy().Launch(BeginOp(), new(rows, Blocks(columns, ElementColumns)), new(source, ((rows - 1L) * sourceStride) + columns),
            new(target, ((rows - 1L) * targetStride) + columns), columns, sourceStride, targetStride);

    /// <summary>Heads of an odd number of values, which no model has, go into the ring by copies of runs of positions.</summary>
    private void StoreOddHeads(Mat x, Mat ring, int position, KvLayer cache)
    {
        for (int done = 0; done < x.Rows;)
        {
            int slot = (position + done) % cache.Capacity;
            int count = Math.Min(x.Rows - done, cache.Capacity - slot);
            for (int h = 0; h < cache.KvHeadCount; h++)
            {
                Mat source = x.RowRange(done, count).ColumnRange(h * cache.HeadDim, cache.HeadDim);
                CopyCore(source, ring.RowRange((h * cache.Capacity) + slot, count));
            }

            done += count;
        }
    }
}

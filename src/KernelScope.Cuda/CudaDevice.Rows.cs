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
        CudaWeight weight = CudaWeight.Of(this, table);
        ulong rows = weight.Address(WeightLayout.OutputMajor);
        for (int first = 0; first < tokens.Length; first += TokensAtOnce)
        {
            int count = Math.Min(TokensAtOnce, tokens.Length - first);
            Mat target = destination.RowRange(first, count);
            LaunchQueue queue = BeginOp(count * sizeof(int));
            ulong ids = queue.Upload(tokens.Slice(first, count));
            queue.Begin(_kernels["embed", weight.TypeName], count, Blocks(table.Columns, ElementColumns))
                .View(ids, count).View(rows, weight.Length).View(Address(target), Span(target))
                .Float(scale).Int(table.Columns).Int(target.Stride).End();
        }
    }

    /// <inheritdoc/>
    protected override void NormalizeCore(Mat x, float epsilon, Mat destination) =>
        BeginOp().Begin(_kernels["rms_normalize"], x.Rows)
            .View(Address(x), Span(x)).View(Address(destination), Span(destination))
            .Float(epsilon).Int(x.Columns).Int(x.Stride).Int(destination.Stride).Int(InQuads(x, destination)).End();

    /// <inheritdoc/>
    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination) =>
        BeginOp().Begin(_kernels["apply_gain"], unit.Rows, Blocks(unit.Columns, ElementColumns))
            .View(Address(unit), Span(unit)).View(Address(gain), Span(gain)).View(Address(destination), Span(destination))
            .Int(unit.Columns).Int(unit.Stride).Int(destination.Stride).End();

    /// <inheritdoc/>
    protected override void RmsNormCore(Mat x, Mat gain, float epsilon, Mat destination) =>
        BeginOp().Begin(_kernels["rms_norm"], x.Rows)
            .View(Address(x), Span(x)).View(Address(gain), Span(gain)).View(Address(destination), Span(destination))
            .Float(epsilon).Int(x.Columns).Int(x.Stride).Int(destination.Stride).Int(InQuads(x, gain, destination)).End();

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

        queue.Begin(_kernels["rms_add_normed_then_norm"], branch.Rows)
            .View(Address(branch), Span(branch)).View(Address(postGain), Span(postGain)).View(Address(nextGain), Span(nextGain))
            .View(Address(resid), Span(resid)).View(Address(normed), Span(normed))
            .Float(epsilon).Int(branch.Columns).Int(branch.Stride).Int(resid.Stride).Int(normed.Stride)
            .Int(wide).End();
    }

    /// <inheritdoc/>
    protected override void RopeCore(Mat x, int position, Mat cosSin)
    {
        // The kernel reads a table without gaps; of another it gets the rows that it needs, the first as position 0.
        Mat used = cosSin.IsDense ? cosSin : cosSin.RowRange(position, x.Rows);
        ulong table = cosSin.IsDense ? Address(cosSin) : Gathered(used);
        int pairs = x.Columns / 2;
        LaunchQueue queue = BeginOp();
        ulong at = queue.Position(cosSin.IsDense ? position : 0);
        queue.Begin(_kernels["rope_rotate"], x.Rows, Blocks(pairs, RopePairs))
            .View(Address(x), Span(x)).View(table, (long)used.Rows * used.Columns).View(at, 1)
            .Int(used.Columns).Int(pairs).Int(x.Stride).End();
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
        ulong at = queue.Position(position);
        queue.Begin(_kernels[RopeOf(cache), "store"], k.Rows, Blocks(pairs, RopePairs))
            .View(Address(k), Span(k)).View(Address(v), Span(v)).View(at, 1)
            .View(Address(cache.Keys), ValuesOf(cache)).View(Address(cache.Values), ValuesOf(cache))
            .Int(cache.HeadDim).Int(pairs).Int(cache.Capacity).Int(k.Stride).Int(v.Stride).End();
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
        ulong at = queue.Position(position);
        queue.Begin(_kernels[RopeOf(cache), "rotate_then_store"], qkv.Rows, Blocks(qkv.Columns / 2, RopePairs))
            .View(Address(qkv), Span(qkv)).View(Address(cosSin), Span(cosSin)).View(at, 1)
            .View(Address(cache.Keys), ValuesOf(cache)).View(Address(cache.Values), ValuesOf(cache))
            .Int(heads).Int(cache.KvHeadCount).Int(cache.HeadDim).Int(cache.Capacity).Int(qkv.Stride).End();
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
        ulong places = queue.Upload<long>(_places.AsSpan(0, count));
        queue.Begin(_kernels[RopeOf(first), "rows_rotate_then_store"], _placeCount, Blocks(qkv.Columns / 2, RopePairs))
            .View(Address(qkv), Span(qkv)).View(Address(cosSin), Span(cosSin)).View(places, count)
            .View(Address(first.Keys), ValuesOf(first)).View(Address(first.Values), ValuesOf(first))
            .Int(heads).Int(first.KvHeadCount).Int(first.HeadDim).Int(qkv.Stride).End();
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

        queue.Begin(_kernels["softcap"], x.Rows, Blocks(x.Columns, ElementColumns))
            .View(Address(x), Span(x)).Float(cap).Int(x.Columns).Int(x.Stride).End();
    }

    /// <inheritdoc/>
    protected override void AddScaledCore(Mat x, float alpha, Mat destination) =>
        BeginOp().Begin(_kernels["add_scaled"], destination.Rows, Blocks(destination.Columns, ElementColumns))
            .View(Address(x), Span(x)).View(Address(destination), Span(destination))
            .Float(alpha).Int(destination.Columns).Int(x.Rows == 1 ? 0 : x.Stride).Int(destination.Stride).End();

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
            if (x.Columns % 4 != 0 || !Operand.Of(this, x).IsAligned)
                return 0;
        }

        return 1;
    }

    private static long Blocks(long count, int size) => Math.Max(1, (count + size - 1) / size);

    /// <summary>Number of values from the first to the last of a view.</summary>
    private static long Span(Mat x) => ((x.Rows - 1L) * x.Stride) + x.Columns;

    private ulong Address(Mat x) => CudaBuffer.AddressOf(this, x);

    private LaunchQueue BeginOp(int hostBytes = 0)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        _queue.BeginOp(RunningOpName, hostBytes);
        return _queue;
    }

    private void Copy(ulong source, int sourceStride, ulong target, int targetStride, int rows, int columns) =>
        BeginOp().Begin(_kernels["copy"], rows, Blocks(columns, ElementColumns))
            .View(source, ((rows - 1L) * sourceStride) + columns).View(target, ((rows - 1L) * targetStride) + columns)
            .Int(columns).Int(sourceStride).Int(targetStride).End();

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

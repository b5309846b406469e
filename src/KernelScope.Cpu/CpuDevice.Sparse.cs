using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cpu;

public sealed unsafe partial class CpuDevice
{
    // Rows that a worker decodes at a time where there are many.
    private const int DecodeRows = 8;

    // Rows whose sums stay in the last cache, with the weights that all of them add meanwhile.
    private const int DecodeBlockRows = 512;

    // Bytes of those weights; between 8 and 16 MB the best is flat on a machine with 32 MB of cache.
    private const int DecodeRangeBytes = 16 << 20;

    // Features of a row that are worth reading its sum again.
    private const int DecodeRangeFeatures = 4;

    /// <inheritdoc/>
    protected override void TopKCore(Mat x, int k, SparseCodes destination)
    {
        HostCodes lists = HostCodes.From(destination);
        lists.Begin(x.Rows);
        int rowsAtOnce = Math.Max(1, (1 << 20) / Math.Max(1, k));
        for (int first = 0; first < x.Rows; first += rowsAtOnce)
            TopKOfRows(x.RowRange(first, Math.Min(rowsAtOnce, x.Rows - first)), k, lists);
    }

    private void TopKOfRows(Mat x, int k, HostCodes lists)
    {
        int columns = k <= 1024 ? 32768 : x.Columns;
        var job = new TopKJob { X = HostBuffer.Pointer(x), XStride = x.Stride, Columns = x.Columns, K = k, SliceColumns = columns };
        job.Slices = columns == 0 ? 0 : Ceiling(x.Columns, columns);
        int count = job.Slices * k;
        job.Keys = (ulong*)_own.Bytes((long)x.Rows * count * sizeof(ulong));
        _pool.Run(_kernels.TopK, &job, x.Rows * job.Slices);
        _pool.Run(_kernels.MergeTopK, &job, x.Rows);
        for (int t = 0; t < x.Rows; t++)
        {
            ulong* keys = job.Keys + ((long)t * count);
            for (int n = 1; n <= k; n++)
            {
                int index = TopKKey.Index(keys[count - n]);
                lists.Add(index, job.X[(t * job.XStride) + index]);
            }

            lists.EndRow();
        }
    }

    /// <inheritdoc/>
    protected override void SaeEncodeCore(Mat x, SaeParameters sae, SparseCodes destination)
    {
        HostCodes codes = HostCodes.From(destination);
        codes.Begin(x.Rows);
        for (int first = 0, rows; first < x.Rows; first += rows)
        {
            rows = ChunkRows(x.Rows, first);
            EncodeRows(x.RowRange(first, rows), sae, codes);
        }
    }

    /// <inheritdoc/>
    protected override void SaeEncodeNearCore(Mat x, SaeParameters sae, SparseCodes destination, float distance, SparseCodes near)
    {
        HostCodes codes = HostCodes.From(destination), nearCodes = HostCodes.From(near);
        codes.Begin(x.Rows);
        nearCodes.Begin(x.Rows);
        for (int first = 0, rows; first < x.Rows; first += rows)
        {
            rows = ChunkRows(x.Rows, first);
            EncodeRows(x.RowRange(first, rows), sae, codes, distance, nearCodes);
        }
    }

    private void EncodeRows(Mat x, SaeParameters sae, HostCodes codes, float distance = 0, HostCodes? near = null)
    {
        CpuWeight encoder = CpuWeight.From(sae.Encoder);
        var job = new SaeEncodeJob
        {
            Product = Prepare(x, encoder, _saePrecision),
            Bias = HostBuffer.Pointer(sae.EncoderBias),
            Threshold = HostBuffer.Pointer(sae.Threshold),
            Lists = _lists.First,
            NearLists = _nearLists.First,
            Distance = distance,
        };
        int width = job.Product.UnitOutputs;
        int units = Ceiling(sae.FeatureCount, width), kinds = near is null ? 1 : 2;
        job.UnitCount = units;
        job.Units = (EncodedUnit*)_own.Bytes((long)kinds * units * sizeof(EncodedUnit));
        job.NearUnits = job.Units + units;
        job.Counts = (int*)_counts.Bytes((long)kinds * units * x.Rows * sizeof(int));
        job.NearCounts = job.Counts + ((long)units * x.Rows);
        for (int worker = 0; worker < _pool.Workers; worker++)
            job.Lists[worker].Count = job.NearLists[worker].Count = 0;
        Share(&job.Product, (long)x.Rows * width);
        Multiply(near is null ? _kernels.SaeEncode : _kernels.SaeEncodeNear, &job, encoder, units);
        Join(codes, x.Rows, units, job.Units, job.Counts, job.Lists, sae.TopK);
        if (near is not null)
            Join(near, x.Rows, units, job.NearUnits, job.NearCounts, job.NearLists, most: 0);
    }

    /// <summary>What the units of an encode found, row by row.</summary>
    private static void Join(HostCodes codes, int rows, int units, EncodedUnit* unitsFound, int* counts, EntryList* lists, int most)
    {
        for (int t = 0; t < rows; t++)
        {
            for (int unit = 0; unit < units; unit++)
            {
                int count = counts[((long)t * units) + unit];
                EncodedUnit* found = unitsFound + unit;
                EntryList* list = lists + found->Worker;
                codes.Add(new ReadOnlySpan<int>(list->Features + found->Next, count),
                    new ReadOnlySpan<float>(list->Values + found->Next, count));
                found->Next += count;
            }

            codes.EndRow(most);
        }
    }

    /// <inheritdoc/>
    protected override void SaeDecodeCore(SparseCodes codes, SaeParameters sae, Mat destination)
    {
        CodeList list = HostCodes.From(codes).List;
        CpuWeight decoder = CpuWeight.From(sae.Decoder);
        fixed (long* starts = list.RowStart)
        fixed (int* features = list.Feature)
        fixed (float* values = list.Value)
        {
            var job = new SaeDecodeJob
            {
                Parts = decoder.Stored,
                PartCount = decoder.Count,
                Features = sae.FeatureCount,
                Outputs = sae.OutputDim,
                Bias = HostBuffer.Pointer(sae.DecoderBias),
                RowStart = starts,
                Feature = features,
                Value = values,
                Y = HostBuffer.Pointer(destination),
                Stride = destination.Stride,
                Rows = destination.Rows,
                UnitRows = destination.Rows >= 2 * DecodeRows ? DecodeRows : 1,
            };
            // Rows of weights are read from end to end where there are rows of codes for all workers. How they are cut changes no sum, so it may depend on the number of workers.
            job.UnitOutputs = Ceiling(Ceiling(sae.OutputDim, Ceiling(_pool.Workers, Ceiling(job.Rows, job.UnitRows))), 32) * 32;
            int ranges = DecodeRanges(decoder, job.Rows, list.Count);
            if (ranges > 1)
                DecodeByRanges(&job, ranges);
            else
                DecodeRowsUpTo(&job, job.Rows);
        }

        GC.KeepAlive(decoder);
    }

    /// <summary>The rows of a block go on by one range of features after the other.</summary>
    private void DecodeByRanges(SaeDecodeJob* job, int ranges)
    {
        job->Next = (long*)_own.Bytes((long)job->Rows * sizeof(long));
        new ReadOnlySpan<long>(job->RowStart, job->Rows).CopyTo(new Span<long>(job->Next, job->Rows));
        for (; job->FirstRow < job->Rows; job->FirstRow = job->EndRow)
        {
            for (int range = 1; range <= ranges; range++)
            {
                job->EndFeature = (int)((long)job->Features * range / ranges);
                DecodeRowsUpTo(job, Math.Min(job->FirstRow + DecodeBlock, job->Rows));
            }
        }
    }

    private void DecodeRowsUpTo(SaeDecodeJob* job, int end)
    {
        job->EndRow = end;
        _pool.Run(_kernels.SaeDecode, job, Ceiling(end - job->FirstRow, job->UnitRows) * Ceiling(job->Outputs, job->UnitOutputs));
    }

    // At least a unit for every worker.
    private int DecodeBlock => Math.Max(DecodeBlockRows, DecodeRows * _pool.Workers);

    /// <summary>Into how many ranges of features a decode is cut: 1 unless the rows are enough for all workers and a feature is active more than once in a block of them on average.</summary>
    /// <remarks>
    /// A quarter less time for 512 rows of 16k float32 features at 50 GB/s, 5 % at 85 GB/s. Not for types that are widened: their sums are not kept in registers, and reading them again cost 20 % where memory is fast.
    /// </remarks>
    private int DecodeRanges(CpuWeight decoder, int rows, int entries)
    {
        if (rows < 2 * DecodeRows * _pool.Workers || (double)entries * Math.Min(rows, DecodeBlock) / rows < decoder.Columns)
            return 1;
        long bytes = 0;
        foreach (HostPart part in decoder.Parts)
        {
            if (part.DType != DType.F32)
                return 1;
            bytes += part.Tensor.ByteLength;
        }

        return (int)Math.Max(1, Math.Min(bytes / DecodeRangeBytes, entries / rows / DecodeRangeFeatures));
    }

    /// <inheritdoc/>
    protected override void SaeEditCore(Mat read, SaeParameters sae, ReadOnlySpan<FeatureEdit> edits, Mat destination)
    {
        CpuWeight encoder = CpuWeight.From(sae.Encoder);
        CpuWeight decoder = CpuWeight.From(sae.Decoder);
        fixed (FeatureEdit* pinned = edits)
        {
            var job = new SaeEditJob
            {
                X = HostBuffer.Pointer(read),
                XStride = read.Stride,
                Inputs = sae.InputDim,
                Features = sae.FeatureCount,
                Encoder = encoder.Stored,
                Decoder = decoder.Stored,
                DecoderParts = decoder.Count,
                Bias = HostBuffer.Pointer(sae.EncoderBias),
                Threshold = HostBuffer.Pointer(sae.Threshold),
                Edits = pinned,
                EditCount = edits.Length,
                Strengths = _own.Floats((long)destination.Rows * edits.Length),
                Y = HostBuffer.Pointer(destination),
                Stride = destination.Stride,
            };
            _pool.Run(_kernels.SaeEdit, &job, destination.Rows);
        }

        GC.KeepAlive(encoder);
        GC.KeepAlive(decoder);
    }
}

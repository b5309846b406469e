using KernelScope.Devices;

namespace KernelScope.Cpu;

public sealed unsafe partial class CpuDevice
{
    // Fewer queries than this do not fill register tiles.
    private const int ManyQueries = 6;

    /// <inheritdoc/>
    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        AttendJob job = Job(q, cache, position, shape, destination);
        if (q.Rows < ManyQueries)
            AttendFew(&job, 1);
        else
            AttendMany(&job);
    }

    /// <inheritdoc/>
    /// <remarks>Sequences with few rows each, as in a decode step, are one run of the workers; the others have enough rows for runs of their own.</remarks>
    protected override void AttendCore(Mat q, ReadOnlySpan<SequenceRows> sequences, AttentionShape shape, Mat destination)
    {
        var few = (AttendJob*)_sequences.Bytes((long)sequences.Length * sizeof(AttendJob));
        int count = 0;
        foreach (SequenceRows s in sequences)
        {
            AttendJob job = Job(q.RowRange(s.FirstRow, s.RowCount), s.Cache, s.Position, shape,
                destination.RowRange(s.FirstRow, s.RowCount));
            if (s.RowCount < ManyQueries)
                few[count++] = job;
            else
                AttendMany(&job);
        }

        if (count > 0)
            AttendFew(few, count);
    }

    private static AttendJob Job(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination) => new()
    {
        Q = HostBuffer.Pointer(q),
        QStride = q.Stride,
        Rows = q.Rows,
        Cache = Slots(cache),
        Heads = shape.HeadCount,
        Position = position,
        Scale = shape.Scale,
        Cap = shape.Softcap,
        Window = shape.Window,
        Y = HostBuffer.Pointer(destination),
        Stride = destination.Stride,
    };

    private void AttendFew(AttendJob* jobs, int count)
    {
        var all = new AttendFewJob { Jobs = jobs, Count = count };
        long partials = 0;
        for (AttendJob* job = jobs; job < jobs + count; job++)
        {
            job->FirstBlock = job->FirstKey(job->Position) / AttendJob.BlockKeys;
            job->Blocks = ((job->Position + job->Rows - 1) / AttendJob.BlockKeys) - job->FirstBlock + 1;
            job->FirstUnit = all.Units;
            job->FirstMerge = all.Merges;
            all.Units += job->Rows * job->Cache.Heads * job->Blocks;
            all.Merges += job->Rows * job->Heads;
            partials += job->PartialsLength;
        }

        long scratchStride = (_kernels.AttendFewScratch(jobs) + 15) / 16 * 16;
        float* scratch = _work.Floats(scratchStride * _pool.Workers), partial = _own.Floats(partials);
        for (AttendJob* job = jobs; job < jobs + count; job++)
        {
            job->ScratchStride = scratchStride;
            job->Scratch = scratch;
            job->Partials = partial;
            partial += job->PartialsLength;
        }

        _pool.Run(_kernels.AttendFew, &all, all.Units);
        _pool.Run(_kernels.MergeAttendFew, &all, all.Merges);
    }

    private void AttendMany(AttendJob* job)
    {
        job->UnitRows = _kernels.AttendManyRows(job);
        job->ScratchStride = (_kernels.AttendManyScratch(job) + 15) / 16 * 16;
        job->Scratch = _work.Floats(job->ScratchStride * _pool.Workers);
        _pool.Run(_kernels.AttendMany, job, job->Cache.Heads * Ceiling(job->Rows, job->UnitRows));
    }

    /// <inheritdoc/>
    protected override void RopeThenStoreCore(Mat qkv, ReadOnlySpan<SequenceRows> sequences, Mat cosSin)
    {
        int rows = 0;
        foreach (SequenceRows s in sequences)
            rows += s.RowCount;
        var places = (RowPlace*)_sequences.Bytes((long)rows * sizeof(RowPlace));
        rows = 0;
        foreach (SequenceRows s in sequences)
        {
            for (int t = 0; t < s.RowCount; t++)
                places[rows++] = new RowPlace { Row = s.FirstRow + t, Position = s.Position + t, Cache = Slots(s.Cache) };
        }

        RowJob job = Rows(qkv, qkv, 0);
        job.Rows = rows;
        job.Gain = HostBuffer.Pointer(cosSin);
        job.ZStride = cosSin.Stride;
        job.HeadDim = cosSin.Columns;
        job.Places = places;
        Run(_kernels.RopeThenStore, &job);
    }
}

using KernelScope.Devices;

namespace KernelScope.Cpu;

public sealed unsafe partial class CpuDevice
{
    // Fewer queries than this do not fill register tiles.
    private const int ManyQueries = 6;

    /// <inheritdoc/>
    protected override void AttendCore(Mat q, KvLayer cache, int position, AttentionShape shape, Mat destination)
    {
        var job = new AttendJob
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
        if (q.Rows < ManyQueries)
            AttendFew(&job);
        else
            AttendMany(&job);
    }

    private void AttendFew(AttendJob* job)
    {
        job->FirstBlock = job->FirstKey(job->Position) / AttendJob.BlockKeys;
        job->Blocks = ((job->Position + job->Rows - 1) / AttendJob.BlockKeys) - job->FirstBlock + 1;
        job->ScratchStride = (_kernels.AttendFewScratch(job) + 15) / 16 * 16;
        job->Scratch = _work.Floats(job->ScratchStride * _pool.Workers);
        job->Partials = _own.Floats((long)job->Rows * job->Heads * job->Blocks * job->PartialLength);
        _pool.Run(_kernels.AttendFew, job, job->Rows * job->Cache.Heads * job->Blocks);
        _pool.Run(_kernels.MergeAttendFew, job, job->Rows * job->Heads);
    }

    private void AttendMany(AttendJob* job)
    {
        job->UnitRows = _kernels.AttendManyRows(job);
        job->ScratchStride = (_kernels.AttendManyScratch(job) + 15) / 16 * 16;
        job->Scratch = _work.Floats(job->ScratchStride * _pool.Workers);
        _pool.Run(_kernels.AttendMany, job, job->Cache.Heads * Ceiling(job->Rows, job->UnitRows));
    }
}

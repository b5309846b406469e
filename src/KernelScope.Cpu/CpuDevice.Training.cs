using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cpu;

public sealed unsafe partial class CpuDevice
{
    // Lists of one unit of a sparse product: some long ones are then spread over the workers.
    private const int SparseRows = 8;

    /// <inheritdoc/>
    /// <remarks>A decode without a bias, whose decoder is x.</remarks>
    protected override void SparseProductCore(SparseCodes codes, int firstRow, Mat x, Mat destination)
    {
        CodeList list = HostCodes.From(codes).List;
        if (x.Columns == 1)
        {
            SumLists(list, firstRow, x, destination);
            return;
        }

        float* none = _own.Floats(destination.Columns);
        new Span<float>(none, destination.Columns).Clear();
        var part = new StoredMatrix { Pointer = (byte*)HostBuffer.Pointer(x), DType = DType.F32, Outputs = x.Columns, Transposed = true };
        fixed (long* starts = list.RowStart)
        fixed (int* features = list.Feature)
        fixed (float* values = list.Value)
        {
            var job = new SaeDecodeJob
            {
                Parts = &part,
                PartCount = 1,
                Features = codes.FeatureCount,
                Outputs = x.Columns,
                Bias = none,
                RowStart = starts + firstRow,
                Feature = features,
                Value = values,
                Y = HostBuffer.Pointer(destination),
                Stride = destination.Stride,
                Rows = destination.Rows,
                UnitRows = destination.Rows >= 2 * SparseRows ? SparseRows : 1,
            };
            job.UnitOutputs = Ceiling(Ceiling(job.Outputs, Ceiling(_pool.Workers, Ceiling(job.Rows, job.UnitRows))), 32) * 32;
            DecodeRowsUpTo(&job, job.Rows);
        }
    }

    /// <summary>A product with one column, with the bits of the decode's: a vector for each entry would be as slow as 200 columns.</summary>
    private void SumLists(CodeList list, int firstRow, Mat x, Mat destination)
    {
        fixed (long* starts = list.RowStart)
        fixed (int* indices = list.Feature)
        fixed (float* values = list.Value)
        {
            var job = new SparseDotJob
            {
                RowStart = starts + firstRow,
                Index = indices,
                Value = values,
                W = HostBuffer.Pointer(destination),
                WStride = destination.Stride,
                X = HostBuffer.Pointer(x),
                Rows = destination.Rows,
                UnitRows = SparseRows,
            };
            _pool.Run(&SumsOfLists, &job, Ceiling(job.Rows, SparseRows));
        }
    }

    private static void SumsOfLists(void* argument, int unit, int worker)
    {
        var job = (SparseDotJob*)argument;
        int end = Math.Min((unit + 1) * job->UnitRows, job->Rows);
        for (int r = unit * job->UnitRows; r < end; r++)
        {
            float sum = 0;
            for (long n = job->RowStart[r]; n < job->RowStart[r + 1]; n++)
                sum = float.MultiplyAddEstimate(job->Value[n], job->X[job->Index[n]], sum);
            job->W[r * job->WStride] = sum;
        }
    }

    /// <inheritdoc/>
    protected override void SparseDotCore(SparseCodes codes, Mat w, Mat x, float scale, float offset, SparseCodes destination)
    {
        CodeList source = HostCodes.From(codes).List;
        HostCodes result = HostCodes.From(destination);
        result.CopyIndices(source);
        fixed (long* starts = source.RowStart)
        fixed (int* indices = source.Feature)
        fixed (float* values = result.List.Value)
        {
            var job = new SparseDotJob
            {
                RowStart = starts,
                Index = indices,
                Value = values,
                W = HostBuffer.Pointer(w),
                WStride = w.Stride,
                X = HostBuffer.Pointer(x),
                XStride = x.Stride,
                Columns = x.Columns,
                Scale = scale,
                Offset = offset,
                Rows = source.Rows,
                UnitRows = SparseRows,
            };
            _pool.Run(_kernels.SparseDot, &job, Ceiling(source.Rows, SparseRows));
        }
    }

    /// <inheritdoc/>
    protected override void AdamRowsCore(Mat gradient, AdamStep step, Mat secondMoment, Mat parameters, Mat squaredNorms)
    {
        var job = new AdamJob
        {
            G = HostBuffer.Pointer(gradient),
            GStride = gradient.Stride,
            Moment = HostBuffer.Pointer(secondMoment),
            MomentStride = secondMoment.Stride,
            P = HostBuffer.Pointer(parameters),
            PStride = parameters.Stride,
            Norms = HostBuffer.Pointer(squaredNorms),
            NormsStride = squaredNorms.Stride,
            Rows = gradient.Rows,
            Columns = gradient.Columns,
            UnitRows = Math.Max(1, UnitElements / Math.Max(1, gradient.Columns)),
            Step = step,
        };
        _pool.Run(_kernels.AdamRows, &job, Ceiling(job.Rows, job.UnitRows));
    }

    /// <inheritdoc/>
    protected override void SquaredNormsCore(Mat x, Mat destination)
    {
        RowJob job = Rows(x, destination, 0);
        job.Columns = x.Columns;
        Run(&SquaredNormsOfRows, &job);
    }

    private static void SquaredNormsOfRows(void* argument, int unit, int worker)
    {
        var job = (RowJob*)argument;
        int end = Math.Min((unit + 1) * job->UnitRows, job->Rows);
        for (int t = unit * job->UnitRows; t < end; t++)
            job->Y[t * job->YStride] = (float)Norm.SumOfSquares(job->X + (t * job->XStride), job->Columns);
    }
}

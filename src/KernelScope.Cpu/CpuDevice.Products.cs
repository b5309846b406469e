using KernelScope.Cpu.MachineCode;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;

namespace KernelScope.Cpu;

public sealed unsafe partial class CpuDevice
{
    /// <inheritdoc/>
    protected override void LinearCore(Mat x, Weight weight, Mat destination)
    {
        CpuWeight w = CpuWeight.From(weight);
        for (int first = 0, rows; first < x.Rows; first += rows)
        {
            rows = ChunkRows(x.Rows, first);
            Mat y = destination.RowRange(first, rows);
            var job = new LinearJob
            {
                Product = Prepare(x.RowRange(first, rows), w, Precision),
                Y = HostBuffer.Pointer(y),
                Stride = y.Stride
            };
            Share(&job.Product, 0);
            Multiply(_kernels.Linear, &job, w, Ceiling(w.Rows, job.Product.UnitOutputs));
        }
    }

    /// <inheritdoc/>
    /// <remarks>A stored matrix [out, in] is an [in, out] one of the product transposed; where a weight has several, their products add up.</remarks>
    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination)
    {
        CpuWeight w = CpuWeight.From(weight);
        for (int first = 0, rows; first < x.Rows; first += rows)
        {
            rows = ChunkRows(x.Rows, first);
            Mat y = destination.RowRange(first, rows);
            for (int p = 0; p < w.Parts.Length; p++)
            {
                HostPart part = w.Parts[p];
                Mat own = x.RowRange(first, rows).ColumnRange(part.FirstRow, part.Rows);
                var turned = new StoredMatrix
                {
                    Pointer = part.Pointer,
                    DType = part.DType,
                    Outputs = part.Columns,
                    Inputs = part.Rows,
                    Transposed = !part.Transposed
                };
                var product = new Product
                {
                    X = HostBuffer.Pointer(own),
                    XStride = own.Stride,
                    Rows = rows,
                    Inputs = part.Rows,
                    Outputs = part.Columns,
                    Parts = &turned,
                    PartCount = 1,
                    Adds = p > 0
                };
                Begin(&product,
                    ProductPlan.Transposed(WeightTraits.From(new ReadOnlySpan<StoredMatrix>(in turned), part.Rows, part.Columns), _traits));
                var job = new LinearJob { Product = product, Y = HostBuffer.Pointer(y), Stride = y.Stride };
                Share(&job.Product, 0);
                _pool.Run(_kernels.Linear, &job, Ceiling(part.Columns, job.Product.UnitOutputs));
            }
        }

        GC.KeepAlive(w);
    }

    /// <inheritdoc/>
    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        CpuWeight w = CpuWeight.From(gateUp);
        for (int first = 0, rows; first < x.Rows; first += rows)
        {
            rows = ChunkRows(x.Rows, first);
            Mat y = destination.RowRange(first, rows);
            var job = new LinearJob
            {
                Product = Prepare(x.RowRange(first, rows), w, Precision),
                Y = HostBuffer.Pointer(y),
                Stride = y.Stride
            };
            // Of each unit half are gate values and half up values, in whole tiles.
            job.Product.UnitOutputs = Math.Max(32, job.Product.UnitOutputs / 2 / 32 * 32);
            Share(&job.Product, 2L * rows * job.Product.UnitOutputs);
            Multiply(_kernels.GatedGelu, &job, w, Ceiling(w.Rows / 2, job.Product.UnitOutputs));
        }
    }

    /// <inheritdoc/>
    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        CpuWeight w = CpuWeight.From(unembedding);
        for (int first = 0, rows; first < x.Rows; first += rows)
        {
            rows = ChunkRows(x.Rows, first);
            fixed (int* pinned = targets[first..])
            {
                var job = new CrossEntropyJob { Product = Prepare(x.RowRange(first, rows), w, Precision), Cap = cap, Targets = pinned };
                job.BlockOutputs = job.Product.UnitOutputs;
                // Few slices, so that their maxima and sums are few too.
                job.Product.UnitOutputs *= Math.Max(1, 2048 / job.BlockOutputs);
                int units = Ceiling(w.Rows, job.Product.UnitOutputs);
                Share(&job.Product, (long)rows * job.BlockOutputs);
                job.Parts = (SoftmaxPart*)_own.Bytes((long)units * rows * sizeof(SoftmaxPart));
                job.TargetLogits = (float*)_counts.Bytes((long)rows * sizeof(float));
                Multiply(_kernels.CrossEntropy, &job, w, units);
                for (int t = 0; t < rows; t++)
                    HostBuffer.Row(destination, first + t)[0] = _kernels.MergeCrossEntropy(&job, units, t);
            }
        }
    }

    /// <summary>Rows of the chunk that begins at <paramref name="first"/>: chunks of nearly equal size.</summary>
    private static int ChunkRows(int rows, int first) => Math.Min(rows - first, Ceiling(rows, Ceiling(rows, ProductPlan.MaxRows)));

    /// <summary>Describes a product and chooses its kernels.</summary>
    private Product Prepare(Mat x, CpuWeight weight, Precision precision)
    {
        var product = new Product
        {
            X = HostBuffer.Pointer(x),
            XStride = x.Stride,
            Rows = x.Rows,
            Inputs = weight.Columns,
            Outputs = weight.Rows,
            Parts = weight.Matrices,
            PartCount = weight.Count,
        };
        Begin(&product, ProductPlan.Choose(x.Rows, weight.Traits, precision, _traits));
        return product;
    }

    /// <summary>Runs an op whose units, together, multiply by the whole weight.</summary>
    /// <exception cref="InvalidDataException">The weight's panels, read for the first time, are damaged; what the op wrote means nothing.</exception>
    private void Multiply(delegate*<void*, int, int, void> op, void* job, CpuWeight weight, int units)
    {
        _pool.Run(op, job, units);
        weight.Conclude();
        GC.KeepAlive(weight);
    }

    /// <summary>Takes a plan on: memory for packed rows.</summary>
    private void Begin(Product* product, in ProductPlan plan)
    {
        product->Plan = plan;
        product->UnitOutputs = plan.UnitOutputs;
        if (plan.PackedRows == 0)
            return;
        product->PaddedRows = Ceiling(product->Rows, plan.PackedRows) * plan.PackedRows;
        bool pairs = plan[StoredForms.OutputsFirst] == ProductKernel.Bf16Tiles;
        if (pairs)
            product->Bf16 = new Bf16Tiles { Tall = _bf16!.Tile(Bf16Code.TallRows), Low = _bf16.Tile(Bf16Code.LowRows) };
        product->PackedX = _packed.Floats((long)product->PaddedRows * (pairs ? Ceiling(product->Inputs, 2) : product->Inputs));
    }

    /// <summary>Gives every worker memory for a weight panel and <paramref name="own"/> values of the op's, and packs x where kernels want that.</summary>
    private void Share(Product* product, long own)
    {
        product->ScratchStride = (((long)product->PanelOutputs * product->PanelInputs) + own + 1023) / 1024 * 1024;
        product->Scratch = _work.Floats(product->ScratchStride * _pool.Workers);
        if (product->PackedX != null)
            _pool.Run(product->Bf16.Exist ? _kernels.PackBf16X : _kernels.PackX, product, Ceiling(product->Rows, product->Plan.PackedRows));
    }
}

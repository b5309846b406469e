using KernelScope.Cpu.MachineCode;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cpu;

public sealed unsafe partial class CpuDevice
{
    // With more rows than this, packing weights into panels pays.
    private const int DotRows = 16;

    // The same of weights stored [in, out] where vectors are narrow.
    private const int NarrowStripRows = 32;

    // Up to here weights stored [in, out] are copied ahead, if the vectors have the registers for a tile that leaves time to copy. Kernels of such weights sum in the order of the inputs,
    // all of them: of several rows none shows in its bits which kernel computed it.
    private const int AheadRows = 192;
    private const int AheadLanes = 16;

    // The same where two-byte weights are packed already: widening them once for many rows costs little. Up to here a row's bits do not depend on the rows beside it.
    private const int PairDotRows = 8;

    // Rows that meet a packed weight panel: enough to hide the packing, few enough to keep x in the caches.
    private const int MaxRows = 768;

    // A weight panel of 295 kB stays in a second-level cache beside the rows of x that pass over it; measured best of 128 … 256 by 128 … 1024.
    private const int PanelOutputs = 192;
    private const int PanelInputs = 384;

    // Of stored rows [in, out], what a worker reads at a time: a page.
    private const int RunBytes = 4096;

    // Weights of one unit. A worker takes units in order, so they are one stream; small ones let both ends meet.
    private const int UnitBytes = 1 << 17;

    /// <inheritdoc/>
    protected override void LinearCore(Mat x, Weight weight, Mat destination)
    {
        HostWeight w = HostWeight.Of(weight);
        for (int first = 0, rows; first < x.Rows; first += rows)
        {
            rows = ChunkRows(x.Rows, first);
            Mat y = destination.RowRange(first, rows);
            var job = new LinearJob { Product = Prepare(x.RowRange(first, rows), w, Precision), Y = HostBuffer.Pointer(y), Stride = y.Stride };
            Share(&job.Product, 0);
            Multiply(_kernels.Linear, &job, w, &job.Product, Ceiling(w.Rows, job.Product.UnitOutputs));
        }
    }

    /// <inheritdoc/>
    /// <remarks>A stored matrix [out, in] is an [in, out] one of the product turned round; where a weight has several, their products add up.</remarks>
    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination)
    {
        HostWeight w = HostWeight.Of(weight);
        for (int first = 0, rows; first < x.Rows; first += rows)
        {
            rows = ChunkRows(x.Rows, first);
            Mat y = destination.RowRange(first, rows);
            for (int p = 0; p < w.Parts.Length; p++)
            {
                HostPart part = w.Parts[p];
                Mat own = x.RowRange(first, rows).ColumnRange(part.FirstRow, part.Rows);
                var turned = new StoredPart { Pointer = part.Pointer, DType = part.DType, Outputs = part.Columns, Transposed = !part.Transposed };
                var product = new Product { X = HostBuffer.Pointer(own), XStride = own.Stride, Rows = rows, Inputs = part.Rows, Outputs = part.Columns, Parts = &turned, PartCount = 1, Adds = p > 0 };
                UsePanels(ref product, turned.Transposed);
                var job = new LinearJob { Product = product, Y = HostBuffer.Pointer(y), Stride = y.Stride };
                Share(&job.Product, 0);
                _pool.Run(_kernels.Linear, &job, Ceiling(part.Columns, job.Product.UnitOutputs));
            }
        }
    }

    /// <inheritdoc/>
    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        HostWeight w = HostWeight.Of(gateUp);
        for (int first = 0, rows; first < x.Rows; first += rows)
        {
            rows = ChunkRows(x.Rows, first);
            Mat y = destination.RowRange(first, rows);
            var job = new LinearJob { Product = Prepare(x.RowRange(first, rows), w, Precision), Y = HostBuffer.Pointer(y), Stride = y.Stride };
            // Of each unit half are gate values and half up values, in whole tiles.
            job.Product.UnitOutputs = Math.Max(32, job.Product.UnitOutputs / 2 / 32 * 32);
            Share(&job.Product, 2L * rows * job.Product.UnitOutputs);
            Multiply(_kernels.GatedGelu, &job, w, &job.Product, Ceiling(w.Rows / 2, job.Product.UnitOutputs));
        }
    }

    /// <inheritdoc/>
    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        HostWeight w = HostWeight.Of(unembedding);
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
                Multiply(_kernels.CrossEntropy, &job, w, &job.Product, units);
                for (int t = 0; t < rows; t++)
                    HostBuffer.Row(destination, first + t)[0] = _kernels.MergeCrossEntropy(&job, units, t);
            }
        }
    }

    /// <summary>Rows of the chunk that begins at <paramref name="first"/>: chunks of nearly equal size.</summary>
    private static int ChunkRows(int rows, int first) => Math.Min(rows - first, Ceiling(rows, Ceiling(rows, MaxRows)));

    /// <summary>Describes a product and chooses its kernels by rows, storage and sizes.</summary>
    private Product Prepare(Mat x, HostWeight weight, Precision precision)
    {
        var product = new Product
        {
            X = HostBuffer.Pointer(x),
            XStride = x.Stride,
            Rows = x.Rows,
            Inputs = weight.Columns,
            Outputs = weight.Rows,
            Parts = PartsOf(weight, _parts),
            PartCount = weight.Parts.Length,
        };
        bool turned = false, allTurned = true, packed = true;
        int elementSize = 0;
        for (int p = 0; p < product.PartCount; p++)
        {
            bool isTurned = product.Parts[p].Transposed && product.Parts[p].Panels == null;
            turned |= isTurned;
            allTurned &= isTurned;
            packed &= product.Parts[p].Panels != null;
            elementSize = Math.Max(elementSize, product.Parts[p].DType.ByteSize());
        }

        product.RoundsWeights = precision == Precision.Fast;
        if (product.RoundsWeights && _bf16 is not null && x.Rows > DotRows)
            PrepareBf16(&product);
        else if (product.RoundsWeights)
            RoundX(&product);
        if (product.Bf16.Exist)
            return product;
        bool narrow = _kernels.Lanes < AheadLanes;
        if (x.Rows <= (packed && elementSize == 2 ? PairDotRows : allTurned && narrow ? NarrowStripRows : DotRows))
            product.UnitOutputs = turned ? StripOutputs(product.Outputs, elementSize) : DotOutputs(product.Inputs, elementSize);
        else if (allTurned && !narrow && x.Rows <= AheadRows && product.Outputs >= 8 * AheadPanel.Outputs)
            CopyAhead(ref product);
        else
            UsePanels(ref product, turned);
        return product;
    }

    /// <summary>Runs an op whose units, together, multiply by the whole weight.</summary>
    /// <exception cref="InvalidDataException">The weight's panels, read for the first time, are damaged; what the op wrote means nothing.</exception>
    private void Multiply(delegate*<void*, int, int, void> op, void* job, HostWeight weight, Product* product, int units)
    {
        _pool.Run(op, job, units);
        for (int p = 0; p < product->PartCount; p++)
        {
            if (product->Parts[p].Checksums != null)
                weight.Parts[p].Panels.Guard!.Conclude(product->Parts[p].Damaged - 1);
        }
    }

    private static int DotOutputs(int inputs, int elementSize) => (int)Math.Clamp(UnitBytes / Math.Max(1, (long)inputs * elementSize) / 32 * 32, 32, 256);

    /// <summary>Outputs of a strip: a page of each stored row where there are many, and a few strips for the workers to share where there are not.</summary>
    private static int StripOutputs(int outputs, int elementSize) => Math.Clamp(outputs / 8 / 64 * 64, 64, RunBytes / elementSize);

    private static void CopyAhead(ref Product product)
    {
        product.CopiesAhead = true;
        product.PanelOutputs = AheadPanel.Outputs;
        product.PanelInputs = 2 * AheadPanel.Inputs;
        product.UnitOutputs = Math.Clamp(product.Outputs / 8 / AheadPanel.Outputs, 1, 2) * AheadPanel.Outputs;
    }

    private void UsePanels(ref Product product, bool transposed)
    {
        // Stored rows are read in runs of a panel's inputs, or of its outputs where they are [in, out]: the longer side lies along them.
        UsePanels(ref product, transposed ? PanelInputs : PanelOutputs, transposed ? PanelOutputs : PanelInputs, _kernels.TileRows);
        product.PackedX = _packed.Floats((long)product.PaddedRows * product.Inputs);
    }

    private static void UsePanels(ref Product product, int outputs, int inputs, int tileRows)
    {
        product.PanelOutputs = outputs;
        product.PanelInputs = inputs;
        product.UnitOutputs = Math.Clamp(product.Outputs / 8 / 32 * 32, 32, outputs);
        product.PaddedRows = Ceiling(product.Rows, tileRows) * tileRows;
    }

    /// <summary>Gives every worker memory for a weight panel and <paramref name="own"/> values of the op's, and packs x where kernels want that.</summary>
    private void Share(Product* product, long own)
    {
        product->ScratchStride = (((long)product->PanelOutputs * product->PanelInputs) + own + 1023) / 1024 * 1024;
        product->Scratch = _work.Floats(product->ScratchStride * _pool.Workers);
        if (product->PackedX != null)
            _pool.Run(product->Bf16.Exist ? _kernels.PackBf16X : _kernels.PackX, product, Ceiling(product->Rows, product->Bf16.Exist ? Bf16Code.TallRows : _kernels.TileRows));
    }

    private void PrepareBf16(Product* product)
    {
        product->Bf16 = new Bf16Tiles { Tall = _bf16!.Tile(Bf16Code.TallRows), Low = _bf16.Tile(Bf16Code.LowRows) };
        UsePanels(ref *product, PanelOutputs, PanelInputs, Bf16Code.TallRows);
        product->PackedX = _packed.Floats((long)product->PaddedRows * Ceiling(product->Inputs, 2));
    }

    /// <summary>Takes a rounded copy of x in its place.</summary>
    private void RoundX(Product* product)
    {
        float* rounded = _rounded.Floats((long)product->Rows * product->Inputs);
        var job = new RowJob { X = product->X, XStride = product->XStride, Y = rounded, YStride = product->Inputs, Rows = product->Rows, Columns = product->Inputs };
        Run(_kernels.RoundBf16, &job);
        product->X = rounded;
        product->XStride = product->Inputs;
    }
}

using System.Numerics;
using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Cuda.Ptx;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cuda;

/// <summary>Products with a weight, and what is fused into them.</summary>
public sealed partial class CudaDevice
{
    /// <summary>Rows up to which a product reads the weights once for all of them; more go through tiles.</summary>
    public const int FewRows = 8;

    /// <summary>
    /// Tokens of one call of a session that is not told otherwise: products of 2,304 outputs then make 256 tiles, for which a GPU has some 132 multiprocessors; of 256 tokens it would be 32.
    /// </summary>
    public const int PreferredChunkLength = 2048;

    /// <summary>The oldest device with bf16 tensor cores and asynchronous copies.</summary>
    private const int TensorCapability = 80;

    /// <summary>Values of a row that a block of <c>split</c> takes.</summary>
    private const int SplitColumns = 1024;

    /// <summary>Pieces of a matrix have a multiple of these rows: a tile of products in exact, half of one in fast.</summary>
    private const int RowStep = 64;

    /// <summary>
    /// Groups that share a product's inputs where x has at least <see cref="RingSplitColumns"/>: eight rows of them, 256 KiB, do not fit into an L1 cache. Before <see cref="RingSplitCapability"/> memory is
    /// slower than the L2 cache that gives each group all of x, and sharing has only its cost.
    /// </summary>
    private const int RingQuarters = 4, RingSplitColumns = 8192, RingSplitCapability = 90;

    /// <summary>Rows of x whose logits are made at once by <see cref="CrossEntropyCore"/>.</summary>
    private const int LossRows = 512;

    /// <inheritdoc/>
    protected override void LinearCore(Mat x, Weight weight, Mat destination) =>
        Product(x, CudaWeight.From(this, weight), WeightLayout.OutputMajor, weight.Rows, destination);

    /// <inheritdoc/>
    /// <remarks>An input-major W is what <see cref="LinearCore"/> reads of Wᵀ. That second copy stays, so that the next backward pass brings nothing.</remarks>
    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination) =>
        Product(x, CudaWeight.From(this, weight), WeightLayout.InputMajor, weight.Columns, destination);

    private void Product(Mat x, CudaWeight w, WeightLayout layout, int outputs, Mat destination)
    {
        ulong weights = w.Address(layout);
        Operand all = Operand.From(this, x);
        bool tiled = x.Rows > FewRows;
        int most = RowsAtOnce(all, tiled, Options.Precision);
        for (int first = 0; first < all.Rows; first += most)
        {
            Operand rows = all.RowRange(first, Math.Min(most, all.Rows - first));
            long copyBytes = CopyBytes(rows, tiled, Options.Precision), partBytes = RingPartBytes(rows, w.Type, outputs);
            if (copyBytes + partBytes > 0)
                _scratch.Begin(copyBytes, partBytes);
            Linear(Copied(rows, copyBytes, Options.Precision), w, weights, outputs, tiled, AddressOfRow(destination, first),
                destination.Stride, partBytes > 0 ? _scratch.Take(partBytes) : 0);
        }
    }

    /// <inheritdoc/>
    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        CudaWeight w = CudaWeight.From(this, gateUp);
        ulong weights = w.Address(WeightLayout.OutputMajor);
        Operand all = Operand.From(this, x);
        bool tiled = x.Rows > FewRows;
        int most = RowsAtOnce(all, tiled, Options.Precision);
        for (int first = 0; first < all.Rows; first += most)
            GatedGeluOfRows(all.RowRange(first, Math.Min(most, all.Rows - first)), w, weights, tiled, AddressOfRow(destination, first),
                destination.Stride);
    }

    private void GatedGeluOfRows(Operand rows, CudaWeight w, ulong weights, bool tiled, ulong destination, int stride)
    {
        int outputs = w.Rows / 2;
        long bothBytes = tiled || IsWide(rows) ? 0 : (long)rows.Rows * w.Rows * sizeof(float);
        long copyBytes = CopyBytes(rows, tiled, Options.Precision);
        if (bothBytes + copyBytes > 0)
            _scratch.Begin(bothBytes, copyBytes);
        if (bothBytes > 0)
        {
            ulong both = _scratch.Take(bothBytes);
            Linear(new TileInput(rows), w, weights, w.Rows, tiled, both, w.Rows);
            _kernels.GeluMultiply().Launch(BeginOp(), new(rows.Rows, Blocks(outputs, ElementColumns)),
                gateUp: new(both, bothBytes / sizeof(float)), new(destination, ((rows.Rows - 1L) * stride) + outputs), outputs, w.Rows,
                stride);
            return;
        }

        TileInput input = Copied(rows, copyBytes, Options.Precision);
        View<Stored> matrix = new(weights, w.Length);
        if (input.IsPlanes)
            LaunchProduct(_kernels.GatedGemmTensor(w.Type, Options.Precision), input, matrix, outputs, destination, stride);
        else
            LaunchProduct(tiled ? _kernels.GatedGemmFma(w.Type) : UsesRing(w.Type, rows.Rows) ? _kernels.GatedGemvRing(w.Type)
                : _kernels.GatedGemv(w.Type, rows.Rows), input.Rows, matrix, outputs, tiled, destination, stride);
    }

    /// <inheritdoc/>
    /// <remarks>
    /// [rows, vocabulary] is never stored: up to <see cref="LossRows"/> rows at a time meet runs of the vocabulary, of as many logits as fit into
    /// <see cref="CudaDeviceOptions.WorkBytes"/> (1,024 a row at least), and of a run a largest value and a sum for each 1,024 logits are kept. Work space, whatever the rows and the
    /// vocabulary V: max(WorkBytes, 2 MiB) + 512·(8·⌈V/1024⌉ + 4) bytes, and for the copy of x (<see cref="CopyBytes"/>) at most 3,072·d more; for V = 256,000 and the default 65 MiB.
    /// </remarks>
    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        CudaWeight w = CudaWeight.From(this, unembedding);
        ulong weights = w.Address(WeightLayout.OutputMajor);
        bool tiled = x.Rows > FewRows;
        for (int first = 0; first < x.Rows; first += LossRows)
        {
            int count = Math.Min(LossRows, x.Rows - first);
            CrossEntropyOfRows(Operand.From(this, x.RowRange(first, count)), w, weights, cap, tiled, targets.Slice(first, count),
                destination.RowRange(first, count));
        }
    }

    private void CrossEntropyOfRows(Operand x, CudaWeight w, ulong weights, float cap, bool tiled, ReadOnlySpan<int> targets,
        Mat destination)
    {
        CrossEntropyPartKernel part = _kernels.CrossEntropyPart();
        int columnsOfPart = part.Info.TileColumns;
        long most = Math.Max(1, Options.WorkBytes / sizeof(float) / x.Rows / columnsOfPart) * columnsOfPart;
        int run = (int)Math.Min(w.Rows, most);
        int partCount = (int)Blocks(w.Rows, columnsOfPart);
        long logitBytes = (long)x.Rows * run * sizeof(float), partBytes = (long)x.Rows * partCount * 2 * sizeof(float);
        long copyBytes = CopyBytes(x, tiled, Options.Precision);
        _scratch.Begin(logitBytes, partBytes, x.Rows * sizeof(float), copyBytes);
        View<float> logits = new(_scratch.Take(logitBytes), logitBytes / sizeof(float));
        View<Vector2> parts = new(_scratch.Take(partBytes), (long)x.Rows * partCount);
        View<float> targetLogits = new(_scratch.Take(x.Rows * sizeof(float)), x.Rows);
        TileInput input = Copied(x, copyBytes, Options.Precision);
        for (int start = 0; start < w.Rows; start += run)
        {
            int columns = Math.Min(run, w.Rows - start);
            Linear(input, w, weights + (ulong)((long)start * w.Columns * w.ElementBytes), columns, tiled, logits.Address, run);
            LaunchQueue queue = BeginOp(targets.Length * sizeof(int));
            View<int> ids = queue.Upload(targets);
            part.Launch(queue, new(Blocks(columns, columnsOfPart), x.Rows), logits, ids, parts, targetLogits, cap, columns, stride: run,
                firstPart: start / columnsOfPart, partCount);
        }

        _kernels.CrossEntropyMerge().Launch(BeginOp(), new(x.Rows), parts, targetLogits, View(destination), partCount, destination.Stride);
    }

    /// <summary>y = x·Wᵀ for <paramref name="outputs"/> rows of W from <paramref name="weights"/> on; <paramref name="parts"/> is work space of <see cref="RingPartBytes"/>, if there is any.</summary>
    private void Linear(TileInput input, CudaWeight w, ulong weights, int outputs, bool tiled, ulong destination, int stride,
        ulong parts = 0)
    {
        Operand x = input.Rows;
        View<Stored> matrix = new(weights, (long)outputs * x.Columns);
        if (input.IsPlanes)
        {
            LaunchProduct(_kernels.GemmTensor(w.Type, Options.Precision), input, matrix, outputs, destination, stride);
        }
        else if (tiled)
        {
            LaunchProduct(_kernels.GemmFma(w.Type), x, matrix, outputs, tiled, destination, stride);
        }
        else if (IsWide(x))
        {
            Launch(new GemvLaunch(x, w.Type, weights, outputs, destination, stride) { Parts = parts }, cap: 0);
        }
        else
        {
            GemvPlainKernel kernel = _kernels.GemvPlain(w.Type);
            kernel.Launch(BeginOp(), new(Blocks(outputs, kernel.Info.TileColumns), x.Rows), x.View, matrix,
                new(destination, ((x.Rows - 1L) * stride) + outputs), x.Columns, outputs, x.Stride, stride);
        }
    }

    private void LaunchProduct(ProductKernel kernel, Operand x, View<Stored> weights, int outputs, bool tiled, ulong destination,
        int stride)
    {
        PtxKernelInfo tile = kernel.Info;
        kernel.Launch(BeginOp(), new(Blocks(outputs, tile.TileColumns), tiled ? Blocks(x.Rows, tile.TileRows) : 1), x.View, weights,
            new(destination, ((x.Rows - 1L) * stride) + outputs), x.Rows, x.Columns, outputs, x.Stride, stride);
    }

    private void LaunchProduct(TensorProductKernel kernel, TileInput x, View<Stored> weights, int outputs, ulong destination, int stride)
    {
        (PtxKernelInfo tile, int rows) = (kernel.Info, x.Rows.Rows);
        kernel.Launch(BeginOp(), new(Blocks(outputs, tile.TileColumns), Blocks(rows, tile.TileRows)), x.Planes, weights,
            new(destination, ((rows - 1L) * stride) + outputs), rows, x.Rows.Columns, outputs, stride);
    }

    /// <summary>
    /// Bytes of the copy of x that a product of many rows reads: planes of bfloat16 on tensor cores, three or one; values rounded to bfloat16 in fast without them, which then give what
    /// tensor cores would. 0 where x is read as it is: without tensor cores in exact, and by a product of few rows, which is exact at no cost.
    /// </summary>
    private long CopyBytes(Operand x, bool tiled, Precision precision)
    {
        bool fast = precision == Precision.Fast;
        int bytes = !tiled ? 0 : UsesTensorCores(x) ? (fast ? 1 : 3) * sizeof(ushort) : fast ? sizeof(float) : 0;
        return (long)x.Rows * x.Columns * bytes;
    }

    /// <summary>
    /// Rows whose copy fits into the work space, in whole tiles. Pieces have about the same length: a long one and a short one leave a device idle twice. Results do not depend on it.
    /// </summary>
    private int RowsAtOnce(Operand x, bool tiled, Precision precision)
    {
        long bytes = CopyBytes(x, tiled, precision);
        if (bytes <= Options.WorkBytes)
            return Math.Max(x.Rows, 1);
        int most = (int)Math.Max(Options.WorkBytes * x.Rows / bytes / RowStep, 1);
        long steps = Blocks(x.Rows, RowStep);
        return (int)Math.Min(Blocks(steps, (int)Blocks(steps, most)) * RowStep, x.Rows);
    }

    /// <summary>x as a product reads it, in work space that was asked for.</summary>
    private TileInput Copied(Operand x, long bytes, Precision precision)
    {
        if (bytes == 0)
            return new TileInput(x);
        ulong copy = _scratch.Take(bytes);
        if (UsesTensorCores(x))
        {
            View<Stored> planes = new(copy, bytes / sizeof(ushort));
            _kernels.Split(precision).Launch(BeginOp(), new(x.Rows, Blocks(x.Columns, SplitColumns)), x.View, planes, x.Columns, x.Stride);
            return new TileInput(x) { Planes = planes };
        }

        var rounded = new Operand(copy, x.Rows, x.Columns, x.Columns);
        _kernels.RoundToBf16().Launch(BeginOp(), new(x.Rows, Blocks(x.Columns, ElementColumns)), x.View, rounded.View, x.Columns, x.Stride,
            rounded.Stride);
        return new TileInput(rounded);
    }

    private ulong AddressOfRow(Mat x, int row) => Address(x) + (ulong)((long)row * x.Stride * sizeof(float));

    /// <summary>Whether rows of x, and with them those of W, begin at multiples of 16 bytes and have a multiple of 8 values, as the fast kernels demand.</summary>
    private static bool IsWide(Operand x) => x.Columns % 8 == 0 && x.IsAligned;

    /// <summary>Whether weights of two bytes wait in shared memory: beside five to eight rows, whose arithmetic would otherwise hold up the loads. The bits are the same.</summary>
    private bool UsesRing(DType weight, int rows) =>
        rows > FewRows / 2 && weight != DType.F32 && Description.ComputeCapability >= TensorCapability;

    /// <summary>Bytes of the sums that groups with a quarter of the inputs leave for the last of them; 0 where x is small, and every group reads it as a whole. The bits are the same.</summary>
    private long RingPartBytes(Operand x, DType weight, int outputs)
    {
        int least = Options.RingSplitColumns > 0 ? Options.RingSplitColumns
            : Description.ComputeCapability < RingSplitCapability ? int.MaxValue : RingSplitColumns;
        if (x.Columns < least || !UsesRing(weight, x.Rows) || x.Rows > FewRows || !IsWide(x))
            return 0;
        int tileColumns = _kernels.GemvRingSplit(weight).Info.TileColumns;
        long tiles = Blocks(outputs, tileColumns);
        return tiles > MostTickets ? 0 : tiles * RingQuarters * FewRows * tileColumns * sizeof(float);
    }

    private bool UsesTensorCores(Operand x) => Options.TensorCores && Description.ComputeCapability >= TensorCapability && IsWide(x);

    /// <summary>Rows of x, and where tensor cores multiply them their planes of bfloat16 [terms, rows, columns].</summary>
    private readonly record struct TileInput(Operand Rows)
    {
        public View<Stored> Planes { get; init; }

        public bool IsPlanes => Planes.Address != 0;
    }
}

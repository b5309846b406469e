using System.Numerics;
using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Cuda.Ptx;
using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>Products with a weight, and what is fused into them.</summary>
public sealed partial class CudaDevice
{
    /// <summary>Rows up to which a product reads the weights once for all of them; more go through tiles.</summary>
    public const int FewRows = 8;

    /// <summary>The oldest device with bf16 tensor cores and asynchronous copies.</summary>
    private const int TensorCapability = 80;

    /// <summary>Rows of x whose logits are made at once by <see cref="CrossEntropyCore"/>.</summary>
    private const int LossRows = 512;

    /// <inheritdoc/>
    protected override void LinearCore(Mat x, Weight weight, Mat destination) =>
        Product(x, CudaWeight.Of(this, weight), WeightLayout.OutputMajor, weight.Rows, destination);

    /// <inheritdoc/>
    /// <remarks>An input-major W is what <see cref="LinearCore"/> reads of Wᵀ. That second copy stays, so that the next backward pass brings nothing.</remarks>
    protected override void LinearTransposedCore(Mat x, Weight weight, Mat destination) =>
        Product(x, CudaWeight.Of(this, weight), WeightLayout.InputMajor, weight.Columns, destination);

    private void Product(Mat x, CudaWeight w, WeightLayout layout, int outputs, Mat destination)
    {
        ulong weights = w.Address(layout);
        Operand rows = Operand.Of(this, x);
        bool tiled = x.Rows > FewRows;
        long roundedBytes = RoundedBytes(rows, tiled, Options.Precision);
        if (roundedBytes > 0)
        {
            _scratch.Begin(roundedBytes);
            rows = Rounded(rows, roundedBytes);
        }

        Linear(rows, w, weights, outputs, tiled, Address(destination), destination.Stride);
    }

    /// <inheritdoc/>
    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        CudaWeight w = CudaWeight.Of(this, gateUp);
        ulong weights = w.Address(WeightLayout.OutputMajor);
        Operand rows = Operand.Of(this, x);
        int outputs = gateUp.Rows / 2;
        bool tiled = x.Rows > FewRows;
        long bothBytes = tiled || IsWide(rows) ? 0 : (long)x.Rows * gateUp.Rows * sizeof(float);
        long roundedBytes = RoundedBytes(rows, tiled, Options.Precision);
        if (bothBytes + roundedBytes > 0)
            _scratch.Begin(bothBytes, roundedBytes);
        if (bothBytes > 0)
        {
            ulong both = _scratch.Take(bothBytes);
            Linear(rows, w, weights, gateUp.Rows, tiled, both, gateUp.Rows);
            _kernels.GeluMultiply().Launch(BeginOp(), new(x.Rows, Blocks(outputs, ElementColumns)),
                gateUp: new(both, bothBytes / sizeof(float)), View(destination), outputs, gateUp.Rows, destination.Stride);
            return;
        }

        ProductKernel kernel = !tiled ? _kernels.GatedGemv(w.Type, x.Rows)
            : UsesTensorCores(rows) ? _kernels.GatedGemmTensor(w.Type, Options.Precision)
            : _kernels.GatedGemmFma(w.Type);
        rows = roundedBytes > 0 ? Rounded(rows, roundedBytes) : rows;
        LaunchProduct(kernel, rows, new(weights, w.Length), outputs, tiled, Address(destination), destination.Stride);
    }

    /// <inheritdoc/>
    /// <remarks>
    /// [rows, vocabulary] is never stored: up to <see cref="LossRows"/> rows at a time meet runs of the vocabulary, of as many logits as fit into
    /// <see cref="CudaDeviceOptions.WorkBytes"/> (1,024 a row at least), and of a run a largest value and a sum for each 1,024 logits are kept. Work space, whatever the rows and the
    /// vocabulary V: max(WorkBytes, 2 MiB) + 512·(8·⌈V/1024⌉ + 4) bytes, and 2,048·d more where the fast precision has no tensor cores; for V = 256,000 and the default 65 MiB.
    /// </remarks>
    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        CudaWeight w = CudaWeight.Of(this, unembedding);
        ulong weights = w.Address(WeightLayout.OutputMajor);
        bool tiled = x.Rows > FewRows;
        for (int first = 0; first < x.Rows; first += LossRows)
        {
            int count = Math.Min(LossRows, x.Rows - first);
            CrossEntropyOfRows(Operand.Of(this, x.RowRange(first, count)), w, weights, cap, tiled, targets.Slice(first, count),
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
        long roundedBytes = RoundedBytes(x, tiled, Options.Precision);
        _scratch.Begin(logitBytes, partBytes, x.Rows * sizeof(float), roundedBytes);
        View<float> logits = new(_scratch.Take(logitBytes), logitBytes / sizeof(float));
        View<Vector2> parts = new(_scratch.Take(partBytes), (long)x.Rows * partCount);
        View<float> targetLogits = new(_scratch.Take(x.Rows * sizeof(float)), x.Rows);
        if (roundedBytes > 0)
            x = Rounded(x, roundedBytes);
        for (int start = 0; start < w.Rows; start += run)
        {
            int columns = Math.Min(run, w.Rows - start);
            Linear(x, w, weights + (ulong)((long)start * w.Columns * w.ElementBytes), columns, tiled, logits.Address, run);
            LaunchQueue queue = BeginOp(targets.Length * sizeof(int));
            View<int> ids = queue.Upload(targets);
            part.Launch(queue, new(Blocks(columns, columnsOfPart), x.Rows), logits, ids, parts, targetLogits, cap, columns, stride: run,
                firstPart: start / columnsOfPart, partCount);
        }

        _kernels.CrossEntropyMerge().Launch(BeginOp(), new(x.Rows), parts, targetLogits, View(destination), partCount, destination.Stride);
    }

    /// <summary>y = x·Wᵀ for <paramref name="outputs"/> rows of W from <paramref name="weights"/> on.</summary>
    private void Linear(Operand x, CudaWeight w, ulong weights, int outputs, bool tiled, ulong destination, int stride)
    {
        View<Stored> matrix = new(weights, (long)outputs * x.Columns);
        if (tiled)
        {
            ProductKernel kernel = UsesTensorCores(x) ? _kernels.GemmTensor(w.Type, Options.Precision) : _kernels.GemmFma(w.Type);
            LaunchProduct(kernel, x, matrix, outputs, tiled, destination, stride);
        }
        else if (IsWide(x))
        {
            Launch(new GemvLaunch(x, w.Type, weights, outputs, destination, stride), cap: 0);
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

    /// <summary>
    /// Bytes of a rounded copy of x, 0 where none is needed: the tensor cores' kernels round by themselves, and a product of few rows is exact at no cost.
    /// What is left are tiles without tensor cores, which then give what tensor cores would.
    /// </summary>
    private long RoundedBytes(Operand x, bool tiled, Precision precision) =>
        precision == Precision.Fast && tiled && !UsesTensorCores(x) ? (long)x.Rows * x.Columns * sizeof(float) : 0;

    /// <summary>x rounded to bfloat16, in work space that was asked for.</summary>
    private Operand Rounded(Operand x, long bytes)
    {
        var rounded = new Operand(_scratch.Take(bytes), x.Rows, x.Columns, x.Columns);
        _kernels.RoundToBf16().Launch(BeginOp(), new(x.Rows, Blocks(x.Columns, ElementColumns)), x.View, rounded.View, x.Columns, x.Stride,
            rounded.Stride);
        return rounded;
    }

    /// <summary>Whether rows of x, and with them those of W, begin at multiples of 16 bytes and have a multiple of 8 values, as the fast kernels demand.</summary>
    private static bool IsWide(Operand x) => x.Columns % 8 == 0 && x.IsAligned;

    private bool UsesTensorCores(Operand x) => Options.TensorCores && Description.ComputeCapability >= TensorCapability && IsWide(x);
}

using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Devices;

namespace KernelScope.Cuda;

/// <summary>Products with a weight, and what is fused into them.</summary>
public sealed partial class CudaDevice
{
    /// <summary>Rows up to which a product reads the weights once for all of them; more go through tiles.</summary>
    private const int FewRows = 8;

    /// <summary>The oldest device with bf16 tensor cores and asynchronous copies.</summary>
    private const int TensorCapability = 80;

    /// <summary>Rows of x whose logits are made at once by <see cref="CrossEntropyCore"/>.</summary>
    private const int LossRows = 512;

    /// <inheritdoc/>
    protected override void LinearCore(Mat x, Weight weight, Mat destination)
    {
        CudaWeight w = CudaWeight.Of(this, weight);
        Linear(x, w, w.Address(WeightLayout.OutputMajor), weight.Rows, destination.Stride, Address(destination));
    }

    /// <inheritdoc/>
    protected override void GatedGeluCore(Mat x, Weight gateUp, Mat destination)
    {
        CudaWeight w = CudaWeight.Of(this, gateUp);
        ulong weights = w.Address(WeightLayout.OutputMajor);
        int outputs = gateUp.Rows / 2;
        bool wide = IsWide(x, w);
        if (x.Rows > FewRows)
        {
            Kernel kernel = UsesTensorCores(x, w) ? _kernels["gated_gemm_tensor", w.TypeName, Suffix(Options.Precision)] : _kernels["gated_gemm_fma", w.TypeName];
            LaunchProduct(kernel, x, weights, w.Length, outputs, Address(destination), destination.Stride, tiled: true);
        }
        else if (wide)
        {
            LaunchProduct(_kernels["gated_gemv", w.TypeName, RowsSuffix(x.Rows)], x, weights, w.Length, outputs, Address(destination), destination.Stride, tiled: false);
        }
        else
        {
            long bytes = (long)x.Rows * gateUp.Rows * sizeof(float);
            _scratch.Begin(bytes);
            ulong both = _scratch.Take(bytes);
            Linear(x, w, weights, gateUp.Rows, gateUp.Rows, both);
            BeginOp().Begin(_kernels["gelu_multiply"], x.Rows, Blocks(outputs, ElementColumns))
                .View(both, bytes / sizeof(float)).View(Address(destination), Span(destination))
                .Int(outputs).Int(gateUp.Rows).Int(destination.Stride).End();
        }
    }

    /// <inheritdoc/>
    protected override void CrossEntropyCore(Mat x, Weight unembedding, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        CudaWeight w = CudaWeight.Of(this, unembedding);
        ulong weights = w.Address(WeightLayout.OutputMajor);
        for (int first = 0; first < x.Rows; first += LossRows)
        {
            int count = Math.Min(LossRows, x.Rows - first);
            CrossEntropyOfRows(x.RowRange(first, count), w, weights, cap, targets.Slice(first, count), destination.RowRange(first, count));
        }
    }

    private void CrossEntropyOfRows(Mat x, CudaWeight w, ulong weights, float cap, ReadOnlySpan<int> targets, Mat destination)
    {
        Kernel part = _kernels["cross_entropy_part"];
        int columnsOfPart = part.Info.TileColumns;
        long most = Math.Max(1, Options.WorkBytes / sizeof(float) / x.Rows / columnsOfPart) * columnsOfPart;
        int run = (int)Math.Min(w.Rows, most);
        int partCount = (int)Blocks(w.Rows, columnsOfPart);
        long logitBytes = (long)x.Rows * run * sizeof(float), partBytes = (long)x.Rows * partCount * 2 * sizeof(float);
        _scratch.Begin(logitBytes, partBytes, x.Rows * sizeof(float));
        ulong logits = _scratch.Take(logitBytes), parts = _scratch.Take(partBytes), targetLogits = _scratch.Take(x.Rows * sizeof(float));
        for (int start = 0; start < w.Rows; start += run)
        {
            int columns = Math.Min(run, w.Rows - start);
            Linear(x, w, weights + (ulong)((long)start * w.Columns * w.ElementBytes), columns, run, logits);
            LaunchQueue queue = BeginOp(targets.Length * sizeof(int));
            ulong ids = queue.Upload(targets);
            queue.Begin(part, Blocks(columns, columnsOfPart), x.Rows)
                .View(logits, logitBytes / sizeof(float)).View(ids, targets.Length).View(parts, (long)x.Rows * partCount).View(targetLogits, x.Rows)
                .Float(cap).Int(columns).Int(run).Int(start / columnsOfPart).Int(partCount).End();
        }

        BeginOp().Begin(_kernels["cross_entropy_merge"], x.Rows)
            .View(parts, (long)x.Rows * partCount).View(targetLogits, x.Rows).View(Address(destination), Span(destination))
            .Int(partCount).Int(destination.Stride).End();
    }

    /// <summary>y = x·Wᵀ for <paramref name="outputs"/> rows of W from <paramref name="weights"/> on.</summary>
    private void Linear(Mat x, CudaWeight w, ulong weights, int outputs, int stride, ulong destination)
    {
        long length = (long)outputs * w.Columns;
        if (x.Rows > FewRows)
        {
            Kernel kernel = UsesTensorCores(x, w) ? _kernels["gemm_tensor", w.TypeName, Suffix(Options.Precision)] : _kernels["gemm_fma", w.TypeName];
            LaunchProduct(kernel, x, weights, length, outputs, destination, stride, tiled: true);
        }
        else if (IsWide(x, w))
        {
            LaunchProduct(_kernels["gemv", w.TypeName, RowsSuffix(x.Rows)], x, weights, length, outputs, destination, stride, tiled: false);
        }
        else
        {
            Kernel kernel = _kernels["gemv_plain", w.TypeName];
            BeginOp().Begin(kernel, Blocks(outputs, kernel.Info.TileColumns), x.Rows)
                .View(Address(x), Span(x)).View(weights, length).View(destination, ((x.Rows - 1L) * stride) + outputs)
                .Int(w.Columns).Int(outputs).Int(x.Stride).Int(stride).End();
        }
    }

    private void LaunchProduct(Kernel kernel, Mat x, ulong weights, long length, int outputs, ulong destination, int stride, bool tiled) =>
        BeginOp().Begin(kernel, Blocks(outputs, kernel.Info.TileColumns), tiled ? Blocks(x.Rows, kernel.Info.TileRows) : 1)
            .View(Address(x), Span(x) / ElementsOf(kernel, 0)).View(weights, length / ElementsOf(kernel, 1)).View(destination, ((x.Rows - 1L) * stride) + outputs)
            .Int(x.Rows).Int(x.Columns).Int(outputs).Int(x.Stride).Int(stride).End();

    /// <summary>Values of an element of a view: kernels read 16 bytes at a time.</summary>
    private static int ElementsOf(Kernel kernel, int parameter) => kernel.Info.Parameters[parameter].Type switch
    {
        "f32x4[]" => 4,
        "b32x4[]" => 8,
        _ => 1,
    };

    /// <summary>Whether rows of x and of W begin at multiples of 16 bytes and have a multiple of 8 values, as the fast kernels demand.</summary>
    private bool IsWide(Mat x, CudaWeight w) => w.Columns % 8 == 0 && IsAligned(x);

    private bool IsAligned(Mat x) => Address(x) % 16 == 0 && (x.Stride % 4 == 0 || x.Rows == 1);

    private bool UsesTensorCores(Mat x, CudaWeight w) => Options.TensorCores && Description.ComputeCapability >= TensorCapability && IsWide(x, w);

    private static string Suffix(Precision precision) => precision == Precision.Fast ? "fast" : "exact";

    private static string RowsSuffix(int rows) => rows switch { 1 => "1row", 2 => "2rows", <= 4 => "4rows", _ => "8rows" };
}

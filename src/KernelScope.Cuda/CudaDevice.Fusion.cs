using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Launching;
using KernelScope.Cuda.Memory;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Cuda;

/// <summary>
/// Ops that become one launch with the product before them. An op that changes what a product of few rows has just written takes that launch back while it still waits in the
/// queue, and asks for one that does both; its bits are those of two. Where anything came between (another op, a read, a wait) nothing is taken back.
/// </summary>
public sealed partial class CudaDevice
{
    /// <summary>Tickets that one launch may use: a row and its heads take one.</summary>
    private const int MostTickets = 4096;

    private readonly DeviceMemory _tickets;
    private GemvLaunch _lastGemv;

    /// <summary>A product of few rows, with its weights in rows that lie on 16 bytes.</summary>
    private void Launch(GemvLaunch product, float cap)
    {
        Operand x = product.X;
        Kernel kernel = _kernels["gemv", product.TypeName, RowsSuffix(x.Rows)];
        BeginOp().Begin(kernel, Blocks(product.Outputs, kernel.Info.TileColumns))
            .View(x.Address, x.Span / ElementsOf(kernel, 0))
            .View(product.Weights, (long)product.Outputs * x.Columns / ElementsOf(kernel, 1))
            .View(product.Destination, ((x.Rows - 1L) * product.Stride) + product.Outputs)
            .Int(x.Rows).Int(x.Columns).Int(product.Outputs).Int(x.Stride).Int(product.Stride).Float(cap).End();
        _lastGemv = cap > 0 ? default : product with { Number = _queue.LaunchNumber };
    }

    /// <summary>Takes the product back that wrote <paramref name="y"/>, if it is the last launch that waits.</summary>
    private bool TakeBack(Mat y, out GemvLaunch product)
    {
        product = _lastGemv;
        return product.Destination == Address(y) && product.X.Rows == y.Rows && product.Outputs == y.Columns
            && (y.Rows == 1 || product.Stride == y.Stride) && _queue.TakeBack(product.Number);
    }

    /// <summary>The projection to queries, keys and values of one row, and what RoPE and the cache make of it.</summary>
    private void LaunchWithRope(GemvLaunch product, Mat qkv, int position, Mat cosSin, KvLayer cache)
    {
        Operand x = product.X;
        int heads = (qkv.Columns / cache.HeadDim) - (2 * cache.KvHeadCount);
        Kernel kernel = _kernels[cache.Type == DType.BF16 ? "gemv_rope_bf16" : "gemv_rope", product.TypeName];
        LaunchQueue queue = BeginOp();
        ulong at = queue.Position(position);
        queue.Begin(kernel, qkv.Columns / kernel.Info.TileColumns)
            .View(x.Address, x.Span / ElementsOf(kernel, 0))
            .View(product.Weights, (long)product.Outputs * x.Columns / ElementsOf(kernel, 1))
            .View(Address(qkv), Span(qkv)).View(Address(cosSin), Span(cosSin)).View(at, 1)
            .View(Address(cache.Keys), ValuesOf(cache)).View(Address(cache.Values), ValuesOf(cache))
            .Int(x.Columns).Int(heads).Int(cache.KvHeadCount).Int(cache.HeadDim).Int(cache.Capacity).End();
    }

    /// <summary>The last product of a sub-layer for one row, and what lies between it and the next.</summary>
    private void LaunchWithNorm(GemvLaunch product, Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        Operand x = product.X;
        Kernel kernel = _kernels["gemv_norm", product.TypeName];
        BeginOp().Begin(kernel, product.Outputs / kernel.Info.TileColumns)
            .View(x.Address, x.Span / ElementsOf(kernel, 0))
            .View(product.Weights, (long)product.Outputs * x.Columns / ElementsOf(kernel, 1))
            .View(Address(branch), Span(branch)).View(Address(postGain), Span(postGain)).View(Address(nextGain), Span(nextGain))
            .View(Address(resid), Span(resid)).View(Address(normed), Span(normed)).View(_tickets.Address, MostTickets)
            .Float(epsilon).Int(x.Columns).Int(product.Outputs).End();
    }

    /// <summary>Counters that the groups of a launch take numbers from; all are 0 between launches.</summary>
    private static DeviceMemory Tickets(CudaContext context)
    {
        DeviceMemory tickets = context.Allocate(MostTickets * sizeof(int), "tickets");
        context.Check(context.Driver.MemsetD8Async(tickets.Address, 0, tickets.Bytes, context.Stream),
            nameof(ICudaDriver.MemsetD8Async), "tickets");
        return tickets;
    }

    /// <summary>What was asked of a <c>gemv</c> kernel.</summary>
    /// <param name="X">The rows.</param>
    /// <param name="TypeName">The weights' type, as in the kernel's name.</param>
    /// <param name="Weights">Where they begin.</param>
    /// <param name="Outputs">Values of a result's row.</param>
    /// <param name="Destination">The result's first value.</param>
    /// <param name="Stride">Distance of its rows.</param>
    private readonly record struct GemvLaunch(Operand X, string TypeName, ulong Weights, int Outputs, ulong Destination, int Stride)
    {
        /// <summary>Number of the launch.</summary>
        public long Number { get; init; }
    }
}

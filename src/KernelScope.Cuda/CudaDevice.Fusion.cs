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
        if (product.Parts != 0 && cap == 0)
        {
            LaunchSplit(product);
            return;
        }

        GemvKernel kernel = UsesRing(product.Type, x.Rows) ? _kernels.GemvRing(product.Type) : _kernels.Gemv(product.Type, x.Rows);
        kernel.Launch(BeginOp(), new(Blocks(product.Outputs, kernel.Info.TileColumns)), x.View, product.WeightView,
            new(product.Destination, ((x.Rows - 1L) * product.Stride) + product.Outputs), x.Rows, x.Columns, product.Outputs, x.Stride,
            product.Stride, cap);
        _lastGemv = cap > 0 ? default : product with { Number = _queue.LaunchNumber };
    }

    /// <summary>Groups with a quarter of the inputs each.</summary>
    private void LaunchSplit(GemvLaunch product)
    {
        Operand x = product.X;
        GemvRingSplitKernel kernel = _kernels.GemvRingSplit(product.Type);
        View<float> parts = new(product.Parts, RingPartBytes(x, product.Type, product.Outputs) / sizeof(float));
        kernel.Launch(BeginOp(), new(RingQuarters * Blocks(product.Outputs, kernel.Info.TileColumns)), x.View, product.WeightView,
            new(product.Destination, ((x.Rows - 1L) * product.Stride) + product.Outputs), parts, new(_tickets.Address, MostTickets),
            x.Rows, x.Columns, product.Outputs, x.Stride, product.Stride);
        _lastGemv = product with { Number = _queue.LaunchNumber };
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
        GemvRopeKernel kernel = _kernels.GemvRope(cache.Type, product.Type);
        LaunchQueue queue = BeginOp();
        View<int> at = queue.Position(position);
        kernel.Launch(queue, new(qkv.Columns / kernel.Info.TileColumns), x.View, product.WeightView, View(qkv), View(cosSin), at,
            Keys(cache), Values(cache), x.Columns, heads, cache.KvHeadCount, cache.HeadDim, cache.Capacity);
    }

    /// <summary>The last product of a sub-layer for one row, and what lies between it and the next.</summary>
    private void LaunchWithNorm(GemvLaunch product, Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        Operand x = product.X;
        GemvNormKernel kernel = _kernels.GemvNorm(product.Type);
        kernel.Launch(BeginOp(), new(product.Outputs / kernel.Info.TileColumns), x.View, product.WeightView, View(branch),
            View(postGain), View(nextGain), View(resid), View(normed), new(_tickets.Address, MostTickets), epsilon, x.Columns,
            product.Outputs);
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
    /// <param name="Type">The weights' type.</param>
    /// <param name="Weights">Where they begin.</param>
    /// <param name="Outputs">Values of a result's row.</param>
    /// <param name="Destination">The result's first value.</param>
    /// <param name="Stride">Distance of its rows.</param>
    private readonly record struct GemvLaunch(Operand X, DType Type, ulong Weights, int Outputs, ulong Destination, int Stride)
    {
        /// <summary>Work space for the sums of groups that share the inputs; 0: each group reads all.</summary>
        public ulong Parts { get; init; }

        /// <summary>Number of the launch.</summary>
        public long Number { get; init; }

        /// <summary>The weights.</summary>
        public View<Stored> WeightView => new(Weights, (long)Outputs * X.Columns);
    }
}

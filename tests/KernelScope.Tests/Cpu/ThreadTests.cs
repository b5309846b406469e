using FsCheck.Xunit;
using KernelScope.Cpu;
using KernelScope.Devices;

namespace KernelScope.Tests.Cpu;

/// <summary>Tests that count what the whole process allocates run alone.</summary>
[CollectionDefinition(nameof(AloneInTheProcess), DisableParallelization = true)]
public sealed class AloneInTheProcess;

/// <summary>Any number of threads gives the same bits, and no thread allocates once things are warm.</summary>
[Collection(nameof(AloneInTheProcess))]
public sealed class ThreadTests : IDisposable
{
    private readonly CpuDevice[] _exact = [new(1), new(2), new(3), new(8)];
    private readonly CpuDevice[] _fast =
        [.. new[] { 1, 2, 3, 8 }.Select(threads => new CpuDevice(threads, Precision.Fast, Precision.Fast))];

    public void Dispose()
    {
        foreach (CpuDevice device in _exact.Concat(_fast))
            device.Dispose();
    }

    [Property(MaxTest = 60)]
    public void Every_op_gives_the_same_bits_at_1_2_3_and_8_threads(ulong seed) => CompareThreads(_exact, seed, null);

    [Property(MaxTest = 40)]
    public void Packed_weights_give_the_same_bits_at_1_2_3_and_8_threads(ulong seed)
    {
        using PackingDevice packing = new(1);
        CompareThreads(_exact, seed, packing);
    }

    [Property(MaxTest = 40)]
    public void Fast_precision_gives_the_same_bits_at_1_2_3_and_8_threads(ulong seed, bool packed)
    {
        using PackingDevice packing = new(1);
        CompareThreads(_fast, seed, packed ? packing : null);
    }

    private static void CompareThreads(CpuDevice[] devices, ulong seed, PackingDevice? packing)
    {
        using Workload workload = new(devices[0], seed, maxRows: 150, weights: packing);
        uint[][] expected = workload.Run(devices[0]);
        foreach (CpuDevice device in devices.AsSpan(1))
        {
            uint[][] actual = workload.Run(device);
            for (int op = 0; op < expected.Length; op++)
                Assert.True(expected[op].AsSpan().SequenceEqual(actual[op]),
                    $"Seed {seed}, {Workload.Ops[op]}: {device.Threads} threads give other bits than one.");
        }
    }

    [Theory]
    [InlineData(1, false, Precision.Exact)]
    [InlineData(40, false, Precision.Exact)]
    [InlineData(5, false, Precision.Exact)]
    [InlineData(1, true, Precision.Exact)]
    [InlineData(40, true, Precision.Exact)]
    [InlineData(1, false, Precision.Fast)]
    [InlineData(40, false, Precision.Fast)]
    [InlineData(40, true, Precision.Fast)]
    public void No_op_allocates_in_a_steady_state(int rows, bool packed, Precision precision)
    {
        CpuDevice device = precision == Precision.Fast ? _fast[1] : _exact[1];
        using PackingDevice packing = new(1);
        using Workload workload = new(device, 5, rows, exactRows: true, packed ? packing : null);
        for (int warm = 0; warm < 3; warm++)
            workload.RunOnly(device);
        long before = GC.GetAllocatedBytesForCurrentThread();
        workload.RunOnly(device);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        // All threads of the process; the test runner's own now and then allocate, so one quiet run out of some must show nothing.
        long least = long.MaxValue;
        for (int attempt = 0; attempt < 50 && least > 0; attempt++)
        {
            long all = GC.GetTotalAllocatedBytes(precise: true);
            workload.RunOnly(device);
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - all);
        }

        Assert.Equal(0, least);
    }
}

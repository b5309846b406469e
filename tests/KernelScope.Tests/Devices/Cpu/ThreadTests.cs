using FsCheck.Xunit;
using KernelScope.Devices.Cpu;

namespace KernelScope.Tests.Devices.Cpu;

/// <summary>Any number of threads gives the same bits, and no thread allocates once things are warm.</summary>
public sealed class ThreadTests : IDisposable
{
    private readonly CpuDevice[] _devices = [new(1), new(2), new(3), new(8)];

    public void Dispose()
    {
        foreach (CpuDevice device in _devices)
            device.Dispose();
    }

    [Property(MaxTest = 60)]
    public void Every_op_gives_the_same_bits_at_1_2_3_and_8_threads(ulong seed)
    {
        using Workload workload = new(_devices[0], seed, maxRows: 150);
        uint[][] expected = workload.Run(_devices[0]);
        foreach (CpuDevice device in _devices.AsSpan(1))
        {
            uint[][] actual = workload.Run(device);
            for (int op = 0; op < expected.Length; op++)
                Assert.True(expected[op].AsSpan().SequenceEqual(actual[op]), $"Seed {seed}, {Workload.Ops[op]}: {device.Threads} threads give other bits than one.");
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(40)]
    public void No_op_allocates_in_a_steady_state(int rows)
    {
        CpuDevice device = _devices[1];
        using Workload workload = new(device, 5, rows, exactRows: true);
        for (int warm = 0; warm < 3; warm++)
            workload.RunOnly(device);
        long before = GC.GetAllocatedBytesForCurrentThread();
        workload.RunOnly(device);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        // All threads of the process: other tests run beside this one, so one quiet run out of many must show nothing.
        long least = long.MaxValue;
        for (int attempt = 0; attempt < 300 && least > 0; attempt++)
        {
            long all = GC.GetTotalAllocatedBytes(precise: true);
            workload.RunOnly(device);
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - all);
        }

        Assert.Equal(0, least);
    }
}

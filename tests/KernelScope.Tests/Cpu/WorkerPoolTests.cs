using System.Runtime.CompilerServices;
using KernelScope.Cpu;

namespace KernelScope.Tests.Cpu;

public unsafe class WorkerPoolTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(8)]
    public void Every_unit_of_every_run_is_done_exactly_once(int workers)
    {
        using WorkerPool pool = new(workers);
        int[] done = new int[257];
        var random = new Random(workers);
        for (int run = 0; run < 20_000; run++)
        {
            int units = random.Next(done.Length);
            Array.Clear(done);
            fixed (int* counts = done)
                pool.Run(&Count, counts, units);
            for (int unit = 0; unit < done.Length; unit++)
                Assert.Equal(unit < units ? 1 : 0, done[unit]);
        }
    }

    [Fact]
    public void A_pool_that_fell_asleep_wakes_up()
    {
        using WorkerPool pool = new(3);
        int[] done = new int[5];
        for (int run = 0; run < 20; run++)
        {
            Thread.Sleep(5);
            Array.Clear(done);
            fixed (int* counts = done)
                pool.Run(&Count, counts, done.Length);
            Assert.All(done, count => Assert.Equal(1, count));
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void An_exception_of_a_unit_reaches_the_caller_and_the_pool_goes_on(int workers)
    {
        using WorkerPool pool = new(workers);
        int[] done = new int[64];
        for (int run = 0; run < 100; run++)
        {
            Assert.Equal("unit 17", Thrown(pool, done).Message);
            Array.Clear(done);
            fixed (int* counts = done)
                pool.Run(&Count, counts, done.Length);
            Assert.All(done, count => Assert.Equal(1, count));
        }
    }

    [Fact]
    public void A_pool_that_was_disposed_refuses_to_run()
    {
        WorkerPool pool = new(2);
        pool.Dispose();
        int[] done = new int[4];
        Assert.Throws<ObjectDisposedException>(() =>
        {
            fixed (int* counts = done)
                pool.Run(&Count, counts, done.Length);
        });
    }

    [Fact]
    public void A_run_allocates_nothing_on_any_thread()
    {
        using WorkerPool pool = new(3);
        int[] done = new int[64];
        fixed (int* counts = done)
        {
            for (int run = 0; run < 1000; run++)
                pool.Run(&Count, counts, done.Length);
            Thread.Sleep(5);
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int run = 0; run < 1000; run++)
                pool.Run(&Count, counts, done.Length);
            Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        }
    }

    private static InvalidOperationException Thrown(WorkerPool pool, int[] done)
    {
        try
        {
            fixed (int* counts = done)
                pool.Run(&FailAtSeventeen, counts, done.Length);
        }
        catch (InvalidOperationException failure)
        {
            return failure;
        }

        throw new Xunit.Sdk.XunitException("Nothing was thrown.");
    }

    private static void Count(void* counts, int unit, int worker) => Interlocked.Increment(ref Unsafe.AsRef<int>((int*)counts + unit));

    private static void FailAtSeventeen(void* counts, int unit, int worker)
    {
        if (unit == 17)
            throw new InvalidOperationException("unit 17");
    }
}

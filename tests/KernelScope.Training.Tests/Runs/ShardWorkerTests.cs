using KernelScope.Training.Runs;
using KernelScope.Training.Suites;

namespace KernelScope.Training.Tests.Runs;

/// <summary>What a worker does when a shard cannot be made.</summary>
public sealed class ShardWorkerTests
{
    /// <summary>The next shard would meet the same disk: it is not computed for nothing, and does not count as failed. Other failures are
    /// one shard's.</summary>
    [Theory]
    [InlineData(28, 1)]
    [InlineData(30, 1)]
    [InlineData(0, 1)]
    [InlineData(unchecked((int)0x80070070), 1)]
    [InlineData(5, 3)]
    public void A_disk_that_takes_nothing_ends_it_and_another_failure_does_not(int error, int failed)
    {
        using var run = new SyntheticRun(3, 2, 4, 2);
        using var maker = new Failing(new IOException("somewhere: the file cannot be written",
            error == 0 ? new UnauthorizedAccessException("why") : new IOException("why", error)));
        using var queue = new ShardList([0, 1, 2]);
        var worker = new ShardWorker(run.Folder, run.Plan, maker, queue);
        worker.Run(TimeSpan.Zero, int.MaxValue, null, default);
        Assert.Equal(failed, worker.Failed.Count);
        Assert.All(worker.Failed, f => Assert.True(f.RetryHelps));
        Assert.Equal(failed, run.Folder.FailedAttempts().Count);
    }

    /// <summary>A suite that ends because its only item failed does not wait until the item might be tried again.</summary>
    [Fact]
    public async Task Items_that_are_to_be_tried_later_hold_nobody_up()
    {
        using var items = new ItemList([0]);
        ShardLease lease = items.Lease(TimeSpan.Zero, default)!;
        await Task.Run(() => items.Retry(lease, TimeSpan.FromMinutes(10))).WaitAsync(TimeSpan.FromMinutes(1));
        Assert.NotNull(items.Lease(TimeSpan.Zero, default));
    }

    private sealed class Failing(Exception error) : IShardMaker
    {
        public ShardOutcome Make(int shard, int attempt, IProgress<int>? progress, CancellationToken cancellationToken) => throw error;

        public void Dispose()
        {
        }
    }
}

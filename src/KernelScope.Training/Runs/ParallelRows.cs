using System.Runtime.ExceptionServices;

namespace KernelScope.Training.Runs;

/// <summary>Work on many rows, by the pool's threads; what one of them throws is thrown as it is.</summary>
internal static class ParallelRows
{
    private const int Block = 64;

    /// <summary>Calls for each number below a count, in no order.</summary>
    public static void ForEach(int count, Action<int> work)
    {
        try
        {
            Parallel.For(0, (count + Block - 1) / Block, block =>
            {
                for (int i = block * Block; i < Math.Min(count, (block + 1) * Block); i++)
                    work(i);
            });
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }
    }
}

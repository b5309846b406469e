namespace KernelScope.Hub;

/// <summary>Bounded retries with waits that double. Whoever gets further calls <see cref="Progressed"/>, and the count begins again.</summary>
internal sealed class HubRetry(HubOptions options)
{
    private int _failures;

    public void Progressed() => _failures = 0;

    /// <summary>Waits before the next try.</summary>
    /// <exception cref="HubException">There were too many.</exception>
    public async Task WaitAsync(HubTransientException failure, CancellationToken cancellationToken)
    {
        if (_failures++ >= options.Retries)
            throw new HubException(failure.Message, failure);
        TimeSpan wait = options.RetryDelay * (1 << Math.Min(_failures - 1, 5));
        await Task.Delay(failure.RetryAfter is TimeSpan asked && asked > wait ? asked : wait, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Runs something until it does not fail in passing.</summary>
    public async Task<T> RunAsync<T>(Func<Task<T>> operation, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return await operation().ConfigureAwait(false);
            }
            catch (HubTransientException e)
            {
                await WaitAsync(e, cancellationToken).ConfigureAwait(false);
            }
        }
    }
}

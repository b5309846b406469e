namespace KernelScope.Cli;

/// <summary>What Ctrl+C ends: a part of the work, where one runs that can end by itself, else the program. For any number of threads.</summary>
internal sealed class Interruption
{
    private readonly Lock _gate = new();
    private CancellationTokenSource? _part;

    /// <summary>Ends the part that runs; a part is ended once.</summary>
    /// <returns>False if none runs, or it is ending already.</returns>
    public bool TryEndPart()
    {
        lock (_gate)
        {
            if (_part is null or { IsCancellationRequested: true })
                return false;
            _part.Cancel();
            return true;
        }
    }

    /// <summary>Does a part of the work.</summary>
    /// <param name="part">What; its token is cancelled by Ctrl+C, and with the program's.</param>
    /// <param name="program">Ends the program.</param>
    /// <returns>False if Ctrl+C ended it.</returns>
    /// <exception cref="OperationCanceledException">The program ends.</exception>
    public bool TryRun(Action<CancellationToken> part, CancellationToken program)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(program);
        lock (_gate)
            _part = end;
        try
        {
            part(end.Token);
            return true;
        }
        catch (OperationCanceledException) when (!program.IsCancellationRequested)
        {
            return false;
        }
        finally
        {
            lock (_gate)
                _part = null;
        }
    }
}

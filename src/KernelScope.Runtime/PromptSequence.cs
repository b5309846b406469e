using KernelScope.Model;

namespace KernelScope.Runtime;

/// <summary>A text that is read and not continued; what is of interest is what hooks see.</summary>
/// <typeparam name="T">What the reader gets.</typeparam>
internal abstract class PromptSequence<T>(Gemma2Model model, string kind, int[] prompt, int layersNeeded)
    : Sequence(kind, prompt, prompt.Length)
{
    // Continuations run elsewhere: a reader must not hold the engine's thread.
    private readonly TaskCompletionSource<T> _result = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task<T> Result => _result.Task;

    public override SessionTokens NextStep() => throw new InvalidOperationException("A text that is only read has no decode steps.");

    public override void AfterStep() => throw new InvalidOperationException("A text that is only read has no decode steps.");

    public override void Complete(Exception? error)
    {
        try
        {
            if (error is null)
                _result.TrySetResult(Collect());
            else if (error is OperationCanceledException)
                _result.TrySetCanceled();
            else
                _result.TrySetException(error);
        }
        catch (Exception e)
        {
            _result.TrySetException(e);
        }

        // A reader who has left does not look at it: it is not an error that nobody heard of.
        _ = _result.Task.Exception;
    }

    protected abstract T Collect();

    protected override void Feed(ReadOnlySpan<int> tokens, bool isLast, CancellationToken cancellationToken) =>
        model.ForwardTo(Math.Min(layersNeeded, model.Config.LayerCount), tokens, Session, cancellationToken);

    protected override void AfterPrompt() => IsFinished = true;
}

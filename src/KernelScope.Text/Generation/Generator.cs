using System.Runtime.CompilerServices;
using KernelScope.Devices;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Generation;

/// <summary>Feeds a prompt, then each chosen token, to a session, whose hooks act in the prompt and in every step.</summary>
/// <remarks>
/// The session is the generation's from the first token asked for until the enumeration ends; other calls of it get an <see cref="InvalidOperationException"/> meanwhile.
/// When the enumeration has ended, also where the consumer left it early, the session holds the prompt and every token that was given out, so
/// that the next turn goes on from there. Only the last one is not in it where the context is full, where a cancellation cut its step short, or
/// where that step failed after the consumer had left: <see cref="Session.Tokens"/> tells.
/// For one caller at a time.
/// </remarks>
/// <example>
/// <code>
/// var generator = new Generator(session, new GenerationOptions { MaxNewTokens = 40, StopStrings = ["\n\n"] }, tokenizer);
/// await foreach (GeneratedToken token in generator.GenerateAsync(prompt, cancellationToken))
///     Console.Write(token.Text);
/// </code>
/// </example>
public sealed class Generator
{
    private readonly Session _session;
    private readonly GenerationOptions _options;
    private readonly GemmaTokenizer? _tokenizer;

    /// <summary>Generates with a session.</summary>
    /// <param name="session">The session.</param>
    /// <param name="options">How far and how.</param>
    /// <param name="tokenizer">Gives the tokens their text; stop strings need it.</param>
    /// <exception cref="ArgumentException">An option out of its range, or stop strings without a tokenizer.</exception>
    public Generator(Session session, GenerationOptions options, GemmaTokenizer? tokenizer = null)
    {
        ArgumentNullException.ThrowIfNull(session);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate(session.Model.Config.VocabSize);
        if (options.StopStrings is { Count: > 0 } && tokenizer is null)
            throw new ArgumentException("Stop strings are found in the text, which needs a tokenizer.", nameof(tokenizer));
        _session = session;
        _options = options;
        _tokenizer = tokenizer;
    }

    /// <summary>Why the last run ended. It is known when the last token is given out.</summary>
    public StopReason Stop { get; private set; }

    /// <summary>The seed of the last run: the one asked for, or the fresh one that was drawn; null at temperature 0, which needs none.</summary>
    public ulong? Seed { get; private set; }

    /// <summary>The ids of the new tokens, each as soon as it is chosen; the session's sequence goes on from where it is.</summary>
    /// <exception cref="ArgumentException">An empty prompt, or one that does not fit into the context.</exception>
    /// <exception cref="InvalidOperationException">The session is in use; only a part of the layers ran on some of its tokens; or the model's values
    /// are not finite numbers, and the message names the first hook point where they are not.</exception>
    public IEnumerable<int> Generate(ReadOnlyMemory<int> prompt, CancellationToken cancellationToken = default)
    {
        foreach (GeneratedToken token in GenerateTokens(prompt, cancellationToken))
            yield return token.Id;
    }

    /// <summary>As <see cref="Generate"/>, with each token's text and, where asked for, log-probabilities.</summary>
    /// <exception cref="ArgumentException">An empty prompt, or one that does not fit into the context.</exception>
    /// <exception cref="InvalidOperationException">The session is in use; only a part of the layers ran on some of its tokens; or the model's values
    /// are not finite numbers, and the message names the first hook point where they are not.</exception>
    public IEnumerable<GeneratedToken> GenerateTokens(ReadOnlyMemory<int> prompt, CancellationToken cancellationToken = default)
    {
        if (prompt.IsEmpty)
            throw new ArgumentException("The prompt has no tokens; it needs at least <bos>.");
        if (prompt.Length > _session.ContextLength - _session.Position)
            throw new ArgumentException($"The prompt has {prompt.Length} tokens; the context holds " +
                $"{_session.ContextLength - _session.Position}.");
        using SessionHold hold = _session.Hold();
        _session.CheckTokens(prompt.Span, _session.Position);
        // Not before the hold: a run that is refused changes nothing of the one under way.
        Stop = StopReason.None;
        using var choice = new TokenChoice(_session, _options, _tokenizer, prompt.Span);
        Seed = choice.Seed;
        Mat logits = hold.Prefill(prompt.Span, null, cancellationToken);
        int[] step = new int[1];
        bool pending = false, isLeft = false;
        try
        {
            for (int count = 1; count <= _options.MaxNewTokens; count++)
            {
                GeneratedToken token = choice.Next(logits, count);
                StopReason stop = choice.Stop;
                Stop = stop;
                step[0] = token.Id;
                pending = _session.Position < _session.ContextLength;
                isLeft = true;
                yield return token;
                isLeft = false;
                if (stop != StopReason.None)
                    yield break;
                pending = false;
                logits = hold.Forward(step, LogitRows.Last, cancellationToken);
            }

            Stop = StopReason.MaxNewTokens;
        }
        finally
        {
            if (pending)
                Close(hold, step, isLeft);
        }
    }

    /// <summary>Feeds the last token. Where the consumer left, perhaps by an exception, an error here would come out in the place of that one.</summary>
    private static void Close(SessionHold hold, ReadOnlySpan<int> step, bool isLeft)
    {
        try
        {
            hold.Forward(step, LogitRows.None, CancellationToken.None);
        }
        catch (Exception) when (isLeft)
        {
            // The session lacks the token, as its Tokens tell; what failed will fail again in whoever goes on with it.
        }
    }

    /// <summary>As <see cref="GenerateTokens"/>, computed on a worker thread, so that a caller's thread stays free.</summary>
    /// <exception cref="ArgumentException">An empty prompt, or one that does not fit into the context.</exception>
    /// <exception cref="InvalidOperationException">The session is in use; only a part of the layers ran on some of its tokens; or the model's values
    /// are not finite numbers, and the message names the first hook point where they are not.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public async IAsyncEnumerable<GeneratedToken> GenerateAsync(ReadOnlyMemory<int> prompt,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        IEnumerator<GeneratedToken> tokens = GenerateTokens(prompt, cancellationToken).GetEnumerator();
        try
        {
            while (await Task.Run(tokens.MoveNext, cancellationToken).ConfigureAwait(false))
                yield return tokens.Current;
        }
        finally
        {
            // Feeds the last token where the consumer left.
            await Task.Run(tokens.Dispose, CancellationToken.None).ConfigureAwait(false);
        }
    }
}

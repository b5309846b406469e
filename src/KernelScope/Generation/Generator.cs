using System.Runtime.CompilerServices;
using KernelScope.Devices;
using KernelScope.Model;

namespace KernelScope.Generation;

/// <summary>How far and how to generate.</summary>
public sealed record GenerationOptions
{
    /// <summary>Most new tokens.</summary>
    public int MaxNewTokens { get; init; } = 64;

    /// <summary>How a token is chosen; greedy by default.</summary>
    public SamplingOptions Sampling { get; init; } = new();

    /// <summary>Ids that end the text (that id is still given back); null: the model's own.</summary>
    public IReadOnlyCollection<int>? StopIds { get; init; }
}

/// <summary>Why generation ended.</summary>
public enum StopReason
{
    /// <summary>It has not.</summary>
    None,

    /// <summary>An end-of-text id came; it is the last token given.</summary>
    EndOfText,

    /// <summary>The number of tokens asked for was reached.</summary>
    MaxNewTokens,

    /// <summary>The context is full.</summary>
    ContextFull,
}

/// <summary>Feeds a prompt, then each chosen token, to a session.</summary>
public sealed class Generator
{
    private readonly Session _session;
    private readonly GenerationOptions _options;

    /// <summary>Generates with a session, whose hooks act in the prompt and in every step.</summary>
    public Generator(Session session, GenerationOptions options)
    {
        ArgumentNullException.ThrowIfNull(session);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegative(options.MaxNewTokens);
        options.Sampling.Validate();
        _session = session;
        _options = options;
    }

    /// <summary>Why the last run ended.</summary>
    public StopReason Stop { get; private set; }

    /// <summary>The new tokens, each as soon as it is chosen; the session's sequence goes on from where it is.</summary>
    /// <exception cref="ArgumentException">An empty prompt, or one that does not fit into the context.</exception>
    public IEnumerable<int> Generate(ReadOnlyMemory<int> prompt, CancellationToken cancellation = default)
    {
        Gemma2Model model = _session.Model;
        IReadOnlyCollection<int> stops = _options.StopIds ?? model.Config.EosIds;
        using var sampler = new Sampler(model.Device, model.Config.VocabSize, _options.Sampling);
        Stop = StopReason.None;
        if (prompt.IsEmpty)
            throw new ArgumentException("The prompt has no tokens; it needs at least <bos>.");
        if (prompt.Length > _session.ContextLength - _session.Position)
            throw new ArgumentException($"The prompt has {prompt.Length} tokens; the context holds {_session.ContextLength - _session.Position}.");
        if (_options.MaxNewTokens == 0)
        {
            Stop = StopReason.MaxNewTokens;
            yield break;
        }

        Mat logits = _session.Prefill(prompt.Span, cancellationToken: cancellation);
        int[] step = new int[1];
        for (int count = 1; ; count++)
        {
            step[0] = sampler.Next(logits);
            Stop = stops.Contains(step[0]) ? StopReason.EndOfText
                : count == _options.MaxNewTokens ? StopReason.MaxNewTokens
                : _session.Position == _session.ContextLength ? StopReason.ContextFull
                : StopReason.None;
            yield return step[0];
            if (Stop != StopReason.None)
                yield break;
            logits = model.Forward(step, _session, LogitRows.Last, cancellation);
        }
    }

    /// <summary>As <see cref="Generate"/>, computed on a worker thread, so that a caller's thread stays free.</summary>
    public async IAsyncEnumerable<int> GenerateAsync(ReadOnlyMemory<int> prompt, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        using IEnumerator<int> tokens = Generate(prompt, cancellation).GetEnumerator();
        while (await Task.Run(tokens.MoveNext, cancellation).ConfigureAwait(false))
            yield return tokens.Current;
    }
}

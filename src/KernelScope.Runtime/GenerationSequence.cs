using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Runtime;

/// <summary>A text that is continued: prompt, then a token a step, each given to a reader who may be slower.</summary>
internal sealed class GenerationSequence : Sequence
{
    private readonly Gemma2Model _model;
    private readonly GenerationOptions _options;
    private readonly EditStack _edits;
    private readonly FeatureTap[] _taps;
    private readonly GemmaTokenizer? _tokenizer;
    private readonly EngineMetrics _metrics;
    private readonly Channel<GeneratedToken> _tokens;
    private readonly int _buffered;
    private readonly Action _wake;
    private readonly int[] _step = new int[1];
    private TokenChoice? _choice;
    private GeneratedToken? _pending;
    private int _count;
    private int _paused;
    private bool _hasGiven;
    private long _pausedSince;

    public GenerationSequence(
        Gemma2Model model,
        GenerationOptions options,
        EditStack edits,
        FeatureTap[] taps,
        GemmaTokenizer? tokenizer,
        int[] prompt,
        int contextLength,
        int buffered,
        Scheduler scheduler)
        : base("generate", prompt, contextLength)
    {
        _model = model;
        _options = options;
        _edits = edits;
        _taps = taps;
        _tokenizer = tokenizer;
        _buffered = buffered;
        _wake = scheduler.Wake;
        _metrics = scheduler.Metrics;
        // Room for what IsPaused lets through, so that the engine's thread never waits.
        _tokens = Channel.CreateBounded<GeneratedToken>(
            new BoundedChannelOptions((int)Math.Min(buffered + 1L, int.MaxValue)) { SingleReader = true, SingleWriter = true });
    }

    /// <summary>New tokens so far.</summary>
    public int Count => _count;

    /// <summary>Why the text ended.</summary>
    public StopReason Stop { get; private set; }

    public override bool IsPaused
    {
        get
        {
            if (_tokens.Reader.Count < _buffered)
            {
                _pausedSince = 0;
                return false;
            }

            // Said before it is looked at again: a reader who takes a token in between sees it and wakes the engine.
            Interlocked.Exchange(ref _paused, 1);
            bool isFull = _tokens.Reader.Count >= _buffered;
            if (!isFull)
                _pausedSince = 0;
            else if (_pausedSince == 0)
                _pausedSince = Stopwatch.GetTimestamp();
            return isFull;
        }
    }

    public override TimeSpan? PausedFor => _pausedSince == 0 ? null : Stopwatch.GetElapsedTime(_pausedSince);

    /// <summary>The tokens as they come, for the one reader.</summary>
    public async IAsyncEnumerable<GeneratedToken> ReadAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        while (await _tokens.Reader.WaitToReadAsync(cancellationToken).ConfigureAwait(false))
        {
            while (_tokens.Reader.TryRead(out GeneratedToken? token))
            {
                if (Interlocked.Exchange(ref _paused, 0) == 1)
                    _wake();
                yield return token;
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }

    public override void Begin(Session session)
    {
        base.Begin(session);
        _choice = new TokenChoice(session, _options, _tokenizer, Prompt);
        _edits.Arm(session, Prompt.Length);
    }

    public override SessionTokens NextStep() => new(Session, _step, Stop == StopReason.None ? LogitRows.Last : LogitRows.None);

    public override void AfterStep()
    {
        if (_pending is not null)
        {
            Give(_pending with { Features = [.. _taps.Select(t => t.OfLastRow())] });
            _pending = null;
        }

        if (Stop != StopReason.None)
            IsFinished = true;
        else
            Choose();
    }

    public override void Complete(Exception? error) => _tokens.Writer.TryComplete(error);

    public override bool SharesPrefixes => _edits.IsEmpty;

    protected override void Disarm()
    {
        foreach (FeatureTap tap in _taps)
            tap.Dispose();
        _edits.Dispose();
        _choice?.Dispose();
    }

    protected override void Feed(ReadOnlySpan<int> tokens, bool isLast, CancellationToken cancellationToken) =>
        _model.Forward(tokens, Session, isLast && _options.MaxNewTokens > 0 ? LogitRows.Last : LogitRows.None, cancellationToken);

    protected override void AfterPrompt()
    {
        if (_options.MaxNewTokens == 0)
        {
            IsFinished = true;
            return;
        }

        // From here on, so that no feature of the prompt is computed.
        foreach (FeatureTap tap in _taps)
            tap.Arm(Session.Hooks);
        Choose();
    }

    /// <summary>Samples the next token and gives it to the reader: at once, or with its features after the step that feeds it.</summary>
    private void Choose()
    {
        GeneratedToken token = _choice!.Next(Session.Logits, ++_count);
        _metrics.NewToken();
        _step[0] = token.Id;
        Stop = _choice.Stop;
        bool hasRoom = Session.Position < Session.ContextLength;
        if (_taps.Length > 0 && hasRoom)
        {
            _pending = token;
            return;
        }

        Give(token);
        IsFinished = Stop != StopReason.None;
    }

    private void Give(GeneratedToken token)
    {
        if (!_hasGiven)
            _metrics.FirstToken(Submitted);
        _hasGiven = true;
        if (!_tokens.Writer.TryWrite(token))
            throw new InvalidOperationException("A token was computed for a reader who has no room for it.");
    }
}

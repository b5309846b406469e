using System.Diagnostics;
using System.Diagnostics.Metrics;
using KernelScope.Hooks;
using KernelScope.Model;
using Microsoft.Extensions.Logging;

namespace KernelScope.Runtime;

/// <summary>
/// The engine's one thread. Each round feeds at most one piece of one prompt, in a call of its own, then one token of every running
/// sequence in one call.
/// Requests begin in the order in which they came, and rows of a step stand in that order.
/// </summary>
internal sealed class Scheduler : IAsyncDisposable
{
    private readonly Gemma2Model _model;
    private readonly object _parts;
    private readonly EngineLimits _limits;
    private readonly ILogger _logger;
    private readonly EngineMetrics _metrics;
    private readonly object _gate = new();
    private readonly LinkedList<Sequence> _waiting = [];
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // Of the thread alone; their number and bytes are shared, below the gate.
    private readonly KeptSessions _kept;
    private readonly List<Sequence> _prefilling = [], _decoding = [], _step = [];
    private SessionTokens[] _batch = [];
    private int _running;
    private long _sessionBytes;
    private bool _isWoken;
    private Exception? _broken;

    /// <summary>Starts the thread.</summary>
    /// <param name="model">What it feeds.</param>
    /// <param name="parts">What the model lies on: it must not be finalized while the thread runs.</param>
    /// <param name="limits">How much at once.</param>
    /// <param name="meters">Makes the meter; null: its own.</param>
    /// <param name="logger">Never throws.</param>
    public Scheduler(Gemma2Model model, object parts, EngineLimits limits, IMeterFactory? meters, ILogger logger)
    {
        _model = model;
        _parts = parts;
        _limits = limits;
        _logger = logger;
        _kept = new KeptSessions(limits.KeptSessions, limits.MaxKeptBytes, limits.ReuseStep);
        // A factory's meter outlives the engine, and must not hold its model.
        var self = new WeakReference<Scheduler>(this);
        _metrics = new EngineMetrics(meters, () => self.TryGetTarget(out Scheduler? scheduler) ? scheduler.Load : default);
        new Thread(Run) { Name = KernelScopeEngine.TelemetryName, IsBackground = true }.Start();
    }

    /// <summary>How busy it is.</summary>
    public SchedulerLoad Load
    {
        get
        {
            lock (_gate)
                return new SchedulerLoad(_waiting.Count, _running, _sessionBytes, _kept.Count, _kept.Bytes);
        }
    }

    public EngineMetrics Metrics => _metrics;

    /// <summary>Bytes of a session: its cache, its rows after the final norm and a row of logits. Activations are the model's.</summary>
    public static long SessionBytes(Gemma2Model model, int contextLength, int rows)
    {
        Gemma2Config config = model.Config;
        int chunk = Math.Min(rows, contextLength);
        return KvCache.BytesFor(config, contextLength, chunk, model.CacheType)
            + (4L * (((long)chunk * config.ModelDim) + config.VocabSize));
    }

    /// <summary>Puts a request at the end of the queue.</summary>
    /// <exception cref="EngineBusyException">As many run and wait as the limits allow.</exception>
    /// <exception cref="ArgumentException">Its session alone is larger than the limit.</exception>
    /// <exception cref="ObjectDisposedException">The engine is being disposed.</exception>
    /// <exception cref="InvalidOperationException">The thread ended by an error, which is the inner exception.</exception>
    public void Submit(Sequence sequence)
    {
        sequence.Bytes = SessionBytes(_model, sequence.ContextLength, _limits.PrefillRows);
        if (sequence.Bytes > _limits.MaxSessionBytes)
        {
            throw new ArgumentException(
                $"A session of {sequence.ContextLength} tokens needs {sequence.Bytes} bytes; " +
                $"the engine has {_limits.MaxSessionBytes} for sessions (MaxSessionBytes).");
        }

        lock (_gate)
        {
            if (_broken is not null)
                throw Broken(_broken);
            ObjectDisposedException.ThrowIf(_stop.IsCancellationRequested, typeof(KernelScopeEngine));
            int limit = (int)Math.Min((long)_limits.MaxRunning + _limits.MaxWaiting, int.MaxValue);
            if ((long)_running + _waiting.Count >= limit)
            {
                _metrics.Refused();
                _logger.Refused(_running, _waiting.Count);
                throw new EngineBusyException(_running, _waiting.Count, limit);
            }

            _waiting.AddLast(sequence);
        }

        Wake();
    }

    /// <summary>Says that nobody waits for a request any more. One that waits goes at once, one that runs before its next call.</summary>
    public void Leave(Sequence sequence)
    {
        sequence.Leave();
        bool waited;
        lock (_gate)
            waited = _waiting.Remove(sequence);
        if (waited)
            Finish(sequence, null);
        else
            Wake();
    }

    /// <summary>Lets the thread look again for work.</summary>
    public void Wake()
    {
        lock (_gate)
        {
            _isWoken = true;
            Monitor.Pulse(_gate);
        }
    }

    /// <summary>
    /// Lets the thread end between two layers, without waiting for it. It holds the scheduler, not the engine, so an engine that nobody
    /// holds can be finalized and stop it.
    /// </summary>
    public void Stop()
    {
        lock (_gate)
            _stop.Cancel();
        Wake();
    }

    /// <summary>Ends the thread between two layers, and every request with an <see cref="ObjectDisposedException"/>.</summary>
    public async ValueTask DisposeAsync()
    {
        Stop();
        await _ended.Task.ConfigureAwait(false);
        _stop.Dispose();
    }

    private void Run()
    {
        Exception? broken = null;
        try
        {
            while (!_stop.IsCancellationRequested)
            {
                EndLeft(_prefilling);
                EndLeft(_decoding);
                EndStalled();
                Admit();
                bool worked = FeedPiece();
                worked |= DecodeStep();
                if (!worked)
                    Sleep();
            }
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            // Stopped in the middle of a call.
        }
        catch (Exception e)
        {
            _logger.Broken(e);
            broken = e;
        }

        try
        {
            EndAll(broken);
        }
        finally
        {
            _metrics.Dispose();
            GC.KeepAlive(_parts);
            _ended.SetResult();
        }
    }

    private static InvalidOperationException Broken(Exception error) =>
        new($"The engine's thread ended by an error: {error.Message}", error);

    private void Sleep()
    {
        TimeSpan most = UntilStall();
        lock (_gate)
        {
            while (!_isWoken)
            {
                if (!Monitor.Wait(_gate, most))
                    break;
            }

            _isWoken = false;
        }
    }

    /// <summary>How long until the first of the paused requests has waited too long for its reader.</summary>
    private TimeSpan UntilStall()
    {
        // Not zero for none: what paused just now has waited less than a tick.
        TimeSpan? longest = null;
        foreach (Sequence sequence in _decoding)
            longest = longest is null || sequence.PausedFor > longest ? sequence.PausedFor : longest;
        if (_limits.ReaderTimeout == Timeout.InfiniteTimeSpan || longest is not TimeSpan waited)
            return Timeout.InfiniteTimeSpan;
        double left = (_limits.ReaderTimeout - waited).TotalMilliseconds;
        return TimeSpan.FromMilliseconds(Math.Clamp(Math.Ceiling(left), 1, int.MaxValue));
    }

    /// <summary>Ends requests whose readers have read nothing for too long, so that they do not hold their places for ever.</summary>
    private void EndStalled()
    {
        if (_limits.ReaderTimeout == Timeout.InfiniteTimeSpan)
            return;
        for (int n = _decoding.Count - 1; n >= 0; n--)
        {
            Sequence sequence = _decoding[n];
            if (sequence.PausedFor is not TimeSpan paused || paused < _limits.ReaderTimeout || !sequence.IsPaused)
                continue;
            End(_decoding, sequence, new TimeoutException(
                $"The request ended because its reader read none of its {_limits.BufferedTokens} kept tokens for " +
                $"{_limits.ReaderTimeout.TotalSeconds} s (ReaderTimeout)."));
        }
    }

    private void EndLeft(List<Sequence> sequences)
    {
        for (int n = sequences.Count - 1; n >= 0; n--)
        {
            if (sequences[n].IsLeft)
                End(sequences, sequences[n], null);
        }
    }

    /// <summary>Gives the oldest waiting requests a session, as long as there is room for them.</summary>
    private void Admit()
    {
        while (NextAdmitted() is Sequence sequence)
        {
            _prefilling.Add(sequence);
            try
            {
                sequence.Begin(NewSession(sequence));
                _metrics.Reused(sequence.Reused);
            }
            catch (Exception e)
            {
                End(_prefilling, sequence, e);
            }
        }
    }

    /// <summary>A session with as much of the prompt as a kept one has, as far as there is memory for both.</summary>
    private Session NewSession(Sequence sequence)
    {
        int context = sequence.ContextLength, chunk = Math.Min(_limits.PrefillRows, context);
        ReadOnlySpan<int> prompt = sequence.SharesPrefixes ? sequence.Prompt : [];
        try
        {
            return _kept.Begin(prompt, context, chunk, Room()) ?? _model.NewSession(context, chunk);
        }
        catch (Exception) when (_kept.Count > 0)
        {
            // What is kept must not be the memory that is lacking.
            _kept.Dispose();
            return _model.NewSession(context, chunk);
        }
    }

    /// <summary>Bytes that the running requests leave.</summary>
    private long Room()
    {
        lock (_gate)
            return _limits.MaxSessionBytes - _sessionBytes;
    }

    /// <summary>
    /// Copies a session whose sliding layers will have lost at its end what goes on from the whole pieces of its prompt, once these have been fed.
    /// Others are kept as they are when they end.
    /// </summary>
    private void KeepPieces(Sequence sequence)
    {
        int rows = _limits.PrefillRows, fed = sequence.Fed;
        bool isLast = fed % rows == 0 && sequence.Prompt.Length - fed < rows;
        long held = (long)_model.Config.SlidingWindow + Math.Min(rows, sequence.ContextLength) - 1;
        if (!isLast || !sequence.SharesPrefixes || _limits.Reuse != PrefixReuse.WholePieces || sequence.ContextLength <= held)
            return;
        long bytes = SessionBytes(_model, fed, rows), room = Room();
        if (_limits.KeptSessions == 0 || bytes > Math.Min(room, _limits.MaxKeptBytes))
            return;
        try
        {
            if (sequence.Copy() is Session copy)
                _kept.Keep(copy, fed, bytes, room);
        }
        catch (Exception)
        {
            // The copy is for others: that there is no memory for it is not this request's error.
            _kept.Dispose();
        }
    }

    private Sequence? NextAdmitted()
    {
        lock (_gate)
        {
            if (_waiting.First?.Value is not Sequence first || _running == _limits.MaxRunning
                || first.Bytes > _limits.MaxSessionBytes - _sessionBytes)
                return null;
            _waiting.RemoveFirst();
            _running++;
            _sessionBytes += first.Bytes;
            return first;
        }
    }

    /// <summary>Feeds a piece of the prompt that came first.</summary>
    private bool FeedPiece()
    {
        if (_prefilling.Count == 0)
            return false;
        Sequence sequence = _prefilling[0];
        long started = Stopwatch.GetTimestamp();
        try
        {
            int rows = sequence.FeedPiece(_limits.PrefillRows, _stop.Token);
            _metrics.Prefilled(rows, started);
            KeepPieces(sequence);
        }
        catch (Exception e) when (!IsStop(e))
        {
            End(_prefilling, sequence, e);
            return true;
        }

        if (sequence.IsFinished)
        {
            End(_prefilling, sequence, null);
        }
        else if (sequence.IsPrefilled)
        {
            _prefilling.RemoveAt(0);
            _decoding.Add(sequence);
        }

        return true;
    }

    /// <summary>Feeds the newest token of every sequence that is not paused.</summary>
    private bool DecodeStep()
    {
        _step.Clear();
        foreach (Sequence sequence in _decoding)
        {
            if (!sequence.IsPaused)
                _step.Add(sequence);
        }

        if (_step.Count == 0)
            return false;
        long started = Stopwatch.GetTimestamp();
        if (_batch.Length < _step.Count)
            Array.Resize(ref _batch, Math.Max(_step.Count, 2 * _batch.Length));
        for (int n = 0; n < _step.Count; n++)
            _batch[n] = _step[n].NextStep();
        try
        {
            _model.Forward(_batch.AsSpan(0, _step.Count), _stop.Token);
        }
        catch (Exception e) when (!IsStop(e))
        {
            OneByOne();
            return true;
        }

        _metrics.Decoded(_step.Count, started);
        foreach (Sequence sequence in _step)
            Advance(sequence);
        return true;
    }

    /// <summary>
    /// A call for all of them failed, which left every session where it was: each goes alone, and those that fail again end by their own
    /// error.
    /// </summary>
    private void OneByOne()
    {
        foreach (Sequence sequence in _step)
        {
            try
            {
                _model.Forward([sequence.NextStep()], _stop.Token);
            }
            catch (Exception e) when (!IsStop(e))
            {
                End(_decoding, sequence, e);
                continue;
            }

            Advance(sequence);
        }
    }

    private void Advance(Sequence sequence)
    {
        try
        {
            sequence.AfterStep();
        }
        catch (Exception e)
        {
            End(_decoding, sequence, e);
            return;
        }

        if (sequence.IsFinished)
            End(_decoding, sequence, null);
    }

    private bool IsStop(Exception e) => e is OperationCanceledException && _stop.IsCancellationRequested;

    private void End(List<Sequence> list, Sequence sequence, Exception? error)
    {
        list.Remove(sequence);
        lock (_gate)
        {
            _running--;
            _sessionBytes -= sequence.Bytes;
        }

        Finish(sequence, error);
    }

    /// <summary>Memory goes back before the reader hears of the end, so that whoever then asks for more finds it.</summary>
    private void Finish(Sequence sequence, Exception? error)
    {
        try
        {
            // Whatever failed may have left its session in the middle of a call.
            if (error is null && sequence.Release() is Session session)
                _kept.Keep(session, _limits.Reuse == PrefixReuse.AllTokens ? session.Position : sequence.Fed, sequence.Bytes, Room());
            sequence.Dispose();
        }
        catch (Exception e)
        {
            error ??= e;
        }

        try
        {
            string outcome = error is not null ? "failed" : sequence.IsFinished ? "done" : "left";
            _metrics.Ended(sequence, outcome);
            if (error is not null and not ObjectDisposedException)
                _logger.Failed(error, sequence.Kind, sequence.Prompt.Length);
            else
                _logger.Ended(sequence.Kind, sequence.Prompt.Length, outcome);
        }
        finally
        {
            if (error is NotFiniteException)
                error = new InvalidOperationException(error.Message, error);
            sequence.Complete(error ?? (sequence.IsFinished ? null : new OperationCanceledException()));
        }
    }

    private void EndAll(Exception? broken)
    {
        Exception end = broken is null ? new ObjectDisposedException(nameof(KernelScopeEngine)) : Broken(broken);
        List<Sequence> waiting;
        lock (_gate)
        {
            _broken = broken;
            _stop.Cancel();
            waiting = [.. _waiting];
            _waiting.Clear();
        }

        while (_decoding.Count > 0)
            End(_decoding, _decoding[^1], end);
        while (_prefilling.Count > 0)
            End(_prefilling, _prefilling[^1], end);
        foreach (Sequence sequence in waiting)
            Finish(sequence, end);
        _kept.Dispose();
    }
}

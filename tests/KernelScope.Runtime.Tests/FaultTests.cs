using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using KernelScope.Cpu;
using KernelScope.Generation;
using KernelScope.Model;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace KernelScope.Runtime.Tests;

/// <summary>Faults of what an engine calls, and engines that are not treated as they should be.</summary>
public class FaultTests
{
    private static readonly GenerationRequest Short =
        new() { PromptTokens = Engines.Prompt(1, 20), Options = new GenerationOptions { MaxNewTokens = 4, StopIds = [] } };

    [Fact]
    public async Task A_logger_that_throws_ends_no_request()
    {
        using var factory = new ThrowingLogs();
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o => o.LoggerFactory = factory);
        Assert.Equal(4, (await engine.AllAsync(Short).WaitAsync(Engines.Patience)).Count);
        Assert.Equal(4, (await engine.AllAsync(Short).WaitAsync(Engines.Patience)).Count);
        Assert.True(factory.Calls > 0);
    }

    [Fact]
    public async Task A_meter_listener_that_throws_ends_no_request()
    {
        using var meters = new Measurements();
        int calls = 0;
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Meter.Scope == meters)
                self.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<long>((_, _, _, _) => Fail());
        listener.SetMeasurementEventCallback<int>((_, _, _, _) => Fail());
        listener.SetMeasurementEventCallback<double>((_, _, _, _) => Fail());
        listener.Start();
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o => o.MeterFactory = meters);
        Assert.Equal(4, (await engine.AllAsync(Short).WaitAsync(Engines.Patience)).Count);
        Assert.Equal(4, (await engine.AllAsync(Short).WaitAsync(Engines.Patience)).Count);
        Assert.True(calls > 0);

        void Fail()
        {
            Interlocked.Increment(ref calls);
            throw new InvalidOperationException("a listener's error");
        }
    }

    [Fact]
    public async Task A_broken_engine_tells_every_request_the_cause()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        var limits = new EngineLimits(2, 2, long.MaxValue, 0, PrefixReuse.WholePieces, 64, 4, Timeout.InfiniteTimeSpan);
        var scheduler = new Scheduler(engine.Model, engine, limits, null, NullLogger.Instance);
        var breaking = new Breaking(engine.Model);
        scheduler.Submit(breaking);
        Exception? running = await breaking.Ended.WaitAsync(Engines.Patience);
        Assert.Contains("the cause", Assert.IsType<InvalidOperationException>(running).Message, StringComparison.Ordinal);
        InvalidOperationException later = Assert.Throws<InvalidOperationException>(() => scheduler.Submit(new Breaking(engine.Model)));
        Assert.Contains("the cause", later.Message, StringComparison.Ordinal);
        await scheduler.DisposeAsync();
    }

    [Fact]
    public async Task The_largest_limits_are_no_limits()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o =>
            (o.MaxRunning, o.MaxWaiting, o.BufferedTokens, o.PrefillRows) = (int.MaxValue, int.MaxValue, int.MaxValue, int.MaxValue));
        Assert.All(await Task.WhenAll(engine.AllAsync(Short), engine.AllAsync(Short)), tokens => Assert.Equal(4, tokens.Count));
    }

    [Fact]
    public async Task An_engine_that_cannot_start_closes_what_it_opened()
    {
        Gemma2Checkpoint? checkpoint = null;
        EngineOptions options = Engines.Options();
        options.Checkpoint = () => checkpoint = Demo.OpenCheckpoint();
        options.MeterFactory = new ClosedMeters();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => KernelScopeEngine.OpenAsync(options));
        using var device = new CpuDevice(1);
        Assert.Throws<ObjectDisposedException>(() => Gemma2Model.Load(device, checkpoint!));
    }

    [Fact]
    public async Task An_engine_that_nobody_disposes_is_collected_with_its_model()
    {
        WeakReference model = Abandoned();
        await Engines.UntilAsync(
            () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return !model.IsAlive;
            },
            "the model is collected");
    }

    [Fact]
    public async Task A_reader_who_stalls_loses_its_place()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync(change: o =>
            (o.MaxRunning, o.BufferedTokens, o.ReaderTimeout) = (1, 4, TimeSpan.FromMilliseconds(100)));
        GenerationRequest many = Short with { Options = Short.Options with { MaxNewTokens = 100 } };
        await using IAsyncEnumerator<GeneratedToken> stalled = engine.GenerateAsync(many).GetAsyncEnumerator();
        Assert.True(await stalled.MoveNextAsync());
        Assert.Equal(4, (await engine.AllAsync(Short).WaitAsync(Engines.Patience)).Count);
        for (int kept = 0; kept < 4; kept++)
            Assert.True(await stalled.MoveNextAsync());
        TimeoutException end = await Assert.ThrowsAsync<TimeoutException>(async () => await stalled.MoveNextAsync());
        Assert.Contains("ReaderTimeout", end.Message, StringComparison.Ordinal);
    }

    /// <summary>When the engine goes to sleep, a request that paused just now may have waited for less than a tick.</summary>
    [Fact]
    public async Task A_reader_who_stalled_just_now_is_not_forgotten()
    {
        await using KernelScopeEngine engine = await Engines.OpenAsync();
        var limits = new EngineLimits(1, 1, long.MaxValue, 0, PrefixReuse.WholePieces, 64, 4, TimeSpan.FromMilliseconds(100));
        await using var scheduler = new Scheduler(engine.Model, engine, limits, null, NullLogger.Instance);
        var stalled = new Stalled(engine.Model);
        scheduler.Submit(stalled);
        Assert.IsType<TimeoutException>(await stalled.Ended.WaitAsync(Engines.Patience));
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static WeakReference Abandoned()
    {
#pragma warning disable xUnit1031, CA2000 // A state machine would hold the engine; and not to dispose it is the point.
        KernelScopeEngine engine = Engines.OpenAsync().GetAwaiter().GetResult();
        Assert.Equal(4, engine.AllAsync(Short).GetAwaiter().GetResult().Count);
#pragma warning restore xUnit1031, CA2000
        return new WeakReference(engine.Model);
    }

    /// <summary>An error where the engine expects none.</summary>
    private sealed class Breaking(Gemma2Model model) : Unread(model)
    {
        public override bool IsPaused => throw new NotSupportedException("the cause");
    }

    /// <summary>Paused from the end of its prompt on; for its first 50 ms it has waited for less than a tick.</summary>
    private sealed class Stalled(Gemma2Model model) : Unread(model)
    {
        private long _since;

        public override bool IsPaused
        {
            get
            {
                _since = _since == 0 ? Stopwatch.GetTimestamp() : _since;
                return true;
            }
        }

        public override TimeSpan? PausedFor => _since == 0 ? null
            : Stopwatch.GetElapsedTime(_since) is { TotalMilliseconds: > 50 } waited ? waited : TimeSpan.Zero;
    }

    private abstract class Unread(Gemma2Model model) : Sequence("unread", [2], 4)
    {
        private readonly TaskCompletionSource<Exception?> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task<Exception?> Ended => _ended.Task;

        public override SessionTokens NextStep() => throw new NotSupportedException();

        public override void AfterStep() => throw new NotSupportedException();

        public override void Complete(Exception? error) => _ended.TrySetResult(error);

        protected override void Feed(ReadOnlySpan<int> tokens, bool isLast, CancellationToken cancellationToken) =>
            model.Forward(tokens, Session, LogitRows.Last, cancellationToken);

        protected override void AfterPrompt()
        {
        }

        protected override void Disarm()
        {
        }
    }

    private sealed class ClosedMeters : IMeterFactory
    {
        public Meter Create(MeterOptions options) => throw new ObjectDisposedException(nameof(IMeterFactory));

        public void Dispose()
        {
        }
    }

    private sealed class ThrowingLogs : ILoggerFactory, ILogger
    {
        private int _calls;

        public int Calls => _calls;

        public ILogger CreateLogger(string categoryName) => this;

        public void AddProvider(ILoggerProvider provider)
        {
        }

        public void Dispose()
        {
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            Interlocked.Increment(ref _calls);
            throw new InvalidOperationException("a logger's error");
        }
    }
}

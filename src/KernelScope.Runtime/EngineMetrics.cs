using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace KernelScope.Runtime;

/// <summary>The engine's instruments: numbers only, never a text.</summary>
internal sealed class EngineMetrics : IDisposable
{
    private const string KindTag = "kind";
    private readonly Meter _meter;
    private readonly bool _ownsMeter;
    private readonly Counter<long> _requests, _refusals, _promptTokens, _reusedTokens, _newTokens;
    private readonly Histogram<double> _firstToken, _step;
    private readonly Histogram<int> _rows;

    public EngineMetrics(IMeterFactory? factory, Func<SchedulerLoad> load)
    {
        // A factory disposes its meters itself.
        _ownsMeter = factory is null;
        _meter = factory?.Create(KernelScopeEngine.TelemetryName) ?? new Meter(KernelScopeEngine.TelemetryName);
        _requests = _meter.CreateCounter<long>(
            "kernelscope.requests", "{request}", "Requests that ended, by kind and outcome (done, left, failed).");
        _refusals = _meter.CreateCounter<long>(
            "kernelscope.refusals", "{request}", "Requests that were refused because the engine was busy.");
        _promptTokens = _meter.CreateCounter<long>("kernelscope.tokens.prompt", "{token}", "Tokens of prompts that were fed.");
        _reusedTokens = _meter.CreateCounter<long>(
            "kernelscope.tokens.reused", "{token}", "Tokens of prompts that were not fed because a kept session had them.");
        _newTokens = _meter.CreateCounter<long>("kernelscope.tokens.new", "{token}", "Tokens that were generated.");
        _firstToken = _meter.CreateHistogram<double>("kernelscope.time_to_first_token", "s", "From the request to its first new token.");
        _step = _meter.CreateHistogram<double>(
            "kernelscope.step.duration", "s", "Time of one call of the model, by kind (prefill, decode).");
        _rows = _meter.CreateHistogram<int>("kernelscope.step.rows", "{row}", "Rows of one call of the model, by kind (prefill, decode).");
        _meter.CreateObservableGauge("kernelscope.requests.waiting", () => load().Waiting, "{request}", "Requests that wait.");
        _meter.CreateObservableGauge("kernelscope.requests.running", () => load().Running, "{request}", "Requests that run.");
        _meter.CreateObservableGauge(
            "kernelscope.session.bytes", () => load().SessionBytes, "By", "Memory of the running requests' sessions.");
        _meter.CreateObservableGauge(
            "kernelscope.kept.sessions", () => load().KeptSessions, "{session}", "Sessions of ended requests that are kept.");
        _meter.CreateObservableGauge("kernelscope.kept.bytes", () => load().KeptBytes, "By", "Memory of the kept sessions.");
    }

    public void Reused(int tokens)
    {
        if (tokens > 0)
            Add(_reusedTokens, tokens);
    }

    public void Ended(Sequence sequence, string outcome) =>
        Add(_requests, 1, new(KindTag, sequence.Kind), new("outcome", outcome));

    public void Refused() => Add(_refusals, 1);

    public void FirstToken(long submitted) => Record(_firstToken, Stopwatch.GetElapsedTime(submitted).TotalSeconds);

    public void Prefilled(int rows, long started)
    {
        Add(_promptTokens, rows);
        Step("prefill", rows, started);
    }

    public void Decoded(int rows, long started) => Step("decode", rows, started);

    public void NewToken() => Add(_newTokens, 1);

    public void Dispose()
    {
        if (_ownsMeter)
            _meter.Dispose();
    }

    private void Step(string kind, int rows, long started)
    {
        Record(_step, Stopwatch.GetElapsedTime(started).TotalSeconds, new KeyValuePair<string, object?>(KindTag, kind));
        Record(_rows, rows, new KeyValuePair<string, object?>(KindTag, kind));
    }

    /// <summary>A listener runs on the engine's thread; what it throws must end neither a request nor the engine.</summary>
    private static void Add(Counter<long> counter, long value, params ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        try
        {
            counter.Add(value, tags);
        }
        catch (Exception)
        {
            // The listener's own affair.
        }
    }

    private static void Record<T>(Histogram<T> histogram, T value, params ReadOnlySpan<KeyValuePair<string, object?>> tags)
        where T : struct
    {
        try
        {
            histogram.Record(value, tags);
        }
        catch (Exception)
        {
            // The listener's own affair.
        }
    }
}

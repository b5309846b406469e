using System.Collections.Concurrent;
using System.Diagnostics.Metrics;

namespace KernelScope.Runtime.Tests;

/// <summary>
/// The sums of what one engine's instruments measured. Other engines of the process are not heard: their meters have another scope.
/// </summary>
internal sealed class Measurements : IMeterFactory
{
    private readonly ConcurrentDictionary<string, double> _sums = new();
    private readonly MeterListener _listener = new();

    public Measurements()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (ReferenceEquals(instrument.Meter.Scope, this))
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<long>((i, v, tags, _) => Add(i, v, tags));
        _listener.SetMeasurementEventCallback<int>((i, v, tags, _) => Add(i, v, tags));
        _listener.SetMeasurementEventCallback<double>((i, v, tags, _) => Add(i, v, tags));
        _listener.Start();
    }

    /// <summary>The sum of an instrument, or of what it measured with one tag: <c>kernelscope.requests outcome=left</c>.</summary>
    public double this[string name] => _sums.GetValueOrDefault(name);

    public Meter Create(MeterOptions options) => new(options.Name, options.Version, options.Tags, scope: this);

    /// <summary>Asks the gauges.</summary>
    public void Observe() => _listener.RecordObservableInstruments();

    public void Dispose() => _listener.Dispose();

    private void Add(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        _sums.AddOrUpdate(instrument.Name, value, (_, sum) => sum + value);
        foreach ((string key, object? tag) in tags)
            _sums.AddOrUpdate($"{instrument.Name} {key}={tag}", value, (_, sum) => sum + value);
    }
}

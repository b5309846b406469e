using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text;
using KernelScope.Runtime;

namespace KernelScope.Web.Serving;

/// <summary>The engine's instruments in Prometheus' text form (0.0.4).</summary>
internal sealed class PrometheusMetrics : IDisposable
{
    private static readonly double[] Buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100];
    private readonly MeterListener _listener = new();
    private readonly Lock _gate = new();
    private readonly SortedDictionary<string, Family> _families = new(StringComparer.Ordinal);

    public PrometheusMetrics()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == KernelScopeEngine.TelemetryName)
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Take(instrument, value, tags));
        _listener.SetMeasurementEventCallback<int>((instrument, value, tags, _) => Take(instrument, value, tags));
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Take(instrument, value, tags));
        _listener.Start();
    }

    public string Render()
    {
        _listener.RecordObservableInstruments();
        var text = new StringBuilder();
        lock (_gate)
        {
            foreach ((string name, Family family) in _families)
                family.Write(text, name);
        }

        return text.ToString();
    }

    public void Dispose() => _listener.Dispose();

    private void Take(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        string kind = instrument.GetType().Name;
        bool isCounter = kind.StartsWith("Counter", StringComparison.Ordinal);
        string type = isCounter ? "counter" : kind.StartsWith("Histogram", StringComparison.Ordinal) ? "histogram" : "gauge";
        string unit = instrument.Unit == "s" ? "_seconds" : "";
        string name = instrument.Name.Replace('.', '_') + unit + (isCounter ? "_total" : "");
        var labels = new StringBuilder();
        foreach ((string key, object? tag) in tags)
            labels.Append(labels.Length == 0 ? "" : ",").Append(key).Append("=\"").Append(tag).Append('"');
        lock (_gate)
        {
            if (!_families.TryGetValue(name, out Family? family))
                _families.Add(name, family = new Family(instrument.Description ?? "", type));
            family.Take(labels.ToString(), value);
        }
    }

    /// <summary>One instrument.</summary>
    private sealed class Family(string help, string type)
    {
        private readonly SortedDictionary<string, Series> _series = new(StringComparer.Ordinal);

        public void Take(string labels, double value)
        {
            if (!_series.TryGetValue(labels, out Series? series))
                _series.Add(labels, series = new Series());
            series.Sum = type == "gauge" ? value : series.Sum + value;
            series.Count++;
            for (int b = 0; b < Buckets.Length && type == "histogram"; b++)
            {
                if (value <= Buckets[b])
                    series.AtMost[b]++;
            }
        }

        public void Write(StringBuilder text, string name)
        {
            text.Append(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} {type}\n");
            foreach ((string labels, Series series) in _series)
            {
                if (type != "histogram")
                {
                    text.Append(CultureInfo.InvariantCulture, $"{name}{Braced(labels, "")} {series.Sum}\n");
                    continue;
                }

                for (int b = 0; b < Buckets.Length; b++)
                {
                    string bound = string.Create(CultureInfo.InvariantCulture, $"le=\"{Buckets[b]}\"");
                    text.Append(CultureInfo.InvariantCulture, $"{name}_bucket{Braced(labels, bound)} {series.AtMost[b]}\n");
                }

                text.Append(CultureInfo.InvariantCulture, $"{name}_bucket{Braced(labels, "le=\"+Inf\"")} {series.Count}\n");
                text.Append(CultureInfo.InvariantCulture, $"{name}_sum{Braced(labels, "")} {series.Sum}\n");
                text.Append(CultureInfo.InvariantCulture, $"{name}_count{Braced(labels, "")} {series.Count}\n");
            }
        }

        private static string Braced(string labels, string more)
        {
            string all = labels.Length > 0 && more.Length > 0 ? $"{labels},{more}" : labels + more;
            return all.Length == 0 ? "" : $"{{{all}}}";
        }
    }

    private sealed class Series
    {
        public double Sum { get; set; }

        public long Count { get; set; }

        public long[] AtMost { get; } = new long[Buckets.Length];
    }
}

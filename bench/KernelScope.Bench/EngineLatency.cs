using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Globalization;
using KernelScope.Bench.Models;
using KernelScope.Generation;
using KernelScope.Measuring;
using KernelScope.Model;
using KernelScope.Runtime;

namespace KernelScope.Bench;

/// <summary>
/// What the engine promises to those who wait: the first token of a long prompt while seven streams run, at most twice what it takes
/// alone; and the longest pause of a stream,
/// at most one piece of a prompt and one step.
/// </summary>
internal static class EngineLatency
{
    private const int Streams = 7, Rounds = 5, LongPrompt = 512;
    private const double Limit = 2;

    /// <summary>The demo; its context is 512 tokens, so the prompt is a little shorter.</summary>
    public static Task<int> OfDemoAsync() => MeasureAsync(Demo.OpenCheckpoint, "demo");

    /// <summary>Random weights of 2B's layers and vocabulary, packed, with as many layers as asked for.</summary>
    public static async Task<int> OfLayersAsync(int layers)
    {
        using var folder = new WeightsFolder(
            Path.Combine(Path.GetTempPath(), $"kernelscope-engine-{Environment.ProcessId}"),
                ModelSizes.ConfigOf("gemma-2-2b") with { LayerCount = layers }, keep: false);
        var progress = new Progress();
        string name = $"2B's shape, {layers} layers, packed";
        return await MeasureAsync(() => folder.OpenPacked(null, progress, CancellationToken.None), name, packed: true)
            .ConfigureAwait(false);
    }

    private static async Task<int> MeasureAsync(Func<Gemma2Checkpoint> checkpoint, string name, bool packed = false)
    {
        var options = new EngineOptions { Checkpoint = checkpoint, UsePackedWeights = packed };
        await using KernelScopeEngine engine = await KernelScopeEngine.OpenAsync(options).ConfigureAwait(false);
        int prompt = Math.Min(LongPrompt, engine.ContextLength - 8);
        Console.WriteLine(FormattableString.Invariant(
            $"{name}: a prompt of {prompt} tokens beside {Streams} streams, {Rounds} rounds; seconds"));
        Console.WriteLine($"{"alone",10} {"beside",10} {"ratio",7} {"longest pause",14} {"longest piece + step",21}");
        using var steps = new StepTimes();
        await FirstTokenAsync(engine, prompt).ConfigureAwait(false);
        var ratios = new List<double>();
        bool within = true;
        for (int round = 0; round < Rounds; round++)
        {
            double alone = await FirstTokenAsync(engine, prompt).ConfigureAwait(false);
            using var stop = new CancellationTokenSource();
            Pauses[] streams = [.. Enumerable.Range(0, Streams).Select(n => new Pauses(engine, Ids(engine, 16, n)))];
            Task running = Task.WhenAll(streams.Select(s => s.ReadAsync(stop.Token)));
            while (streams.Any(s => s.Count < 4))
                await Task.Delay(1).ConfigureAwait(false);
            steps.Clear();
            foreach (Pauses stream in streams)
                stream.Clear();
            double beside = await FirstTokenAsync(engine, prompt).ConfigureAwait(false);
            double pause = streams.Max(s => s.Longest), bound = steps.Longest("prefill") + steps.Longest("decode");
            await stop.CancelAsync().ConfigureAwait(false);
            await running.ConfigureAwait(false);
            ratios.Add(beside / alone);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{alone,10:f4} {beside,10:f4} {beside / alone,7:f2} {pause,14:f4} {bound,21:f4}"));
        }

        ratios.Sort();
        within &= ratios[Rounds / 2] <= Limit;
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"median ratio {ratios[Rounds / 2]:f2}, which should be at most {Limit}"));
        return within ? 0 : 1;
    }

    private static async Task<double> FirstTokenAsync(KernelScopeEngine engine, int length)
    {
        long started = Stopwatch.GetTimestamp();
        var one = new GenerationOptions { MaxNewTokens = 1, StopIds = [] };
        var request = new GenerationRequest { PromptTokens = Ids(engine, length, 99), Options = one };
        await foreach (GeneratedToken _ in engine.GenerateAsync(request).ConfigureAwait(false))
            break;
        return Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    private static int[] Ids(KernelScopeEngine engine, int length, int seed)
    {
        var random = new Random(seed);
        Gemma2Config config = engine.Model.Config;
        return [.. Enumerable.Range(0, length).Select(t => t == 0 ? config.BosId : random.Next(473, config.VocabSize))];
    }

    /// <summary>A stream and the times between its tokens.</summary>
    private sealed class Pauses(KernelScopeEngine engine, int[] prompt)
    {
        private readonly Lock _gate = new();
        private double _longest;

        public int Count { get; private set; }

        public double Longest
        {
            get
            {
                lock (_gate)
                    return _longest;
            }
        }

        public void Clear()
        {
            lock (_gate)
                _longest = 0;
        }

        public async Task ReadAsync(CancellationToken cancellationToken)
        {
            var request = new GenerationRequest
            {
                PromptTokens = prompt,
                Options = new GenerationOptions { MaxNewTokens = engine.ContextLength - prompt.Length, StopIds = [] },
            };
            long last = Stopwatch.GetTimestamp();
            try
            {
                await foreach (GeneratedToken _ in engine.GenerateAsync(request, cancellationToken).ConfigureAwait(false))
                {
                    double pause = Stopwatch.GetElapsedTime(last).TotalSeconds;
                    last = Stopwatch.GetTimestamp();
                    lock (_gate)
                        _longest = Math.Max(_longest, pause);
                    Count++;
                }
            }
            catch (OperationCanceledException)
            {
                // The round is over.
            }
        }
    }

    /// <summary>The engine's own times of its calls, by kind.</summary>
    private sealed class StepTimes : IDisposable
    {
        private readonly Dictionary<string, double> _longest = [];
        private readonly MeterListener _listener = new();

        public StepTimes()
        {
            _listener.InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Meter.Name == KernelScopeEngine.TelemetryName && instrument.Name == "kernelscope.step.duration")
                    listener.EnableMeasurementEvents(instrument);
            };
            _listener.SetMeasurementEventCallback<double>((_, seconds, tags, _) => Add((string)tags[0].Value!, seconds));
            _listener.Start();
        }

        public double Longest(string kind)
        {
            lock (_longest)
                return _longest.GetValueOrDefault(kind);
        }

        public void Clear()
        {
            lock (_longest)
                _longest.Clear();
        }

        public void Dispose() => _listener.Dispose();

        private void Add(string kind, double seconds)
        {
            lock (_longest)
                _longest[kind] = Math.Max(_longest.GetValueOrDefault(kind), seconds);
        }
    }
}

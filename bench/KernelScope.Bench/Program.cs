using KernelScope.Bench;
using KernelScope.Bench.Models;
using KernelScope.Bench.Peers;
using KernelScope.Cpu;

try
{
    return args switch
    {
        // evaluation [large]: what an evaluation costs beside the forward passes that it needs.
        ["evaluation", ..] => Evaluation(large: args.Contains("large")),
        // engine [LAYERS]: what the engine promises to those who wait, on the demo or on so many of 2B's layers.
        ["engine"] => EngineLatency.OfDemoAsync().GetAwaiter().GetResult(),
        ["engine", string layers] when int.TryParse(layers, out int count) => EngineLatency.OfLayersAsync(count).GetAwaiter().GetResult(),
        // queue URL: what a queue of shards costs, on a NATS server with JetStream that is there for it.
        ["queue", string url] => QueueCost.Measure(url),
        // harvest FOLDER: a harvest beside its forward passes, and one worker beside many. read FOLDER: a run's reader beside dd.
        ["harvest", string place] => HarvestCost.Measure(place),
        ["read", string place] => ReaderCost.Measure(place),
        [LoadChild.Verb, ..] => LoadChild.Load(args.AsSpan(1)),
        _ => Suite.Run(Options.Parse(args)),
    };
}
catch (ArgumentException wrong)
{
    Console.Error.WriteLine(wrong.Message);
    return 2;
}
catch (Exception failure) when (failure is OutsideProgramException or IOException or InvalidDataException or UnauthorizedAccessException)
{
    Console.Error.WriteLine(failure.Message);
    return 1;
}

static int Evaluation(bool large)
{
    using var device = new CpuDevice();
    return large ? EvaluationCost.OfLarge(device, turns: 2) : EvaluationCost.OfDemo(device, turns: 5);
}

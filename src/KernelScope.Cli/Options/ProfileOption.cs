using System.CommandLine;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Measuring;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary><c>--profile</c>: where the time goes, op by op and layer by layer.</summary>
internal sealed class ProfileOption
{
    private readonly Option<bool> _profile = new("--profile")
    {
        Description = "Print to standard error what each kind of op and each " +
        "layer took, moved and computed, and which share of the time its limit allows: the device's bandwidth and peak are measured " +
        "for it at the end. Every op then waits for the device, and the watching takes about half a microsecond a call that is counted " +
        "nowhere; results do not change. The text is run once before, so that compiling is not measured."
    };

    public ProfileOption(Command verb) => verb.Options.Add(_profile);

    /// <summary>The option.</summary>
    public Option Option => _profile;

    /// <summary>Whether it was given.</summary>
    public bool IsGiven(ParseResult parsed) => parsed.GetValue(_profile);

    /// <summary>Runs once what will be measured, so that the time of the just-in-time compiler is not in it; nothing if nobody measures.</summary>
    /// <param name="bench">Model, SAEs, which encode at their sites, and device; only a watched one is warmed up.</param>
    /// <param name="tokens">The prompt, of which the first chunks are enough.</param>
    /// <param name="generates">Whether single tokens follow.</param>
    public static void WarmUp(Workbench bench, int[] tokens, bool generates)
    {
        if (bench.Device is not ProfilingDevice profiled)
            return;
        const int Enough = 512;
        int count = Math.Min(tokens.Length, Enough);
        using (Session session = bench.Model.NewSession(Math.Min(count + 1, bench.Files.Config.ContextLength)))
        {
            List<FeatureCapture> captures = [.. bench.Saes.Select(s => new FeatureCapture(session.Hooks, s.Sae, s.Site))];
            session.Prefill(tokens.AsSpan(0, count), null, bench.Cancellation);
            if (generates && session.Position < session.ContextLength)
                session.Prefill(tokens.AsSpan(count - 1, 1), null, bench.Cancellation);
            captures.ForEach(c => c.Dispose());
        }

        profiled.Synchronize();
        profiled.Reset();
    }

    /// <summary>Prints what was measured, if anything was.</summary>
    public static void Print(Workbench bench)
    {
        if (bench.Device is ProfilingDevice profiled)
        {
            Streams streams = bench.Verb.Streams;
            streams.Output.Flush();
            using var limits = DeviceLimits.Create(profiled.Watched);
            ProfileView.Print(streams.Error, profiled.Entries, new(limits.Measure(Bound.Bandwidth), limits.Measure(Bound.Peak)));
            if (profiled.Watched is CpuDevice cpu)
                ProfileView.PrintKernels(streams.Error, cpu, profiled.Weights);
        }
    }
}

using System.CommandLine;
using KernelScope.Cpu;
using KernelScope.Devices;
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

    /// <summary>The device to compute on: the one given, or one that watches it.</summary>
    public Device Watch(ParseResult parsed, Device device) => parsed.GetValue(_profile) ? new ProfilingDevice(device) : device;

    /// <summary>Runs once what will be measured, so that the time of the just-in-time compiler is not in it; nothing if nobody measures.</summary>
    /// <param name="device">The device; only a watched one is warmed up.</param>
    /// <param name="model">The model on it.</param>
    /// <param name="saes">SAEs that encode at their sites.</param>
    /// <param name="tokens">The prompt, of which the first chunks are enough.</param>
    /// <param name="generates">Whether single tokens follow.</param>
    /// <param name="cancellation">Stops between two layers.</param>
    public static void WarmUp(Device device, Gemma2Model model, IEnumerable<SaeStack.LoadedSae> saes, int[] tokens, bool generates,
        CancellationToken cancellation)
    {
        if (device is not ProfilingDevice profiled)
            return;
        const int Enough = 512;
        int count = Math.Min(tokens.Length, Enough);
        using (Session session = model.NewSession(Math.Min(count + 1, model.Config.ContextLength)))
        {
            List<FeatureCapture> captures = [.. saes.Select(s => new FeatureCapture(session.Hooks, s.Sae, s.Files.Site))];
            session.Prefill(tokens.AsSpan(0, count), null, cancellation);
            if (generates && session.Position < session.ContextLength)
                session.Prefill(tokens.AsSpan(count - 1, 1), null, cancellation);
            captures.ForEach(c => c.Dispose());
        }

        device.Synchronize();
        profiled.Reset();
    }

    /// <summary>Prints what was measured, if anything was.</summary>
    public static void Print(Device device, Streams streams)
    {
        if (device is ProfilingDevice profiled)
        {
            streams.Output.Flush();
            using var limits = BenchLimits.Of(profiled.Watched);
            ProfileView.Print(streams.Error, profiled.Entries, new(limits.Measure(Bound.Bandwidth), limits.Measure(Bound.Peak)));
            if (profiled.Watched is CpuDevice cpu)
                ProfileView.PrintKernels(streams.Error, cpu, profiled.Weights);
        }
    }
}

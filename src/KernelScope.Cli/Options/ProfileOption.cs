using System.CommandLine;
using KernelScope.Devices;

namespace KernelScope.Cli;

/// <summary><c>--profile</c>: where the time goes, op by op and layer by layer.</summary>
internal sealed class ProfileOption
{
    private readonly Option<bool> _profile = new("--profile") { Description = "Print to standard error what each kind of op and each layer took, moved and computed, and which share of the time its limit allows: the device's bandwidth and peak are measured for it at the end. Every op then waits for the device, and the watching takes about half a microsecond a call that is counted nowhere; results do not change." };

    public ProfileOption(Command verb) => verb.Options.Add(_profile);

    /// <summary>The device to compute on: the one given, or one that watches it.</summary>
    public Device Watch(ParseResult parsed, Device device) => parsed.GetValue(_profile) ? new ProfilingDevice(device) : device;

    /// <summary>Prints what was measured, if anything was.</summary>
    public static void Print(Device device, Streams streams)
    {
        if (device is ProfilingDevice profiled)
        {
            streams.Output.Flush();
            using var limits = BenchLimits.Of(profiled.Watched);
            ProfileView.Print(streams.Error, profiled.Entries, new(limits.Measure(Bound.Bandwidth), limits.Measure(Bound.Peak)));
        }
    }
}

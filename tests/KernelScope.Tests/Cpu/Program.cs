using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Tests.Model;
using KernelScope.Tests.Threads;

namespace KernelScope.Tests.Cpu;

/// <summary>The test assembly as a program: what a test must see in a process of its own.</summary>
internal static class Program
{
    /// <summary>
    /// <c>conformance</c>: prints the instruction set, then the cases of the op suite that fail on the SIMD device, with weights as stored and packed, in either precision; 1 if there are any.
    /// <c>together</c>, <c>disposed</c>, <c>host-work</c>, <c>forgotten</c>: see <see cref="Misuse"/>.
    /// <c>session MODEL DEVICE FILE IDS</c>: <see cref="SessionChild"/>.
    /// </summary>
    public static int Main(string[] args)
    {
        if (args is ["together" or "disposed" or "host-work" or "forgotten", ..])
            return Misuse.Run(args);
        if (args is [SessionChild.Verb, ..])
            return SessionChild.Run(args.AsSpan(1));
        if (args is not ["conformance"])
            return 2;
        using CpuDevice device = new(2), fast = new(2, Precision.Fast);
        using PackingDevice packing = new(2), fastPacking = new(new CpuDevice(2, Precision.Fast));
        Console.WriteLine(device.InstructionSet);
        string[] failures = [.. new Device[] { device, packing, fast, fastPacking }.SelectMany(CpuConformanceTests.Failures)];
        foreach (string failure in failures)
            Console.WriteLine(failure);
        return failures.Length == 0 ? 0 : 1;
    }
}

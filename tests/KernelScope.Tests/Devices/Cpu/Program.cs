using KernelScope.Devices.Cpu;

namespace KernelScope.Tests.Devices.Cpu;

/// <summary>The test assembly as a program: what a test must see in a process of its own.</summary>
internal static class Program
{
    /// <summary><c>conformance</c>: prints the instruction set, then the cases of the op suite that fail on the SIMD device, with weights as stored and packed; 1 if there are any.</summary>
    public static int Main(string[] args)
    {
        if (args is not ["conformance"])
            return 2;
        using (CpuDevice device = new(1))
            Console.WriteLine(device.InstructionSet);
        string[] failures = [.. CpuConformanceTests.Failures(threads: 2), .. CpuConformanceTests.PackedFailures(threads: 2)];
        foreach (string failure in failures)
            Console.WriteLine(failure);
        return failures.Length == 0 ? 0 : 1;
    }
}

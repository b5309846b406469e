using System.Globalization;
using KernelScope.Conformance;
using KernelScope.Cpu;
using KernelScope.CpuBits;
using KernelScope.Devices;

// One line for each case: a hash of every value that the cpu device gave. Two builds whose lines are equal compute the same bits on this machine.
//     cpubits > before.txt; (change something); cpubits > after.txt; diff before.txt after.txt
// With DOTNET_EnableAVX512=0, and DOTNET_EnableAVX2=0, the kernels of narrower vectors run. The option --products leaves the conformance suite out.
bool productsOnly = args.Contains("--products");
foreach (Precision precision in (Precision[])[Precision.Exact, Precision.Fast])
{
    foreach (bool packs in (bool[])[false, true])
    {
        using var cpu = new CpuDevice(2, precision, precision);
        using var device = new HashingDevice(cpu, packs);
        string setup = string.Create(CultureInfo.InvariantCulture, $"{cpu.InstructionSet} {precision}{(packs ? " packed" : "")}");
        foreach (ConformanceCase one in productsOnly ? [] : ConformanceSuite.Cases(ConformanceScale.Default))
        {
            bool ok = one.Run(device).Ok;
            Console.WriteLine($"{device.TakeHash()} {(ok ? "ok" : "FAIL")} {setup} {one}");
        }

        foreach (string product in Products.Run(device))
            Console.WriteLine($"{device.TakeHash()} ok {setup} {product}");
    }
}

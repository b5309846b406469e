using KernelScope.Devices;
using KernelScope.Devices.Cpu;
using KernelScope.Devices.Reference;

namespace KernelScope.Tests;

/// <summary>The devices that every test of the model and the SAEs runs on.</summary>
internal static class TestDevices
{
    public static readonly string[] All = ["reference", "cpu"];

    public static Device Open(string name) => name switch
    {
        "reference" => new ReferenceDevice(),
        "cpu" => new CpuDevice(),
        _ => throw new ArgumentException(name),
    };
}

using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Tests.Cpu;

namespace KernelScope.Tests;

/// <summary>The devices that every test of the model and the SAEs runs on.</summary>
internal static class TestDevices
{
    public static readonly string[] All = ["reference", "cpu", Packed];

    /// <summary>Tokens that a golden's greedy decoding is held to: all that it has.</summary>
    public const int GreedySteps = 24;

    /// <summary>Prompts of a golden that are decoded from: both.</summary>
    public static readonly string[] GreedyPrompts = ["", "-2"];

    /// <summary>The cpu device with every weight in panels.</summary>
    private const string Packed = "cpu, packed";

    public static Device Open(string name) => name switch
    {
        "reference" => new ReferenceDevice(),
        "cpu" => new CpuDevice(),
        Packed => new PackingDevice(0),
        _ => throw new ArgumentException(name),
    };
}

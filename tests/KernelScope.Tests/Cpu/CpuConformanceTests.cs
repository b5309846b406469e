using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using KernelScope.Conformance;
using KernelScope.Cpu;
using KernelScope.Devices;

namespace KernelScope.Tests.Cpu;

/// <summary>The op suite on the SIMD device, at several numbers of threads and with each instruction set that this machine has.</summary>
public class CpuConformanceTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Device_agrees_with_the_reference(int threads)
    {
        using CpuDevice device = new(threads);
        Assert.Equal([], Failures(device));
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public void Fast_products_agree_with_the_reference_within_the_limits_of_bfloat16(bool machineCode, bool packed)
    {
        CpuDevice cpu = new(2, Precision.Fast, Precision.Exact, machineCode);
        using Device device = packed ? new PackingDevice(cpu) : cpu;
        Assert.Equal([], Failures(device));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Device_agrees_with_the_reference_on_packed_weights(int threads)
    {
        using PackingDevice device = new(threads);
        Assert.Equal([], Failures(device));
    }

    /// <summary>The runtime's own switches take instructions away, which only a new process can see.</summary>
    [Theory]
    [InlineData("DOTNET_EnableAVX512", "AVX2")]
    [InlineData("DOTNET_EnableAVX2", "portable")]
    [InlineData("DOTNET_EnableHWIntrinsic", "portable")]
    public async Task Device_agrees_with_the_reference_without_some_instructions(string setting, string instructionSet)
    {
        using Process child = Start(setting);
        Task<string> errors = child.StandardError.ReadToEndAsync();
        string[] lines = (await child.StandardOutput.ReadToEndAsync()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        await child.WaitForExitAsync();
        Assert.True(child.ExitCode == 0, string.Join('\n', lines) + await errors);
        Assert.Equal(instructionSet == "AVX2" && !Avx2.IsSupported ? "portable" : instructionSet, lines[0]);
    }

    [Fact]
    public void Device_uses_the_widest_vectors_of_the_machine()
    {
        using CpuDevice device = new(1);
        Assert.Equal(Vector512.IsHardwareAccelerated ? "AVX-512" : Avx2.IsSupported && Fma.IsSupported ? "AVX2"
            : "portable", device.InstructionSet);
    }

    [Fact]
    public void Device_refuses_what_it_does_not_have()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new CpuDevice(-1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new CpuDevice(1025));
    }

    /// <summary>The cases that fail, in words.</summary>
    internal static string[] Failures(Device device) =>
        [.. ConformanceSuite.Cases(ConformanceScale.Default).Select(c => c.Run(device)).Where(result => !result.Ok)
            .Select(result => result.ToString())];

    private static Process Start(string setting)
    {
        string host =
            Path.GetFullPath(
                Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe"
                    : "dotnet"));
        var start = new ProcessStartInfo(host, [typeof(Program).Assembly.Location, "conformance"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true
        };
        start.Environment[setting] = "0";
        return Process.Start(start)!;
    }
}

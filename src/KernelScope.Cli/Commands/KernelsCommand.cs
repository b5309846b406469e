using System.CommandLine;
using System.Globalization;
using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Launching;
using KernelScope.Emulated;

namespace KernelScope.Cli;

/// <summary><c>kernels</c>: what the driver makes of every kernel that the device would take.</summary>
internal sealed class KernelsCommand(CommonOptions common, VerbEnvironment environment) : Verb(
    "kernels",
    "Loads every module of kernels that a CUDA device would take, and goes on after one that fails: what the driver's compiler says, " +
    "registers, memory and blocks on a multiprocessor of each kernel. Exit code 1 if any failed.",
    "  kernelscope kernels --device emulated",
    common,
    environment)
{
    public override CommonUse Uses => CommonUse.Json | CommonUse.Device;

    protected override int Run(ParseResult parsed)
    {
        string name = Common.DeviceOf(parsed) is var asked and not "auto" ? asked : "cuda";
        CudaDeviceOptions options = Common.CudaOptionsOf(parsed, Streams);
        using CudaDevice device = name == EmulatedDevices.Name ? EmulatedDevices.Open(options)
            : CudaDevices.TryParse(name, out _) ? CudaDevices.Open(name, options)
            : throw new UsageException($"the {name} device has no kernels: give --device cuda[:n] or emulated.");
        IReadOnlyList<LoadedModule> modules = device.LoadModules();
        DriverDescription driver = device.Driver;
        var result = new KernelsResult(
            new KernelsDeviceRow(device.Description.Name, device.Description.ComputeCapability, device.Description.MultiprocessorCount,
            device.Description.TotalBytes, driver.VersionText, driver.Library),
            [.. modules.Select(m => new ModuleRow(m.File, m.Target, m.Problem is null, Math.Round(m.Milliseconds, 3), m.Log, m.Problem))],
            [.. modules.SelectMany(m => m.Kernels).Select(k => new KernelRow(k.Name, k.Registers, k.LocalBytes, k.SharedBytes,
            k.MaxThreads, k.PtxVersion, k.BinaryVersion, k.BlocksPerMultiprocessor))],
            modules.Count(m => m.Problem is not null));
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            Print(result);
        return result.Failed == 0 ? ExitCode.Done : ExitCode.Failed;
    }

    private void Print(KernelsResult result)
    {
        StreamWriter output = Streams.Output;
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Device.Name}, " +
            $"sm_{result.Device.ComputeCapability}, {result.Device.Multiprocessors} multiprocessors; {result.Device.Library}, " +
            $"CUDA {result.Device.Driver}"));
        output.WriteLine($"{"kernel",-36}{"registers",10}{"local",7}{"shared",8}{"blocks/SM",11}");
        foreach (KernelRow kernel in result.Kernels)
            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{kernel.Name,-36}{kernel.Registers,10}{kernel.LocalBytes,7}{kernel.SharedBytes,8}{kernel.BlocksPerSm,11}"));
        foreach (ModuleRow module in result.Modules.Where(m => !m.Ok))
            output.WriteLine($"FAIL {module.File}: {Printable.OneLine(module.Problem ?? "")}");
        output.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{result.Kernels.Count} kernels of {result.Modules.Count} modules, compiled " +
            $"in {result.Modules.Sum(m => m.Milliseconds):0} ms; {result.Failed} modules failed."));
    }
}

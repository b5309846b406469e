using System.Globalization;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>What a launch must satisfy before it runs.</summary>
internal static class LaunchContract
{
    private const int MaxGridYZ = 65535;

    public static void Check(EmulatedGpuOptions gpu, PtxKernel kernel, Dim3 grid, Dim3 block, int dynamicShared, int parameterBytes,
        LaunchOptions options)
    {
        EmulatorFault Refuse(string what) =>
            new(FaultKind.LaunchContract, kernel.Name, kernel.Line,
                null, null, null, $"{kernel.Name} ({kernel.ModuleName} line {kernel.Line})", what);

        if (TargetNumber(kernel.Module.Target) > gpu.ComputeCapability)
            throw Refuse($"the module is for {kernel.Module.Target} and the device is sm_{gpu.ComputeCapability}");
        if (grid.X < 1 || grid.Y < 1 || grid.Z < 1 || grid.Y > MaxGridYZ || grid.Z > MaxGridYZ)
            throw Refuse($"a grid of {grid} is not possible: each extent is at least 1, y and z at most {MaxGridYZ}");
        if (grid.Count > GlobalRaces.MaxBlocks)
            throw Refuse($"the grid has {grid.Count} blocks and the emulator takes at most {GlobalRaces.MaxBlocks}");
        if (block.X < 1 || block.Y < 1 || block.Z < 1 || block.Z > 64 || block.Count > gpu.MaxThreadsPerBlock)
            throw Refuse(
                $"a block of {block} is not possible: each extent is at least 1, z at most 64, {gpu.MaxThreadsPerBlock} threads in all");
        if (kernel.RequiredThreads is { } required && required != block)
            throw Refuse($"the kernel needs blocks of {required} (.reqntid) and is launched with {block}");
        if (kernel.MaxThreads is { } most && block.Count > most.Count)
            throw Refuse($"the kernel takes at most {most.Count} threads a block (.maxntid) and is launched with {block.Count}");
        if (parameterBytes != kernel.ParameterBytes)
            throw Refuse($"the kernel has {kernel.ParameterBytes} bytes of parameters and {parameterBytes} are given");
        CheckShared(gpu, kernel, dynamicShared, options, Refuse);
        if (kernel.LocalBytes > gpu.MaxLocalBytesPerThread)
            throw Refuse(
                $"the kernel needs {kernel.LocalBytes} bytes of local memory a thread and the device has {gpu.MaxLocalBytesPerThread}");
    }

    private static void CheckShared(EmulatedGpuOptions gpu, PtxKernel kernel, int dynamicShared, LaunchOptions options,
        Func<string, EmulatorFault> refuse)
    {
        if (dynamicShared < 0)
            throw refuse($"{dynamicShared} bytes of dynamic shared memory are not possible");
        if (kernel.StaticSharedBytes > gpu.SharedBytesPerBlock)
            throw refuse(
                $"the kernel declares {kernel.StaticSharedBytes} bytes of static shared memory; {gpu.SharedBytesPerBlock} are the limit");
        long total = (long)kernel.Program.DynamicSharedOffset + dynamicShared;
        if (dynamicShared > options.MaxDynamicSharedBytes
            || (total > gpu.SharedBytesPerBlock && options.MaxDynamicSharedBytes <= gpu.SharedBytesPerBlock))
            throw refuse(
                $"the launch asks for {dynamicShared} bytes of dynamic shared memory ({total} in all) and has opted into "
                    + $"{options.MaxDynamicSharedBytes}");
        if (total > gpu.SharedBytesPerBlockOptIn)
            throw refuse($"the launch needs {total} bytes of shared memory and a block has at most {gpu.SharedBytesPerBlockOptIn}");
    }

    /// <summary>90 of <c>sm_90a</c>; 0 if it is not such a name.</summary>
    public static int TargetNumber(string target)
    {
        ReadOnlySpan<char> digits = target.AsSpan(target.LastIndexOf('_') + 1).TrimEnd("af");
        return int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : 0;
    }
}

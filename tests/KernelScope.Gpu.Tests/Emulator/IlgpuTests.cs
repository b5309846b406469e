using ILGPU;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime.Cuda;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>Kernels as ILGPU really emits them.</summary>
public class IlgpuTests
{
    private static readonly Lock Gate = new();

    [Fact]
    public void Vector_add_runs_with_a_ragged_end()
    {
        using var test = new PtxTest();
        float[] x = [.. Enumerable.Range(0, 1000).Select(i => i * 0.5f)];
        ulong a = test.Upload(x, "x");
        ulong c = test.Gpu.Allocate(4000, "z");
        LaunchResult result =
            test.Gpu.Launch(Compile(nameof(IlgpuKernels.Add)), new Dim3(8), new Dim3(128),
                0, [.. View(a, 1000), .. View(a, 1000), .. View(c, 1000)]);
        Assert.Equal(x.Select(v => v + v), test.Download<float>(c, 1000));
        Assert.Equal(new GlobalTraffic(64, 250, 8000), result.GlobalLoads);
        Assert.Equal(new GlobalTraffic(32, 125, 4000), result.GlobalStores);
    }

    [Fact]
    public void Vector_add_that_forgets_its_bound_faults()
    {
        using var test = new PtxTest();
        ulong a = test.Upload(new float[1000], "x");
        ulong c = test.Gpu.Allocate(4000, "z");
        EmulatorFault fault =
            Assert.Throws<EmulatorFault>(() => test.Gpu.Launch(Compile(nameof(IlgpuKernels.AddUnbounded)), new Dim3(8), new Dim3(128), 0,
            [.. View(a, 1000), .. View(a, 1000), .. View(c, 1000)]));
        Assert.Equal((FaultKind.OutOfBounds, new Dim3(7), new Dim3(104, 0, 0)),
            (fault.Kind, fault.Block!.Value with { Y = 1, Z = 1 }, fault.Thread!.Value));
    }

    [Fact]
    public void Warp_reduction_sums_rows_of_packed_bfloat16()
    {
        using var test = new PtxTest();
        var random = new Random(3);
        ushort[] weights =
            [.. Enumerable.Range(0, 4 * 512).Select(_ => (ushort)(BitConverter.SingleToUInt32Bits(random.NextSingle() - 0.5f) >> 16))];
        float[] x = [.. Enumerable.Range(0, 512).Select(_ => random.NextSingle())];
        ulong w = test.Upload(weights, "w");
        ulong v = test.Upload(x, "x");
        ulong z = test.Gpu.Allocate(16, "z");
        LaunchResult result = test.Gpu.Launch(Compile(nameof(IlgpuKernels.WarpGemv)), new Dim3(4), new Dim3(32), 0,
            [.. View(w, 4 * 64), .. View(v, 512), .. View(z, 4), .. BitConverter.GetBytes(64)]);
        float[] sums = test.Download<float>(z, 4);
        for (int row = 0; row < 4; row++)
        {
            double expected = Enumerable.Range(0, 512)
                .Sum(i => (double)x[i] * BitConverter.UInt32BitsToSingle((uint)weights[row * 512 + i] << 16));
            Assert.Equal(expected, sums[row], 1e-4);
        }
        InstructionCount wide = result.Instructions.Single(i => i.Text.StartsWith("ld.global.v4.b32", StringComparison.Ordinal));
        Assert.Equal(new GlobalTraffic(8, 8 * 16, 8 * 512), wide.GlobalLoad);
    }

    [Fact]
    public void Shared_tile_with_barriers_reduces_a_block()
    {
        using var test = new PtxTest();
        ulong x = test.Upload(Enumerable.Range(0, 512).Select(i => (float)i).ToArray(), "x");
        ulong z = test.Upload(new float[2], "z");
        ulong c = test.Upload(new int[4], "c");
        test.Gpu.Launch(Compile(nameof(IlgpuKernels.BlockSum)), new Dim3(2), new Dim3(256),
            1024, [.. View(x, 512), .. View(z, 2), .. View(c, 4)]);
        Assert.Equal([255f * 128, 255f * 128 + 256 * 256], test.Download<float>(z, 2));
        Assert.Equal([2, 2 * 252, 0, 0], test.Download<int>(c, 4));
    }

    [Fact]
    public void Shared_tile_without_its_barrier_is_a_race()
    {
        using var test = new PtxTest();
        ulong x = test.Upload(new float[256], "x");
        ulong z = test.Upload(new float[256], "z");
        EmulatorFault fault = Assert.Throws<EmulatorFault>(() =>
            test.Gpu.Launch(Compile(nameof(IlgpuKernels.MissingBarrier)), new Dim3(1), new Dim3(256),
                0, [.. View(x, 256), .. View(z, 256)]));
        Assert.Equal(FaultKind.SharedRace, fault.Kind);
    }

    [Fact]
    public void Inline_assembly_depots_count_as_registers()
    {
        using var test = new PtxTest();
        ulong x = test.Upload(Enumerable.Range(0, 32).Select(i => i * 0.25f).ToArray(), "x");
        ulong z = test.Gpu.Allocate(128, "z");
        PtxKernel kernel = Compile(nameof(IlgpuKernels.InlineAssembly));
        LaunchResult result = test.Gpu.Launch(kernel, new Dim3(1), new Dim3(32), 0, [.. View(x, 32), .. View(z, 32)]);
        Assert.Equal(Enumerable.Range(0, 32).Select(i => i % 2 == 0 ? i * 0.25f * (i * 0.25f) + 1 : 1), test.Download<float>(z, 32));
        Assert.True(result.Threads(InstructionClass.LocalConstant) > 0);
        Assert.Equal(0, result.Threads(InstructionClass.LocalDynamic));
        Assert.Empty(kernel.DynamicLocalLines);
    }

    [Fact]
    public void Local_arrays_switches_and_calls_run()
    {
        using var test = new PtxTest();
        ulong x = test.Upload(Enumerable.Range(0, 16).Select(i => (float)i).ToArray(), "x");
        PtxKernel kernel = Compile(nameof(IlgpuKernels.LocalArray));
        Assert.NotEmpty(kernel.DynamicLocalLines);
        test.Gpu.Launch(kernel, new Dim3(1), new Dim3(1), 0, [.. View(x, 16), .. BitConverter.GetBytes(2)]);
        // x[2] = x[2]; then the switch's third case; then three steps of s = 2·s + 1.
        float[] values = test.Download<float>(x, 16);
        Assert.Equal((2f, 9f, 7f), (values[2], values[7], values[15]));
    }

    private static byte[] View(ulong address, long length) => [.. BitConverter.GetBytes(address), .. BitConverter.GetBytes(length)];

    private static PtxKernel Compile(string method)
    {
        lock (Gate)
        {
            using Context context = Context.Create(b => b.Optimize(OptimizationLevel.O2).PTXBackend(PTXBackendMode.Enhanced));
            using var backend = new PTXBackend(context, CudaArchitecture.SM_80, CudaInstructionSet.ISA_70, null!);
            var compiled =
                (PTXCompiledKernel)backend.Compile(
                    EntryPointDescription.FromExplicitlyGroupedKernel(typeof(IlgpuKernels).GetMethod(method)!), default);
            return PtxModule.Parse(compiled.PTXAssembly!, method + ".ptx").Kernels.Single();
        }
    }
}

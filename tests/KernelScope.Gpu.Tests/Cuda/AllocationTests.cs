using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>What a decode step costs the host.</summary>
public sealed class AllocationTests
{
    private static readonly string[] Skipped =
        [nameof(ICudaDriver.LaunchKernel), nameof(ICudaDriver.GraphLaunch), nameof(ICudaDriver.MemcpyHtoDAsync)];

    /// <summary>A step with an SAE's ops and the choice of a token, once graphs and buffers are there. Kernels and copies are not made: the emulator allocates.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_decode_step_allocates_nothing(bool graphs)
    {
        using var driver = new FailingDriver(new EmulatedDriver()) { Calls = null, Fail = Skip };
        using var device = new CudaDevice("cuda:0", driver, options: new CudaDeviceOptions { Graphs = graphs });
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "gs-48x96"));
        using Session session = model.NewSession(chunkLength: 1);
        using SparseCodes codes = sae.CreateCodes(), top = device.CreateCodes(model.Config.VocabSize, "top");
        Mat x = device.CreateMat(1, 48, "x"), y = device.CreateMat(1, 48, "y");
        int[] token = [5];
        FeatureEdit[] edits = [new(3, FeatureEditKind.Add, 1f)];
        long Step()
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            device.Embed(token, model.Unembedding, 1f, x);
            device.SaeEncode(x, sae.Parameters, codes);
            device.SaeDecode(codes, sae.Parameters, y);
            device.SaeEdit(x, sae.Parameters, edits, y);
            device.Synchronize();
            Mat row = model.Forward(token, session);
            device.TopK(row, 1, top);
            device.Synchronize();
            return GC.GetAllocatedBytesForCurrentThread() - before;
        }

        for (int i = 0; i < 8; i++)
            Step();
        long allocated = 0;
        for (int i = 0; i < 10; i++)
            allocated += Step();
        Assert.Equal(0, allocated);
    }

    private static CudaResult? Skip(string call) => Array.IndexOf(Skipped, call) >= 0 ? CudaResult.Success : null;
}

using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.Files;
using KernelScope.Numerics;
using KernelScope.PtxEmulator;
using KernelScope.Tests.Files;
using Xunit.Abstractions;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Global memory traffic of a decode step, counted by the emulator.</summary>
public sealed class TrafficTests(ITestOutputHelper output)
{
    private const int ModelDim = 2304, HeadDim = 256, Heads = 2, KvHeads = 1, MlpDim = 9216, Context = 512;

    /// <summary>
    /// Outputs of the slices: all heads of one of four key/value groups, and as large a part of o_proj, of gate and up, of down_proj.
    /// </summary>
    private const int OutputSlice = 2304 / 4, HiddenSlice = 9216 / 4, DownSlice = 2304 / 4;

    /// <summary>
    /// A quarter of a layer of Gemma 2 2B (its input widths, head size and grouping; a quarter of all outputs, which a kernel treats alike)
    /// late in a context of 512. What an op must move at
    /// least: its weights, the visible cache, its activations once each. Each block also reads the activations of a product anew, from the
    /// caches: x is
    /// 9 KB and lies in the L1 cache of every multiprocessor after the first block; that is counted once. Nothing else is left out.
    /// </summary>
    [Fact]
    public void A_decode_step_moves_at_most_3_percent_more_than_it_must()
    {
        long moved = 0, fromMemory = 0;
        using var folder = new TempFolder();
        using SafetensorsFile file = Weights(folder);
        using CudaDevice device =
            EmulatedDevices.Open(null, TestGpu.Driver(launched: Count) with { Launch = new LaunchOptions { CountFootprint = true } });
        Mat resid = device.CreateMat(1, ModelDim, "resid"), normed = device.CreateMat(1, ModelDim, "normed"),
            gain = device.CreateMat(1, ModelDim, "gain");
        Mat qkv = device.CreateMat(1, (Heads + (2 * KvHeads)) * HeadDim, "qkv"), z = device.CreateMat(1, Heads * HeadDim, "z"),
            cosSin = device.CreateMat(Context, HeadDim, "cosSin");
        Mat branch = device.CreateMat(1, OutputSlice, "branch"), hidden = device.CreateMat(1, HiddenSlice, "hidden"),
            wide = device.CreateMat(1, MlpDim, "wide"), down = device.CreateMat(1, DownSlice, "down");
        var cache = new KvLayer(device.CreateMat(KvHeads * Context, HeadDim, "keys"),
            device.CreateMat(KvHeads * Context, HeadDim, "values"), KvHeads, Context);
        using Weight w0 = Of(device, file, "qkv"), w1 = Of(device, file, "o"), w2 = Of(device, file, "gate_up"),
            w3 = Of(device, file, "down");

        device.Linear(normed, w0, qkv);
        device.RopeThenStore(qkv, Context - 1, cosSin, cache);
        device.Attend(qkv.ColumnRange(0, Heads * HeadDim), cache, Context - 1, new AttentionShape(Heads, 1f / 16, 50f, 0), z);
        device.Linear(z, w1, branch);
        device.AddNormedThenNorm(resid, gain, gain, 1e-6f, resid, normed);
        device.GatedGelu(normed, w2, hidden);
        device.Linear(wide, w3, down);
        device.AddNormedThenNorm(resid, gain, gain, 1e-6f, resid, normed);
        device.Synchronize();

        long weights = 2L
            * ((long)ModelDim * qkv.Columns + (long)z.Columns * OutputSlice + (long)ModelDim * 2 * HiddenSlice + (long)MlpDim
                * DownSlice);
        long keysAndValues = 2L * KvHeads * Context * HeadDim * sizeof(float);
        long products = sizeof(float) * (ModelDim + qkv.Columns + z.Columns + OutputSlice + ModelDim + HiddenSlice + MlpDim + DownSlice);
        long others = sizeof(float) * ((2L * qkv.Columns) + HeadDim + qkv.Columns + z.Columns + (2L * 6 * ModelDim));
        long least = weights + keysAndValues + products + others;
        output.WriteLine(FormattableString.Invariant($"{moved} bytes moved, {least} at least: {(double)moved / least:f4}"));
        Assert.InRange((double)moved / least, 0.9, 1.03);
        // What each launch must fetch from memory and give to it if the caches keep what is read twice within the launch.
        output.WriteLine(FormattableString.Invariant($"{fromMemory} bytes of distinct sectors: {(double)fromMemory / least:f4}"));
        Assert.InRange((double)fromMemory / least, 0.9, 1.03);

        void Count(PtxKernel kernel, LaunchResult result)
        {
            moved += Moved(kernel, result);
            fromMemory += result.ReadFootprint + result.WriteFootprint;
        }
    }

    /// <summary>
    /// Bytes of a launch. In a product, weights come as four 32-bit words and activations as four float32 values a load; the second are
    /// counted as one pass over x.
    /// </summary>
    private static long Moved(PtxKernel kernel, LaunchResult result)
    {
        if (!kernel.Name.Contains("gemv", StringComparison.Ordinal))
            return result.GlobalLoads.MovedBytes + result.GlobalStores.MovedBytes;
        long activations = result.Instructions.Where(i => i.Text.StartsWith("ld.global.v4.f32", StringComparison.Ordinal))
            .Sum(i => i.GlobalLoad.MovedBytes);
        long passes = result.Blocks;
        Assert.Equal(0, activations % passes);
        return result.GlobalLoads.MovedBytes - activations + (activations / passes) + result.GlobalStores.MovedBytes;
    }

    private static Weight Of(CudaDevice device, SafetensorsFile file, string name) => device.CreateWeight(name, new WeightPart(file[name]));

    private static SafetensorsFile Weights(TempFolder folder)
    {
        (string Name, int Outputs, int Inputs)[] shapes =
        [
            ("qkv", (Heads + (2 * KvHeads)) * HeadDim, ModelDim), ("o", OutputSlice, Heads * HeadDim),
                ("gate_up", 2 * HiddenSlice, ModelDim), ("down", DownSlice, MlpDim),
        ];
        string path = folder.At("layer.safetensors");
        using (var writer = new SafetensorsWriter(path, shapes.Select(s => new TensorInfo(s.Name, DType.BF16, [s.Outputs, s.Inputs]))))
        {
            foreach ((_, int outputs, int inputs) in shapes)
                writer.Append<BFloat16>(new BFloat16[outputs * inputs]);
            writer.Commit();
        }

        return SafetensorsFile.Open(path);
    }
}

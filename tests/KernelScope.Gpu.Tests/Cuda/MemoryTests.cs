using System.Runtime.InteropServices;
using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Memory;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Emulated;
using KernelScope.Files;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Numerics;
using KernelScope.PtxEmulator;
using KernelScope.Sae;
using KernelScope.Tests;
using KernelScope.Tests.Files;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Plans, uploads, and work in pieces.</summary>
public sealed class MemoryTests
{
    [Fact]
    public void A_plan_says_what_needs_how_much_and_what_is_free()
    {
        using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(Fixtures.Path("gemma2", "models", "base"));
        MemoryPlan plan = MemoryPlan.For(checkpoint, 64);
        using (SaeCheckpoint sae = SaeCheckpoint.Open(Fixtures.Path("sae", "saes", "gs-48x96")))
            plan.Add(sae);
        Assert.Equal(["weights", "KV cache and activations", "work space", "SAE gs-48x96"],
            plan.Items.Select(i => i.What.Replace("/params.npz", "", StringComparison.Ordinal)));
        Assert.Equal(plan.Items.Sum(i => i.Bytes), plan.Needed);
        Assert.True(plan.Fits(plan.Needed));
        Assert.False(plan.Fits(plan.Needed - 1));
        using CudaDevice small =
            EmulatedDevices.Open(driver: new EmulatedDriverOptions { Gpu = new EmulatedGpuOptions { MemoryBytes = 32 << 20 } });
        var error = Assert.Throws<CudaException>(() => plan.Require(small));
        Assert.Equal(CudaResult.OutOfMemory, error.Result);
        Assert.Matches(
            "^[0-9]+ MiB \\(weights 1 MiB, KV cache and activations 1 MiB, work space 192 MiB, SAE .* 65 MiB\\) do not fit on "
                + "emulated: [0-9]+ MiB of 32 MiB are free\\.$", error.Message);
        using CudaDevice large = EmulatedDevices.Open();
        plan.Require(large);
    }

    [Fact]
    public void Generation_that_is_stopped_leaves_no_device_memory_behind()
    {
        using CudaDevice device = TestGpu.Open();
        using var never = new CancellationTokenSource();
        Generate(device, never, stopAt: -1);
        long before = device.AllocatedBytes;
        using var cancellation = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => Generate(device, cancellation, stopAt: 2));
        Assert.Equal(before, device.AllocatedBytes);
    }

    /// <summary>Stopped while kernels run, in the prompt, in a decode step, and in one that is a graph: everything that was taken from the driver goes back to it.</summary>
    [Theory]
    [InlineData(nameof(ICudaDriver.LaunchKernel), 3)]
    [InlineData(nameof(ICudaDriver.LaunchKernel), 60)]
    [InlineData(nameof(ICudaDriver.GraphLaunch), 2)]
    public void Generation_that_is_stopped_gives_the_driver_everything_back(string stopAt, int count)
    {
        using var cancellation = new CancellationTokenSource();
        var driver = new FailingDriver(new EmulatedDriver())
        {
            Fail = call =>
            {
                if (call == stopAt && --count == 0)
                    cancellation.Cancel();
                return null;
            },
        };
        using (var device = new CudaDevice("cuda:0", driver))
            Assert.ThrowsAny<OperationCanceledException>(() => GenerateAgainAndAgain(device, cancellation));

        foreach ((string take, string give) in new[]
        {
            (nameof(ICudaDriver.MemAlloc), nameof(ICudaDriver.MemFree)),
                (nameof(ICudaDriver.MemHostAlloc), nameof(ICudaDriver.MemFreeHost)),
            (nameof(ICudaDriver.EventCreate), nameof(ICudaDriver.EventDestroy)),
                (nameof(ICudaDriver.GraphInstantiate), nameof(ICudaDriver.GraphExecDestroy)),
            (nameof(ICudaDriver.ModuleLoadData), nameof(ICudaDriver.ModuleUnload)),
                (nameof(ICudaDriver.PrimaryCtxRetain), nameof(ICudaDriver.PrimaryCtxRelease)),
        })
        {
            Assert.True(driver.Calls!.Contains(take) || take == nameof(ICudaDriver.GraphInstantiate), take);
            Assert.Equal(driver.Calls!.Count(c => c == take), driver.Calls!.Count(c => c == give));
        }
    }

    [Fact]
    public void Memory_that_was_forgotten_is_given_back()
    {
        using CudaDevice device = TestGpu.Open();
        long before = device.AllocatedBytes;
        Forget(device);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        Assert.Equal(before, device.AllocatedBytes);
        device.CreateMat(1, 1, "x").Buffer.Dispose();
    }

    /// <summary>Any piece of any layout of any parts, against the definition.</summary>
    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    [InlineData(DType.F32)]
    public void Weights_are_packed_piece_by_piece_into_either_layout(DType type)
    {
        using var folder = new TempFolder();
        int[] heights = [70, 1, 300];
        const int inputs = 333;
        using SafetensorsFile file = Tensors(folder, type, heights, inputs, out Func<int, int, int, ushort> element);
        WeightPart[] parts = [.. heights.Select((_, p) => new WeightPart(file[$"part{p}"], transposed: p % 2 == 1))];
        foreach (WeightLayout layout in Enum.GetValues<WeightLayout>())
        {
            var packing = new WeightPacking(parts, layout, type);
            int size = type.ByteSize();
            byte[] whole = new byte[packing.Bytes];
            // Pieces of odd lengths begin and end within rows; one is large enough for several threads.
            for (long first = 0, n = 1; first < whole.Length; n = (n * 7) + 3)
            {
                int length = (int)Math.Min(whole.Length - first, n * size);
                packing.Fill(first, whole.AsSpan((int)first, length));
                first += length;
            }

            int outputs = heights.Sum();
            for (int r = 0, p = 0, local = 0; r < outputs; r++)
            {
                for (int i = 0; i < inputs; i++)
                {
                    int at = (layout == WeightLayout.OutputMajor ? (r * inputs) + i : (i * outputs) + r) * size;
                    Assert.Equal(element(p, local, i), BitConverter.ToUInt16(whole, at));
                }

                if (++local == heights[p])
                    (p, local) = (p + 1, 0);
            }
        }
    }

    /// <summary>A code room of a few pairs is found too small and grows; rows go in pieces; the lists are the same.</summary>
    [Theory]
    [InlineData(8)]
    [InlineData(8 * 700)]
    public void Codes_that_do_not_fit_are_made_again_in_more_room(long workBytes)
    {
        CodeList expected = Encode(new CudaDeviceOptions());
        CodeList actual = Encode(new CudaDeviceOptions { WorkBytes = workBytes });
        Assert.Equal(expected.Rows, actual.Rows);
        Assert.InRange(expected.Count, 800, 130 * 96);
        Assert.Equal(expected.RowStart.Take(131), actual.RowStart.Take(131));
        Assert.Equal(expected.Feature.Take(expected.Count), actual.Feature.Take(expected.Count));
        Assert.Equal(expected.Value.Take(expected.Count).Select(BitConverter.SingleToInt32Bits),
            actual.Value.Take(expected.Count).Select(BitConverter.SingleToInt32Bits));
    }

    [Fact]
    public void A_loss_over_runs_of_the_vocabulary_is_the_loss_over_all_of_it()
    {
        using var folder = new TempFolder();
        using SafetensorsFile file = Tensors(folder, DType.BF16, [2100], 16, out _);
        Assert.Equal(Loss(file, new CudaDeviceOptions()), Loss(file, new CudaDeviceOptions { WorkBytes = 1 }));
    }

    /// <summary>All logits would be 19 MiB.</summary>
    [Fact]
    public void A_loss_takes_the_work_space_that_it_says_whatever_the_rows_and_the_vocabulary()
    {
        const int rows = 600, vocabulary = 8192, inputs = 16;
        using var folder = new TempFolder();
        using SafetensorsFile file = Tensors(folder, DType.BF16, [vocabulary], inputs, out _);
        using CudaDevice device = TestGpu.Open(options: new CudaDeviceOptions { WorkBytes = 1 << 20 });
        using Weight unembedding = device.CreateWeight("unembedding", new WeightPart(file["part0"]));
        Mat x = device.CreateMat(rows, inputs, "x"), loss = device.CreateMat(rows, 1, "loss");
        device.Write([.. Enumerable.Range(0, rows * inputs).Select(i => MathF.Sin(i))], x);
        int[] targets = [.. Enumerable.Range(0, rows).Select(t => t * 13)];
        long before = device.AllocatedBytes;
        device.CrossEntropy(x, unembedding, 30, targets, loss);
        device.Synchronize();
        // Each piece begins at a multiple of 256 bytes.
        Assert.InRange(device.AllocatedBytes - before, 1, (2 << 20) + (512 * ((8 * vocabulary / 1024) + 4)) + (3072 * inputs) + (4 * 256));
        float[] values = new float[rows];
        device.Read(loss, values);
        Assert.All(values, v => Assert.InRange(v, 1f, 20f));
    }

    /// <summary>Five tiles of 64 rows where four fit: three and two, not four and one. The bits are those of all rows at once.</summary>
    [Fact]
    public void Rows_that_do_not_fit_at_once_go_in_pieces_of_about_the_same_length()
    {
        const int Rows = 300, Inputs = 16, Outputs = 8, TermsBytes = 6;
        using var folder = new TempFolder();
        using SafetensorsFile file = Tensors(folder, DType.BF16, [Outputs], Inputs, out _);
        var blocks = new List<long>();
        Assert.Equal(Product(64L << 20), Product((4 * 64 * Inputs * TermsBytes) + 100));
        Assert.Equal([5, 3, 2], blocks);

        float[] Product(long workBytes)
        {
            using CudaDevice device = TestGpu.Open(options: new CudaDeviceOptions { WorkBytes = workBytes }, launched: (kernel, result) =>
            {
                if (kernel.Name == "gemm_tensor_bf16_exact")
                    blocks.Add(result.Blocks);
            });
            using Weight weight = device.CreateWeight("w", new WeightPart(file["part0"]));
            Mat x = device.CreateMat(Rows, Inputs, "x"), y = device.CreateMat(Rows, Outputs, "y");
            device.Write([.. Enumerable.Range(0, Rows * Inputs).Select(i => MathF.Sin(i))], x);
            device.Linear(x, weight, y);
            float[] values = new float[Rows * Outputs];
            device.Read(y, values);
            return values;
        }
    }

    [Fact]
    public void More_token_ids_than_go_over_at_once_go_in_pieces()
    {
        using var folder = new TempFolder();
        using SafetensorsFile file = Tensors(folder, DType.F16, [50], 1, out Func<int, int, int, ushort> element);
        using CudaDevice device = TestGpu.Open();
        using Weight table = device.CreateWeight("table", new WeightPart(file["part0"]));
        int[] tokens = [.. Enumerable.Range(0, 32_800).Select(t => t * 7 % 50)];
        Mat rows = device.CreateMat(tokens.Length, 1, "rows");
        device.Embed(tokens, table, 2f, rows);
        float[] values = new float[tokens.Length];
        device.Read(rows, values);
        Assert.Equal(tokens.Select(t => 2f * (float)BitConverter.UInt16BitsToHalf(element(0, t, 0))), values);
    }

    /// <summary>Read and written at once: every coefficient is made before the first is applied.</summary>
    [Fact]
    public void More_edits_than_go_over_at_once_go_in_pieces()
    {
        FeatureEdit[] edits =
            [.. Enumerable.Range(0, 4100)
                .Select(e => new FeatureEdit(e * 5 % 96, e % 2 == 0 ? FeatureEditKind.Add : FeatureEditKind.Clamp, MathF.Sin(e) / 64))];
        using CudaDevice device = TestGpu.Open();
        using var reference = new ReferenceDevice();
        Assert.InRange(Compare.Relative(Edited(device, edits), Edited(reference, edits)), 0, 1e-5);
    }

    private static float[] Edited(Device device, FeatureEdit[] edits)
    {
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "gs-48x96"));
        Mat x = device.CreateMat(2, 48, "x");
        using DeviceBuffer buffer = x.Buffer;
        device.Write([.. Enumerable.Range(0, 96).Select(i => 3 * MathF.Sin(i * i))], x);
        device.SaeEdit(x, sae.Parameters, edits, x);
        float[] values = new float[96];
        device.Read(x, values);
        return values;
    }

    private static float[] Loss(SafetensorsFile file, CudaDeviceOptions options)
    {
        using CudaDevice device = TestGpu.Open(options: options);
        using Weight unembedding = device.CreateWeight("unembedding", new WeightPart(file["part0"]));
        Mat x = device.CreateMat(3, 16, "x"), loss = device.CreateMat(3, 1, "loss");
        device.Write([.. Enumerable.Range(0, 48).Select(i => MathF.Sin(i))], x);
        device.CrossEntropy(x, unembedding, 30, [0, 1500, 2099], loss);
        float[] values = new float[3];
        device.Read(loss, values);
        return values;
    }

    private static CodeList Encode(CudaDeviceOptions options)
    {
        using CudaDevice device = TestGpu.Open(options: options);
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "gs-48x96"));
        Mat x = device.CreateMat(130, 48, "x");
        device.Write([.. Enumerable.Range(0, 130 * 48).Select(i => 3 * MathF.Sin(i * i))], x);
        using SparseCodes codes = sae.CreateCodes();
        sae.Encode(x, codes);
        var list = new CodeList();
        device.Read(codes, list);
        return list;
    }

    private static void Generate(CudaDevice device, CancellationTokenSource cancellation, int stopAt)
    {
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "eos-list"));
        using Session session = model.NewSession(chunkLength: 4);
        using var sampler = new Sampler(device, model.Config.VocabSize, new SamplingOptions());
        Mat row = session.Prefill([2, 3, 4], cancellationToken: cancellation.Token);
        for (int i = 0; i < 4; i++)
        {
            if (i == stopAt)
                cancellation.Cancel();
            row = model.Forward([sampler.Next(row)], session, cancellationToken: cancellation.Token);
        }
    }

    private static void GenerateAgainAndAgain(CudaDevice device, CancellationTokenSource cancellation)
    {
        for (int i = 0; i < 100; i++)
            Generate(device, cancellation, stopAt: -1);
    }

    private static void Forget(CudaDevice device)
    {
        for (int i = 0; i < 3; i++)
            _ = device.CreateMat(10, 10, "forgotten");
    }

    /// <summary>A file of parts [heights[p], inputs], every other one stored transposed; the first two bytes of an element are <paramref name="element"/> of (part, row, input).</summary>
    private static SafetensorsFile Tensors(TempFolder folder, DType type, int[] heights, int inputs,
        out Func<int, int, int, ushort> element)
    {
        string path = folder.At("parts.safetensors");
        // Small positive numbers in every dtype, different for neighbours.
        Func<int, int, int, ushort> value = (p, r, i) => (ushort)(0x3000 + (((p * 131) + (r * 37) + (i * 11)) % 0x0A00));
        element = value;
        using (var writer =
            new SafetensorsWriter(path, heights.Select((h, p) => new TensorInfo($"part{p}", type, p % 2 == 1 ? [inputs, h] : [h, inputs]))))
        {
            for (int p = 0; p < heights.Length; p++)
            {
                (int majors, int minors) = p % 2 == 1 ? (inputs, heights[p]) : (heights[p], inputs);
                byte[] bytes = new byte[majors * minors * type.ByteSize()];
                for (int n = 0; n < majors * minors; n++)
                {
                    (int major, int minor) = (n / minors, n % minors);
                    BitConverter.TryWriteBytes(bytes.AsSpan(n * type.ByteSize()), p % 2 == 1 ? value(p, minor, major)
                        : value(p, major, minor));
                }

                switch (type)
                {
                    case DType.BF16: writer.Append<BFloat16>(MemoryMarshal.Cast<byte, BFloat16>(bytes)); break;
                    case DType.F16: writer.Append<Half>(MemoryMarshal.Cast<byte, Half>(bytes)); break;
                    default: writer.Append<float>(MemoryMarshal.Cast<byte, float>(bytes)); break;
                }
            }

            writer.Commit();
        }

        return SafetensorsFile.Open(path);
    }
}

using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Tests;
using KernelScope.Tests.Files;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Ops that become one launch with the product before them: the bits of two launches, and nothing lost where something comes between.</summary>
public sealed class FusionTests : IDisposable
{
    private const int Inputs = 40, Heads = 2, HeadDim = 12, Outputs = (Heads + 2) * HeadDim, Position = 9, Capacity = 8;

    private readonly TempFolder _folder = new();
    private readonly List<string> _launched = [];

    public static TheoryData<string, DType> Projections
    {
        get
        {
            var data = new TheoryData<string, DType>();
            foreach (string dtype in (string[])["BF16", "F16", "F32"])
            {
                data.Add(dtype, DType.F32);
                data.Add(dtype, DType.BF16);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Projections))]
    public void A_projection_with_rope_and_store_gives_the_bits_of_two_launches(string dtype, DType cacheType)
    {
        float[] together = Run(75, between: _ => { }), apart = Run(75, between: d => d.Synchronize());
        Assert.Equal(apart, together);
        Assert.Equal(apart, Run(80, between: _ => { }));
        string rope = cacheType == DType.BF16 ? "rope_bf16_rotate_then_store" : "rope_rotate_then_store",
            fused = (cacheType == DType.BF16 ? "gemv_rope_bf16_" : "gemv_rope_") + dtype.ToLowerInvariant(),
            plain = $"gemv_{dtype.ToLowerInvariant()}_1row";
        Assert.Equal([fused, plain, rope, fused], _launched);

        float[] Run(int capability, Action<CudaDevice> between)
        {
            using CudaDevice device = Open(capability);
            using Weight weight = Weights(device, dtype);
            int columns = cacheType == DType.BF16 ? HeadDim / 2 : HeadDim;
            var cache = new KvLayer(device.CreateMat(Capacity, columns, "keys"), device.CreateMat(Capacity, columns, "values"), 1, Capacity,
                cacheType);
            Mat x = Values(device, 1, Inputs), qkv = device.CreateMat(1, Outputs, "qkv"), cosSin = Values(device, Position + 1, HeadDim);
            device.Linear(x, weight, qkv);
            between(device);
            device.RopeThenStore(qkv, Position, cosSin, cache);
            return [.. Read(device, qkv), .. Read(device, cache.Keys), .. Read(device, cache.Values)];
        }
    }

    [Theory]
    [InlineData("BF16", 1)]
    [InlineData("F16", 3)]
    [InlineData("F32", 8)]
    public void A_head_with_its_soft_cap_gives_the_bits_of_two_launches(string dtype, int rows)
    {
        float[] together = Run(between: _ => { }, caps: 1), apart = Run(between: d => d.Synchronize(), caps: 1);
        Assert.Equal(apart, together);
        Assert.Equal(3, _launched.Count);
        Assert.Equal(_launched[1..2], _launched[..1]);
        // The cap of a cap is another launch.
        Assert.Equal(Run(between: d => d.Synchronize(), caps: 2), Run(between: _ => { }, caps: 2));

        float[] Run(Action<CudaDevice> between, int caps)
        {
            using CudaDevice device = Open(80);
            using Weight weight = Weights(device, dtype);
            Mat x = Values(device, rows, Inputs), logits = device.CreateMat(rows, Outputs, "logits");
            device.Linear(x, weight, logits);
            between(device);
            for (int n = 0; n < caps; n++)
                device.Softcap(logits, 3f);
            return Read(device, logits);
        }
    }

    /// <summary>Rows of one run of a thread, of several, and of an end that not all threads have.</summary>
    [Theory]
    [InlineData("BF16", 48)]
    [InlineData("F16", 2056)]
    [InlineData("F32", 548)]
    public void A_product_with_its_norms_gives_the_bits_of_two_launches(string dtype, int outputs)
    {
        float[] together = Run(_ => { }), apart = Run(d => d.Synchronize());
        Assert.Equal(apart, together);
        string type = dtype.ToLowerInvariant();
        Assert.Equal(["gemv_norm_" + type, "gemv_norm_" + type, $"gemv_{type}_1row", "rms_add_normed_then_norm",
            $"gemv_{type}_1row", "rms_add_normed_then_norm"], _launched);

        float[] Run(Action<CudaDevice> between)
        {
            using CudaDevice device = Open(80);
            using Weight weight = Weights(device, dtype, outputs);
            Mat x = Values(device, 1, Inputs), branch = device.CreateMat(1, outputs, "branch"), resid = Values(device, 1, outputs),
                normed = device.CreateMat(1, outputs, "normed"), post = Values(device, 1, outputs), next = Values(device, 1, outputs);
            // Twice: the ticket is 0 again.
            for (int n = 0; n < 2; n++)
            {
                device.Linear(x, weight, branch);
                between(device);
                device.AddNormedThenNorm(branch, post, next, 1e-6f, resid, normed);
            }

            return [.. Read(device, branch), .. Read(device, resid), .. Read(device, normed)];
        }
    }

    /// <summary>Where x does not fit into an L1 cache; with a soft-cap behind it every group reads all inputs.</summary>
    [Fact]
    public void Groups_that_share_the_inputs_of_a_product_give_the_bits_of_those_that_do_not()
    {
        const int Many = 8200, Columns = 80;
        Assert.Equal(Run(80, 6, 0f), Run(90, 6, 0f));
        Assert.Equal(Run(80, 8, 3f), Run(90, 8, 3f));
        Assert.Equal(Run(80, 4, 0f), Run(90, 4, 0f));
        // Without those by which a device tries whether launches overlap.
        Assert.Equal(["gemv_ring_bf16", "gemv_ring_split_bf16", "gemv_ring_bf16", "gemv_ring_bf16", "gemv_bf16_4rows", "gemv_bf16_4rows"],
            _launched.Where(kernel => kernel.StartsWith("gemv_", StringComparison.Ordinal)));

        float[] Run(int capability, int rows, float cap)
        {
            using CudaDevice device = Open(capability);
            using Weight weight = Weights(device, "BF16", Columns, Many);
            Mat x = Values(device, rows, Many), y = device.CreateMat(rows, Columns, "y");
            device.Linear(x, weight, y);
            if (cap > 0)
                device.Softcap(y, cap);
            return Read(device, y);
        }
    }

    [Fact]
    public void What_comes_between_keeps_a_product_apart()
    {
        using CudaDevice device = Open(80);
        using Weight weight = Weights(device, "BF16");
        Mat x = Values(device, 1, Inputs), logits = device.CreateMat(1, Outputs, "logits"), copy = device.CreateMat(1, Outputs, "copy"),
            other = device.CreateMat(1, Outputs, "other");
        device.Linear(x, weight, logits);
        device.Copy(logits, copy);
        device.Softcap(logits, 3f);
        device.Linear(x, weight, other);
        device.Softcap(copy, 3f);
        Assert.NotEqual(Read(device, other), Read(device, logits));
        Assert.Equal(Read(device, copy), Read(device, logits));
        Assert.Equal(["gemv_bf16_1row", "copy", "softcap", "gemv_bf16_1row", "softcap"], _launched);
    }

    public void Dispose() => _folder.Dispose();

    private CudaDevice Open(int capability) => TestGpu.Open(capability, launched: (kernel, _) =>
    {
        lock (_launched)
            _launched.Add(kernel.Name);
    });

    private Weight Weights(CudaDevice device, string dtype, int outputs = Outputs, int inputs = Inputs)
    {
        string path = _folder.At($"{dtype}.safetensors");
        float[] values = Random(outputs * inputs, 7);
        StoredTensors.Write(path, [new("w", StoredTensors.Of(dtype, values, outputs, inputs).Tensor)]);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        return device.CreateWeight("w", new WeightPart(file["w"]));
    }

    private static Mat Values(CudaDevice device, int rows, int columns)
    {
        Mat x = device.CreateMat(rows, columns, "x");
        device.Write(Random(rows * columns, columns), x);
        return x;
    }

    private static float[] Random(int count, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (2 * random.NextSingle()) - 1)];
    }

    private static float[] Read(CudaDevice device, Mat x)
    {
        float[] values = new float[x.Rows * x.Columns];
        device.Read(x, values);
        return values;
    }
}

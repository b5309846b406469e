using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Fork, rewind, save and load on the CUDA device over the emulator: the same bits as the run that never did any of it.</summary>
public sealed class SessionTests
{
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void A_forked_a_rewound_and_a_loaded_session_go_on_with_the_same_bits(DType cacheType)
    {
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        model.CacheType = cacheType;
        int[] start = [2, 11, 7, 9, 30, 5, 8, 13, 21], more = [34, 55];
        using Session plain = model.NewSession(64, 4);
        plain.Prefill(start);
        float[] expected = Logits(device, plain.Prefill(more));

        string path = Path.Combine(Path.GetTempPath(), $"kernelscope-{Path.GetRandomFileName()}.safetensors");
        try
        {
            using Session parent = model.NewSession(64, 4);
            parent.Prefill(start);
            parent.Save(path);
            using Session child = parent.Fork(), grandchild = parent.Fork();
            child.Prefill([40, 41, 42]);
            child.Rewind(start.Length);
            Assert.Equal(expected, Logits(device, child.Prefill(more)));
            Assert.Equal(expected, Logits(device, parent.Prefill(more)));
            Assert.Equal(expected, Logits(device, grandchild.Prefill(more)));
            using Session loaded = model.LoadSession(path);
            Assert.Equal(start, loaded.Tokens.ToArray());
            Assert.Equal(expected, Logits(device, loaded.Prefill(more)));
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>A session takes more tokens a call than elsewhere; whether a text goes in one call or in pieces of 32 tokens changes no bit.</summary>
    [Fact]
    public void The_devices_own_chunk_is_larger_and_does_not_show_in_the_results()
    {
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        int[] tokens = [.. Enumerable.Range(0, 60).Select(n => 2 + (n * 7 % 50))];
        using Session own = model.NewSession(64), pieces = model.NewSession(64, 32);
        Assert.Equal(64, own.ChunkLength);
        Assert.Equal(CudaDevice.PreferredChunkLength, device.PreferredChunk);
        Assert.Equal(Logits(device, own.Prefill(tokens)), Logits(device, pieces.Prefill(tokens)));
        using Session full = model.NewSession();
        Assert.Equal(Math.Min(full.ContextLength, CudaDevice.PreferredChunkLength), full.ChunkLength);
    }

    private static float[] Logits(CudaDevice device, Mat row)
    {
        float[] values = new float[row.Columns];
        device.Read(row, values);
        return values;
    }
}

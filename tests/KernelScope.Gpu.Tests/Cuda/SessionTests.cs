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

    /// <summary>A session takes more tokens a call than elsewhere.</summary>
    [Fact]
    public void The_devices_own_chunk_is_larger()
    {
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        using Session own = model.NewSession(64), full = model.NewSession();
        Assert.Equal(64, own.ChunkLength);
        Assert.Equal(CudaDevice.PreferredChunkLength, device.PreferredChunk);
        Assert.Equal(Math.Min(full.ContextLength, CudaDevice.PreferredChunkLength), full.ChunkLength);
    }

    /// <summary>
    /// Whether a text goes in one call or in pieces changes no bit of the last token's logits, which hang on all tokens before it, in
    /// layers with a window (6 tokens) and without. Pieces of up to 8 tokens go through other kernels (FewRows), whose sums have another order.
    /// </summary>
    [Theory]
    [InlineData(DType.F32, 32, 28)]
    [InlineData(DType.F32, 9, 9, 9, 9, 9, 15)]
    [InlineData(DType.F32, 20, 20, 20)]
    [InlineData(DType.F32, 33, 27)]
    [InlineData(DType.F32, 40, 20)]
    [InlineData(DType.BF16, 33, 9, 18)]
    public void Pieces_of_more_than_8_tokens_do_not_show_in_the_results(DType cacheType, params int[] pieces)
    {
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        model.CacheType = cacheType;
        Assert.Equal(6, model.Config.SlidingWindow);
        int[] tokens = [.. Enumerable.Range(0, 60).Select(n => 2 + (n * 7 % 50))];
        using Session whole = model.NewSession(64), split = model.NewSession(64, pieces.Max());
        float[] expected = Logits(device, whole.Prefill(tokens)), actual = [];
        int at = 0;
        foreach (int count in pieces)
        {
            actual = Logits(device, split.Prefill(tokens.AsSpan(at, count)));
            at += count;
        }

        Assert.Equal(tokens.Length, at);
        Assert.Equal(expected, actual);
    }

    /// <summary>The same among pieces of up to 8 tokens: one, two, four or eight rows of the kernels for few.</summary>
    [Fact]
    public void Pieces_of_up_to_8_tokens_have_the_same_bits_among_themselves()
    {
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
        int[] tokens = [.. Enumerable.Range(0, 21).Select(n => 2 + (n * 7 % 50))];
        using Session eights = model.NewSession(64, 8), threes = model.NewSession(64, 3), ones = model.NewSession(64, 1);
        float[] expected = Logits(device, eights.Prefill(tokens));
        Assert.Equal(expected, Logits(device, threes.Prefill(tokens)));
        Assert.Equal(expected, Logits(device, ones.Prefill(tokens)));
    }

    private static float[] Logits(CudaDevice device, Mat row)
    {
        float[] values = new float[row.Columns];
        device.Read(row, values);
        return values;
    }
}

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

    private static float[] Logits(CudaDevice device, Mat row)
    {
        float[] values = new float[row.Columns];
        device.Read(row, values);
        return values;
    }
}

using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Tests;
using KernelScope.Tests.Threads;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Several threads over one emulated device: launches of one op stay together, and memory is freed when no op has its address.</summary>
public class ThreadTests
{
    private const int Threads = 4;
    private const int Length = 2;

    [Theory]
    [InlineData("sl-jumprelu")]
    [InlineData("sl-jumprelu-layer-norm-b-dec")]
    public void Generations_of_several_threads_give_what_each_gives_alone(string saeName)
    {
        using CudaDevice device = TestGpu.Open(options: TestGpu.Strict());
        using Gemma2Model model = Open(device);
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", saeName));
        var together = new (int[] Tokens, (int, float)[] Features)[Threads];
        Run(t => together[t] = new SampledRun(t).Run(model, sae, Length));
        for (int n = 0; n < together.Length; n++)
        {
            (int[] tokens, (int, float)[] features) = new SampledRun(n).Run(model, sae, Length);
            Assert.Equal(tokens, together[n].Tokens);
            Assert.Equal(features, together[n].Features);
        }
    }

    [Theory]
    [InlineData("model")]
    [InlineData("sae")]
    [InlineData("device")]
    public void What_is_disposed_under_a_generation_ends_it_with_an_exception(string target)
    {
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Open(device);
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", "sl-jumprelu"));
        using var started = new CountdownEvent(Threads);
        var ends = new Exception?[Threads];
        var disposal = new Thread(() =>
        {
            started.Wait();
            IDisposable victim = target switch { "model" => model, "sae" => sae, _ => device };
            victim.Dispose();
        });
        disposal.Start();
        Run(t =>
        {
            started.Signal();
            ends[t] = Record.Exception(() =>
            {
                for (int n = 0; n < 20; n++)
                    new SampledRun(t).Run(model, sae, Length);
            });
        });
        disposal.Join();
        Assert.All(ends, e => Assert.IsType<ObjectDisposedException>(e));
    }

    /// <summary>Work space that grows takes the place of smaller one; what another thread disposed meanwhile may be an operand of that very op.</summary>
    [Fact]
    public void Memory_that_is_disposed_beside_ops_is_all_given_back()
    {
        using CudaDevice device = TestGpu.Open(options: TestGpu.Strict());
        device.Synchronize();
        long before = device.AllocatedBytes;
        Run(t =>
        {
            for (int n = 0; n < 20; n++)
            {
                Mat x = device.CreateMat(2 + t, 8 + n, "x"), part = x.ColumnRange(1, 4);
                using DeviceBuffer owned = x.Buffer;
                float[] values = new float[part.Rows * 4];
                device.Write(values, part);
                device.Read(part, values);
            }
        });
        device.Synchronize();
        // The work space that the widest of them needed is kept.
        Assert.InRange(device.AllocatedBytes - before, 0, 64 << 10);
    }

    private static Gemma2Model Open(Device device) => Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));

    private static void Run(Action<int> work)
    {
        Exception? failure = null;
        Thread[] threads =
            [.. Enumerable.Range(0, Threads).Select(t => new Thread(() => failure = Record.Exception(() => work(t)) ?? failure))];
        foreach (Thread thread in threads)
            thread.Start();
        foreach (Thread thread in threads)
            thread.Join();
        Assert.Null(failure);
    }
}

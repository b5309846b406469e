using System.Runtime.InteropServices;
using System.Text;
using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Ptx;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>Launches that begin while the one before them ends (programmatic dependent launch), from sm_90 on.</summary>
public sealed class OverlapTests
{
    private const string Wait = "griddepcontrol.wait;", LaunchDependents = "griddepcontrol.launch_dependents;";
    private readonly List<string> _warnings = [];

    [Fact]
    public void Every_kernel_waits_on_sm_90_and_none_has_the_instructions_below()
    {
        foreach (string file in PtxImage.Embedded.Manifest.Kernels.SelectMany(k => k.Code.Select(c => c.File)).Distinct())
        {
            string text = Encoding.UTF8.GetString(PtxImage.ReadResource(file)!), enabled = OverlapText.Enable(text);
            Assert.DoesNotContain(text.Split('\n'), IsInstruction);
            Assert.Contains("\n.version 7.8\n.target sm_90\n.address_size 64\n", enabled, StringComparison.Ordinal);
            foreach (string kernel in enabled.Split(".visible .entry ")[1..])
            {
                string[] found = [.. kernel.Split('\n').Where(IsInstruction).Select(line => line.Trim())];
                Assert.Equal([Wait, LaunchDependents], found.Where(line => !line.StartsWith("prefetch", StringComparison.Ordinal)));
                Assert.InRange(found.Length, 2, 3);
                // Where no prefetch or copy of weights comes before, no instruction does.
                string before = kernel[..kernel.IndexOf(Wait, StringComparison.Ordinal)];
                bool later = found.Length == 3 || kernel.Contains("gemv_ring_", StringComparison.Ordinal);
                Assert.Equal(later, before.Contains("ld.param", StringComparison.Ordinal));
                Assert.DoesNotContain("ld.global", before, StringComparison.Ordinal);
            }
        }
    }

    [Theory]
    [InlineData("hd256")]
    [InlineData("mqa-odd")]
    public void Bits_are_those_of_plain_launches(string model)
    {
        (float[] plain, _) = Decode(model, new CudaDeviceOptions { Overlap = false }, out bool none);
        (float[] overlapped, long graphs) = Decode(model, new CudaDeviceOptions(), out bool overlaps);
        (float[] oneByOne, _) = Decode(model, new CudaDeviceOptions { Graphs = false }, out _);
        Assert.False(none);
        Assert.True(overlaps);
        Assert.InRange(graphs, 3, 10);
        Assert.Equal(plain.Select(BitConverter.SingleToInt32Bits), overlapped.Select(BitConverter.SingleToInt32Bits));
        Assert.Equal(plain.Select(BitConverter.SingleToInt32Bits), oneByOne.Select(BitConverter.SingleToInt32Bits));
    }

    [Fact]
    public void Only_what_follows_a_kernel_may_begin_early()
    {
        using CudaDevice device = Open(90, out FailingDriver driver, new CudaDeviceOptions { Graphs = false });
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "hd256"));
        using Session session = model.NewSession(chunkLength: 16);
        driver.Calls!.Clear();
        for (int token = 2; token < 6; token++)
            model.Forward([token], session);
        device.Synchronize();
        int early = 0;
        for (int n = 0; n < driver.Calls.Count; n++)
        {
            if (driver.Calls[n] != nameof(ICudaDriver.LaunchKernelEx))
                continue;
            early++;
            Assert.Contains(driver.Calls[n - 1], (string[])[nameof(ICudaDriver.LaunchKernel), nameof(ICudaDriver.LaunchKernelEx)]);
        }

        Assert.InRange(early, 20, 200);
    }

    [Theory]
    [InlineData("never")]
    [InlineData("late")]
    public void A_kernel_that_does_not_wait_is_found(string when)
    {
        PtxImage image = ChangedImage.Of("sm_80/elementwise.ptx", "softcap", body =>
        {
            string line = $"\t{OverlapText.Prefix}{Wait}\n", without = body.Replace(line, "", StringComparison.Ordinal);
            return when == "never" ? without : without.Replace("\tret;", line + "\tret;", StringComparison.Ordinal);
        });
        using CudaDevice device = Open(90, out _, image: image);
        Mat x = device.CreateMat(1, 300, "x");
        device.Softcap(x, 30);
        device.Softcap(x, 30);
        var error = Assert.Throws<CudaException>(() => device.Read(x, new float[300]));
        Assert.Contains("of buffer 'x' (1200 bytes), which kernels write, before griddepcontrol.wait", error.Message,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(80, 12_040)]
    [InlineData(90, 11_040)]
    [InlineData(90, 11_070)]
    public void An_older_device_or_driver_gets_plain_launches_of_the_text_as_it_is(int capability, int version)
    {
        using CudaDevice device = Open(capability, out FailingDriver driver, version: version);
        Assert.False(device.Overlaps);
        Assert.Equal(0, Sums(device));
        Assert.DoesNotContain(nameof(ICudaDriver.LaunchKernelEx), driver.Calls!);
        Assert.Equal(version < 11_080 ? CudaResult.NotSupported : CudaResult.InvalidValue, driver.LaunchKernelEx(0, default, 0, [], []));
        Assert.Empty(_warnings);
        Assert.All(device.LoadModules().SelectMany(m => m.Kernels), k => Assert.Equal(70, k.PtxVersion));
    }

    [Theory]
    [InlineData(nameof(ICudaDriver.LaunchKernelEx), (int)CudaResult.NotSupported)]
    [InlineData(nameof(ICudaDriver.LaunchKernelEx), (int)CudaResult.Success)]
    [InlineData(nameof(ICudaDriver.StreamBeginCapture), (int)CudaResult.StreamCaptureUnsupported)]
    [InlineData(nameof(ICudaDriver.GraphInstantiate), (int)CudaResult.NotSupported)]
    [InlineData(nameof(ICudaDriver.GraphLaunch), (int)CudaResult.Success)]
    public void A_driver_that_cannot_do_it_gets_plain_launches(string call, int result)
    {
        // Once: an error, or a success that did nothing, so that sums are wrong.
        bool done = false;
        using CudaDevice device = Open(90, out FailingDriver driver, fail: c =>
        {
            if (done || c != call)
                return null;
            done = true;
            return (CudaResult)result;
        });
        Assert.True(done);
        Assert.False(device.Overlaps);
        Assert.StartsWith("Launches do not overlap on PTX emulator", Assert.Single(_warnings), StringComparison.Ordinal);
        driver.Calls!.Clear();
        long graphs = device.GraphLaunches;
        Assert.Equal(0, Sums(device));
        Assert.DoesNotContain(nameof(ICudaDriver.LaunchKernelEx), driver.Calls);
        Assert.InRange(device.GraphLaunches, graphs + 1, graphs + 3);
    }

    [Fact]
    public void A_device_that_waits_for_every_launch_does_not_overlap()
    {
        using CudaDevice device = Open(90, out FailingDriver driver, new CudaDeviceOptions { Sync = true });
        Assert.False(device.Overlaps);
        Assert.DoesNotContain(nameof(ICudaDriver.LaunchKernelEx), driver.Calls!);
    }

    /// <summary>As cuda.h of CUDA 11.8 to 13 lays them out on 64-bit systems.</summary>
    [Fact]
    public void The_structures_of_the_call_are_those_of_the_driver()
    {
        Assert.Equal((72, 8), (Marshal.SizeOf<LaunchAttribute>(), (int)Marshal.OffsetOf<LaunchAttribute>(nameof(LaunchAttribute.Value))));
        Assert.Equal(56, Marshal.SizeOf<LaunchConfig>());
        string[] members = [nameof(LaunchConfig.SharedBytes), nameof(LaunchConfig.Stream), nameof(LaunchConfig.Attributes),
            nameof(LaunchConfig.AttributeCount)];
        Assert.Equal([24, 32, 40, 48], members.Select(name => (int)Marshal.OffsetOf<LaunchConfig>(name)));
    }

    private static bool IsInstruction(string line) =>
        line.StartsWith("\tgriddepcontrol", StringComparison.Ordinal) || line.StartsWith("\tprefetch", StringComparison.Ordinal);

    /// <summary>How far sums are off that five launches make, three times.</summary>
    private static float Sums(CudaDevice device)
    {
        Mat x = device.CreateMat(1, 300, "x"), y = device.CreateMat(1, 300, "y");
        float[] values = new float[300];
        values.AsSpan().Fill(1);
        device.Write(values, x);
        for (int turn = 0; turn < 3; turn++)
        {
            for (int n = 0; n < 5; n++)
                device.AddScaled(x, 1, y);
            device.Read(y, values);
        }

        return values.Max(v => Math.Abs(v - 15));
    }

    private CudaDevice Open(int capability, out FailingDriver driver, CudaDeviceOptions? options = null, PtxImage? image = null,
        int version = 12_040, Func<string, CudaResult?>? fail = null)
    {
        driver = new FailingDriver(new EmulatedDriver(TestGpu.Driver(capability) with { DriverVersion = version }));
        if (fail is not null)
            driver.Fail = fail;
        return new CudaDevice("cuda:0", driver, 0, (options ?? new CudaDeviceOptions()) with { Warn = _warnings.Add }, image);
    }

    private static (float[] Logits, long Graphs) Decode(string name, CudaDeviceOptions options, out bool overlaps)
    {
        using CudaDevice device = TestGpu.Open(90, options);
        overlaps = device.Overlaps;
        long graphs = device.GraphLaunches;
        using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", name));
        using Session session = model.NewSession(chunkLength: 16);
        using var sampler = new Sampler(device, model.Config.VocabSize, new SamplingOptions());
        Mat row = session.Prefill([2, 11, 7, 9, 30]);
        float[] logits = new float[6 * model.Config.VocabSize];
        for (int step = 0; step < 6; step++)
        {
            int token = sampler.Next(row);
            device.Read(row, logits.AsSpan(step * model.Config.VocabSize, model.Config.VocabSize));
            row = model.Forward([token], session);
        }

        return (logits, device.GraphLaunches - graphs);
    }
}

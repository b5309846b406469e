using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Cuda;
using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Ptx;
using KernelScope.Devices;
using KernelScope.Emulated;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>What a kernel does wrong in the emulator comes out of the device as the fault's own sentence.</summary>
public sealed class FaultTests
{
    [Theory]
    [InlineData("ld.global.f32\t%f1, [%rd", "+2]", "is not a multiple of 4.")]
    [InlineData("ld.global.f32\t%f1, [%rd", "+4096]", "bytes from the end of buffer")]
    public void A_fault_names_kernel_line_thread_and_address(string load, string offset, string what)
    {
        using var device = new CudaDevice("emulated", new EmulatedDriver(), image: WithBadCopy(load, offset));
        Mat x = device.CreateMat(1, 5, "x"), y = device.CreateMat(1, 5, "y");
        device.Copy(x, y);
        var error = Assert.Throws<CudaException>(() => device.Read(y, new float[5]));
        Assert.Equal(CudaResult.LaunchFailed, error.Result);
        Assert.Contains("cuLaunchKernel (copy, grid (1, 1, 1), block 256)", error.Message, StringComparison.Ordinal);
        Assert.Matches("line [0-9]+", error.Message);
        Assert.Contains(what, error.Message, StringComparison.Ordinal);
        Assert.Throws<CudaException>(() => device.CreateMat(1, 1, "z"));
    }

    [Fact]
    public void Memory_that_was_given_back_is_not_used()
    {
        using CudaDevice device = TestGpu.Open();
        Mat x = device.CreateMat(1, 5, "x"), y = device.CreateMat(1, 5, "y");
        x.Buffer.Dispose();
        Assert.Throws<ObjectDisposedException>(() => device.Copy(x, y));
    }

    [Fact]
    public void Launches_that_wait_run_before_their_memory_is_given_back()
    {
        using CudaDevice device = TestGpu.Open();
        Mat x = device.CreateMat(1, 5, "x"), y = device.CreateMat(1, 5, "y");
        device.Write([1, 2, 3, 4, 5], x);
        device.Copy(x, y);
        x.Buffer.Dispose();
        float[] values = new float[5];
        device.Read(y, values);
        Assert.Equal([1, 2, 3, 4, 5], values);
    }

    [Fact]
    public void Things_of_another_device_are_refused()
    {
        using CudaDevice device = TestGpu.Open(), other = TestGpu.Open();
        Mat x = device.CreateMat(1, 5, "x"), y = other.CreateMat(1, 5, "y");
        Assert.Contains("y [1, 5] is not in the memory of emulated", Assert.Throws<ArgumentException>(() => device.Copy(x, y)).Message, StringComparison.Ordinal);
        using SparseCodes codes = other.CreateCodes(5, "codes");
        Assert.Throws<ArgumentException>(() => device.TopK(x, 1, codes));
    }

    [Fact]
    public void A_shape_outside_a_kernel_is_refused_before_the_launch()
    {
        using CudaDevice device = TestGpu.Open();
        Mat q = device.CreateMat(1, 320, "q"), z = device.CreateMat(1, 320, "z");
        var cache = new KvLayer(device.CreateMat(4, 320, "keys"), device.CreateMat(4, 320, "values"), 1, 4);
        var error = Assert.Throws<ArgumentException>(() => device.Attend(q, cache, 0, new AttentionShape(1, 1f, 0f, 0), z));
        Assert.Contains("Heads of 320 values are too large for the CUDA kernels, which take up to 256.", error.Message, StringComparison.Ordinal);
        Mat rows = device.CreateMat(70_000, 1, "rows");
        using SparseCodes codes = device.CreateCodes(1, "top");
        Assert.Contains("70000 rows", Assert.Throws<ArgumentException>(() => device.TopK(rows, 1, codes)).Message, StringComparison.Ordinal);
    }

    /// <summary>The shipped image with another address in the first load of kernel <c>copy</c>, and a manifest that fits it.</summary>
    private static PtxImage WithBadCopy(string load, string offset)
    {
        const string file = "sm_80/elementwise.ptx";
        string text = Encoding.UTF8.GetString(PtxImage.ReadResource(file)!);
        int kernel = text.IndexOf(".visible .entry copy(", StringComparison.Ordinal);
        int end = text.IndexOf("\n.visible", kernel + 1, StringComparison.Ordinal);
        string body = text[kernel..end];
        int at = body.IndexOf(load, StringComparison.Ordinal);
        Assert.True(at >= 0, body);
        int close = body.IndexOf(']', at);
        string changed = body[..close] + offset + body[(close + 1)..];
        JsonNode manifest = JsonNode.Parse(PtxImage.ReadResource(PtxManifest.FileName))!;
        JsonNode code = manifest["kernels"]!.AsArray().First(k => (string)k!["name"]! == "copy")!["code"]!.AsArray().First(c => (string)c!["file"]! == file)!;
        code["sha256"] = Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(Encoding.UTF8.GetBytes(changed)));
        return new PtxImage(name => name switch
        {
            file => Encoding.UTF8.GetBytes(text[..kernel] + changed + text[end..]),
            PtxManifest.FileName => Encoding.UTF8.GetBytes(manifest.ToJsonString()),
            _ => PtxImage.ReadResource(name),
        });
    }
}

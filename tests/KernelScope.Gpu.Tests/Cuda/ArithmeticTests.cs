using System.Security.Cryptography;
using System.Text;
using KernelScope.Conformance;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>What a device says of its bits: runs, journals and checkpoints are continued only where it says the same.</summary>
public sealed class ArithmeticTests
{
    /// <summary>The number that the device gives for its order of sums, and the bits that go with it: a golden of our own, which shows only that one does not change without the other.</summary>
    [Fact]
    public void Other_bits_come_with_another_number_of_the_order_of_sums()
    {
        using CudaDevice device = TestGpu.Open();
        Assert.Contains(", sums 2, ", device.Arithmetic, StringComparison.Ordinal);
        string bits = string.Concat(OutputHashes.Embedded.Cases.OrderBy(c => c.Key, StringComparer.Ordinal)
            .Select(c => $"{c.Key} {c.Value.Hash}\n"));
        string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(bits)));
        Assert.True(hash == "dd7c20853ad0009ddc1b2951052894539cacdcc9bd038bd7ffb49a1289d88001",
            $"Results of the suite are others ({hash}): raise CudaDevice.OrderOfSums, unless cases were only added or renamed.");
    }

    [Fact]
    public void What_may_change_bits_shows()
    {
        using CudaDevice turing = TestGpu.Open(75), ampere = TestGpu.Open();
        using CudaDevice plain = TestGpu.Open(options: new CudaDeviceOptions { TensorCores = false });
        Assert.Equal(3, new HashSet<string> { turing.Arithmetic, ampere.Arithmetic, plain.Arithmetic }.Count);
    }

    /// <summary>An instruction that rounds otherwise, or adds another lane, is within every tolerance or nearly so; its hashes are others.</summary>
    [Theory]
    [InlineData("add.rn.f32", "add.rz.f32")]
    [InlineData("mul.rn.f32", "mul.rz.f32")]
    [InlineData("fma.rn.f32", "fma.rz.f32")]
    [InlineData(", 8, 31, ", ", 4, 31, ")]
    public void One_instruction_that_is_misread_shows_in_a_hash(string text, string changed)
    {
        using var device = new CudaDevice("emulated", new EmulatedDriver(), image: ChangedImage.Of("sm_80/rms_norm.ptx", "rms_norm", body =>
        {
            int at = body.IndexOf(text, StringComparison.Ordinal);
            return body[..at] + changed + body[(at + text.Length)..];
        }));
        Assert.Contains(ConformanceSuite.Cases(ConformanceScale.Tiny).Where(c => c.Op == nameof(Device.RmsNorm)),
            c => OutputHashes.Embedded.Problem(c.Run(device), portableOnly: true) is not null);
    }
}

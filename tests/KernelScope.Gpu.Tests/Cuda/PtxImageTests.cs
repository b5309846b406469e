using System.Text;
using KernelScope.Cuda.Ptx;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The shipped PTX and its manifest: damaged or mismatched ones are refused.</summary>
public sealed class PtxImageTests
{
    private const string File = "sm_80/elementwise.ptx";

    [Fact]
    public void The_embedded_files_are_those_of_the_repository()
    {
        foreach (string file in PtxImage.Embedded.Manifest.Kernels.SelectMany(k => k.Code).Select(c => c.File).Append(PtxManifest.FileName)
            .Distinct())
        {
            byte[] committed = System.IO.File.ReadAllBytes(Path.Combine(Fixtures.Root, "kernels", "ptx", file));
            Assert.Equal(committed, PtxImage.ReadResource(file));
        }
    }

    [Fact]
    public void Every_text_ends_with_a_zero_byte_for_the_driver() => Assert.Equal(0, PtxImage.Embedded.Text(File)[^1]);

    [Fact]
    public void A_changed_kernel_is_refused_by_its_hash()
    {
        string message = Refusal(File, text => text.Replace("add.rn.f32", "sub.rn.f32", StringComparison.Ordinal));
        Assert.Contains($"kernels/ptx/{File}", message, StringComparison.Ordinal);
        Assert.Contains("'add_scaled'", message, StringComparison.Ordinal);
        string expected = PtxImage.Embedded.Kernel("add_scaled").CodeFor(80)!.Sha256;
        Assert.Contains($"expected {expected}", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_was_cut_off_is_refused() =>
        Assert.Contains(File, Refusal(File, text => text[..(text.Length / 2)]), StringComparison.Ordinal);

    [Fact]
    public void A_file_for_another_target_is_refused() =>
        Assert.Contains("sm_80", Refusal(File, text => text.Replace(".target sm_80", ".target sm_90", StringComparison.Ordinal)),
        StringComparison.Ordinal);

    [Fact]
    public void A_kernel_that_the_manifest_does_not_know_is_refused() =>
        Assert.Contains("'more'", Refusal(File, text => text + "\n.visible .entry more()\n{\n}\n"), StringComparison.Ordinal);

    [Fact]
    public void A_missing_file_is_named()
    {
        var error = Assert.Throws<InvalidDataException>(() => new PtxImage(file => file == File ? null : PtxImage.ReadResource(file)));
        Assert.Contains($"kernels/ptx/{File} is missing", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{")]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("{\"format\": 2}")]
    [InlineData("{\"format\": 1, \"ptx_isa\": \"7.0\", \"kernels\": [{\"name\": \"x\"}]}")]
    public void A_damaged_manifest_is_refused(string json)
    {
        var error = Assert.Throws<InvalidDataException>(() => PtxManifest.Parse(Encoding.UTF8.GetBytes(json)));
        Assert.Contains(PtxManifest.FileName, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_device_gets_the_newest_code_that_it_can_run()
    {
        PtxKernelInfo copy = PtxImage.Embedded.Kernel("copy");
        Assert.Equal(80, copy.CodeFor(120)!.Target.Capability);
        Assert.Equal(80, copy.CodeFor(80)!.Target.Capability);
        Assert.Equal(75, copy.CodeFor(75)!.Target.Capability);
        Assert.Null(copy.CodeFor(70));
        Assert.Null(PtxImage.Embedded.Kernel("gemm_tensor_bf16_exact").CodeFor(75));
    }

    [Fact]
    public void Code_for_one_architecture_alone_goes_to_no_other()
    {
        PtxCode[] code = [.. new[] { "sm_80", "sm_90", "sm_90a" }.Select(t => new PtxCode(PtxTarget.Parse(t), $"{t}/x.ptx", "", "7.0"))];
        var kernel = new PtxKernelInfo("x", 32, 1, 1, [], code);
        Assert.Equal(("sm_80", "sm_90a", "sm_90"),
            ($"{kernel.CodeFor(89)!.Target}", $"{kernel.CodeFor(90)!.Target}", $"{kernel.CodeFor(100)!.Target}"));
        foreach (string wrong in new[] { "sm_", "sm_a", "80", "sm_90ab", "compute_80" })
            Assert.Throws<FormatException>(() => PtxTarget.Parse(wrong));
    }

    /// <summary>Newer code for newer devices asks for a newer driver there, and nowhere else.</summary>
    [Fact]
    public void A_driver_must_know_the_versions_that_its_device_loads()
    {
        string text = Encoding.UTF8.GetString(PtxImage.ReadResource(File)!).Replace(".version 7.0", ".version 7.8",
            StringComparison.Ordinal).Replace(".target sm_80", ".target sm_90", StringComparison.Ordinal);
        System.Text.Json.Nodes.JsonNode manifest = ChangedImage.Manifest();
        foreach (System.Text.Json.Nodes.JsonNode? kernel in manifest["kernels"]!.AsArray())
        {
            System.Text.Json.Nodes.JsonArray code = kernel!["code"]!.AsArray();
            if (code.FirstOrDefault(c => (string)c!["file"]! == File)?.DeepClone() is not System.Text.Json.Nodes.JsonNode newer)
                continue;
            (newer["target"], newer["file"], newer["ptx_isa"]) = ("sm_90", "sm_90/elementwise.ptx", "7.8");
            code.Add(newer);
        }

        PtxImage image = ChangedImage.Of(manifest, name => name == "sm_90/elementwise.ptx" ? Encoding.UTF8.GetBytes(text)
            : PtxImage.ReadResource(name));
        Assert.Equal(("7.0", "7.8"), (image.Manifest.PtxVersionFor(80), image.Manifest.PtxVersionFor(90)));
        Open(80, 11_040).Dispose();
        Open(90, 11_080).Dispose();
        Assert.Contains("(PTX 7.8) need CUDA 11.8", Assert.Throws<KernelScope.Cuda.Driver.CudaException>(() => Open(90, 11_040)).Message,
            StringComparison.Ordinal);

        KernelScope.Cuda.CudaDevice Open(int capability, int driver) =>
            new("cuda:0", new Emulated.EmulatedDriver(TestGpu.Driver(capability) with { DriverVersion = driver }), image: image);
    }

    private static string Refusal(string file, Func<string, string> change) =>
        Assert.Throws<InvalidDataException>(() => new PtxImage(name =>
        PtxImage.ReadResource(name) is { } bytes && name == file ? Encoding.UTF8.GetBytes(change(Encoding.UTF8.GetString(bytes)))
        : PtxImage.ReadResource(name))).Message;
}

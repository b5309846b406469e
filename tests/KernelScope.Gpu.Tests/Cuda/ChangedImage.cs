using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Cuda.Ptx;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>The shipped image with one kernel changed, and a manifest that fits it.</summary>
internal static class ChangedImage
{
    public static PtxImage Of(string file, string kernel, Func<string, string> change)
    {
        string text = Encoding.UTF8.GetString(PtxImage.ReadResource(file)!);
        int start = text.IndexOf($".visible .entry {kernel}(", StringComparison.Ordinal),
            next = text.IndexOf("\n.visible", start + 1, StringComparison.Ordinal);
        int end = next < 0 ? text.Length : next;
        string changed = change(text[start..end]);
        Assert.NotEqual(text[start..end], changed);
        JsonNode manifest = Manifest();
        JsonNode code = manifest["kernels"]!.AsArray().First(k => (string)k!["name"]! == kernel)!["code"]!.AsArray()
            .First(c => (string)c!["file"]! == file)!;
        code["sha256"] = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(changed)));
        return Of(manifest, name => name == file ? Encoding.UTF8.GetBytes(text[..start] + changed + text[end..])
            : PtxImage.ReadResource(name));
    }

    public static PtxImage Of(JsonNode manifest, Func<string, byte[]?> read) =>
        new(name => name == PtxManifest.FileName ? Encoding.UTF8.GetBytes(manifest.ToJsonString()) : read(name));

    public static JsonNode Manifest() => JsonNode.Parse(PtxImage.ReadResource(PtxManifest.FileName))!;

    /// <summary>Kernel <c>copy</c> with another address in its first load.</summary>
    public static PtxImage WithBadCopy(string offset) => Of("sm_80/elementwise.ptx", "copy", body =>
    {
        int close = body.IndexOf(']', body.IndexOf("ld.global.f32\t%f1, [%rd", StringComparison.Ordinal));
        return body[..close] + offset + body[(close + 1)..];
    });
}

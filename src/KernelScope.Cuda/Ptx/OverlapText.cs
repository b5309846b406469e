using System.Text;

namespace KernelScope.Cuda.Ptx;

/// <summary>
/// PTX with the instructions by which a kernel starts while the one before it ends (programmatic dependent launch). In the files they are comments, since one text serves all devices from 8.0 on.
/// </summary>
internal static class OverlapText
{
    /// <summary>The first compute capability that has them, and the first CUDA, 1000·major + 10·minor, whose drivers compile them and have cuLaunchKernelEx.</summary>
    public const int Capability = 90, Cuda = 11_080;

    /// <summary>What begins a line that has one.</summary>
    public const string Prefix = "// sm_90: ";

    /// <summary>The text for sm_90 and newer.</summary>
    public static string Enable(string ptx)
    {
        int version = ptx.IndexOf(".version ", StringComparison.Ordinal), size = ptx.IndexOf(".address_size ", StringComparison.Ordinal);
        return $"{ptx[..version]}.version 7.8\n.target sm_90\n{ptx[size..].Replace(Prefix, "", StringComparison.Ordinal)}";
    }

    /// <summary>The same of UTF-8.</summary>
    public static byte[] Enable(ReadOnlySpan<byte> ptx) => Encoding.UTF8.GetBytes(Enable(Encoding.UTF8.GetString(ptx)));
}

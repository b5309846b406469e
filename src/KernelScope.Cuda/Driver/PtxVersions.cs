using System.Globalization;

namespace KernelScope.Cuda.Driver;

/// <summary>Which CUDA a version of PTX needs.</summary>
internal static class PtxVersions
{
    /// <summary>1000·major + 10·minor of the first CUDA whose drivers compile the version.</summary>
    /// <remarks>NVIDIA, PTX ISA, "Release Notes": PTX 7.n and 8.n came with CUDA 11.n and 12.n; 6.0 to 6.5 with CUDA 9.0 to 10.2.</remarks>
    public static int CudaFor(string ptxVersion)
    {
        string[] parts = ptxVersion.Split('.');
        int major = int.Parse(parts[0], CultureInfo.InvariantCulture), minor = int.Parse(parts[1], CultureInfo.InvariantCulture);
        return major >= 7 ? ((major + 4) * 1000) + (minor * 10) : 10_020;
    }
}

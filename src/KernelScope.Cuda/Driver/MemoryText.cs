using System.Globalization;

namespace KernelScope.Cuda.Driver;

/// <summary>Bytes in words.</summary>
internal static class MemoryText
{
    /// <summary>In MiB, rounded up: <c>5,012 MiB</c>.</summary>
    public static string MiB(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{(bytes + (1 << 20) - 1) >> 20:N0} MiB");
}

using System.Globalization;

namespace KernelScope.Cli;

/// <summary>Refuses work that cannot fit into memory before it begins: a machine that swaps or a process that is killed says nothing.</summary>
internal static class MemoryCheck
{
    private const long MiB = 1 << 20;

    /// <summary>Bytes that this process may use: the least of what the runtime's limits and the kernel's estimate allow.</summary>
    public static long Available()
    {
        long runtime = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        return LinuxAvailable() is long kernel ? Math.Min(runtime, kernel) : runtime;
    }

    /// <summary>Checks a sum of needs.</summary>
    /// <param name="parts">What needs how many bytes. Weights that are used in a mapped file count: every token reads all of them.</param>
    /// <exception cref="WorkException">There is too little; the sentence says how much of what.</exception>
    public static void Require(params ReadOnlySpan<(string What, long Bytes)> parts)
    {
        long needed = 0;
        var words = new List<string>();
        foreach ((string what, long bytes) in parts)
        {
            needed = bytes > long.MaxValue - needed ? long.MaxValue : needed + bytes;
            if (bytes > 0)
                words.Add($"{what} {InMiB(bytes)}");
        }

        long available = Available();
        if (needed > available)
            throw new WorkException($"this needs {InMiB(needed)} MiB of memory ({string.Join(", ", words)}), and {InMiB(available)} " +
                "MiB are available.");
    }

    /// <summary>Bytes in MiB, rounded up.</summary>
    public static string InMiB(long bytes) => (((bytes - 1) / MiB) + 1).ToString(CultureInfo.InvariantCulture);

    private static long? LinuxAvailable()
    {
        if (!OperatingSystem.IsLinux())
            return null;
        try
        {
            foreach (string line in File.ReadLines("/proc/meminfo"))
            {
                if (line.StartsWith("MemAvailable:", StringComparison.Ordinal))
                    return long.Parse(line.AsSpan(13).Trim().TrimEnd("kB "), CultureInfo.InvariantCulture) * 1024;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            // No /proc in this sandbox: the runtime's own number has to do.
        }

        return null;
    }
}

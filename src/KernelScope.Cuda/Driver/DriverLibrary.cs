namespace KernelScope.Cuda.Driver;

/// <summary>Where the library of the NVIDIA driver lies.</summary>
internal static class DriverLibrary
{
    /// <summary>Its usual name, of which messages speak.</summary>
    public static string UsualName(bool windows) => windows ? "nvcuda.dll" : "libcuda.so.1";

    /// <summary>
    /// What is tried, in this order: names that the system's loader finds, then the folders of WSL, of container hosts, and of CUDA's
    /// forward compatibility, which is last because it may be newer than
    /// the driver of the system.
    /// </summary>
    public static IReadOnlyList<string> Candidates(bool windows) => windows
        ? [UsualName(windows)]
        : [UsualName(windows), "libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1",
        "/usr/local/cuda/compat/libcuda.so.1"];

    /// <summary>The first file that can be loaded, and its handle; 0: none.</summary>
    /// <param name="windows">Whether this is Windows.</param>
    /// <param name="load">Loads a file; 0: it is not there.</param>
    public static (string File, nint Handle) Find(bool windows, Func<string, nint> load)
    {
        foreach (string file in Candidates(windows))
        {
            nint handle = load(file);
            if (handle != 0)
                return (file, handle);
        }

        return (UsualName(windows), 0);
    }

    /// <summary>What a user is told where there is none.</summary>
    public static string Missing(bool windows) => windows
        ? $"There is no NVIDIA driver on this machine: {UsualName(windows)} is not installed."
        : $"There is no NVIDIA driver on this machine: {UsualName(windows)} is not installed. If it lies in a folder of its own, name " +
        "that folder in LD_LIBRARY_PATH.";
}

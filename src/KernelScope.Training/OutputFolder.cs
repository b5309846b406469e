using KernelScope.Files;

namespace KernelScope.Training;

/// <summary>A folder that files are written to.</summary>
internal static class OutputFolder
{
    /// <summary>Makes it, and those above it, where they are missing.</summary>
    /// <exception cref="IOException">It cannot be made; the message says why.</exception>
    public static void Create(string path)
    {
        try
        {
            Directory.CreateDirectory(path);
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            throw new IOException($"{BadFile.Printable(path, 4096)}: the folder cannot be made " +
                $"({BadFile.Printable(AtomicFile.Reason(e), 300)}).", e);
        }
    }
}

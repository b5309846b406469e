using KernelScope.Files;

namespace KernelScope.Training;

/// <summary>A folder or file that is written; what goes wrong is one sentence that names it.</summary>
internal static class OutputPlace
{
    /// <summary>Makes a folder, and those above it, where they are missing.</summary>
    /// <exception cref="IOException">It cannot be made; the message says why.</exception>
    public static void CreateFolder(string path)
    {
        try
        {
            Directory.CreateDirectory(path);
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            throw Failed(path, "folder cannot be made", e);
        }
    }

    /// <summary>That a file cannot be written, and why.</summary>
    public static IOException NotWritten(string path, Exception e) => Failed(path, "file cannot be written", e);

    private static IOException Failed(string path, string what, Exception e) =>
        new($"{BadFile.Printable(path, 4096)}: the {what} ({BadFile.Printable(AtomicFile.Reason(e), 300)}).", e);
}

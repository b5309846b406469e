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

    /// <summary>Whether writing failed for a reason that other files there meet, too: no room, no permission.</summary>
    public static bool ConcernsAllFiles(Exception e)
    {
        // ENOSPC, EROFS and EDQUOT (of Linux, of macOS); ERROR_DISK_FULL and ERROR_HANDLE_DISK_FULL.
        const int NoSpace = 28, ReadOnly = 30, Quota = 122, MacQuota = 69, Full = unchecked((int)0x80070070),
            HandleFull = unchecked((int)0x80070027);
        for (Exception? cause = e; cause is not null; cause = cause.InnerException)
        {
            if (cause is UnauthorizedAccessException || (cause is IOException
                && cause.HResult is NoSpace or ReadOnly or Quota or MacQuota or Full or HandleFull))
                return true;
        }

        return false;
    }

    private static IOException Failed(string path, string what, Exception e) =>
        new($"{BadFile.Printable(path, 4096)}: the {what} ({BadFile.Printable(AtomicFile.Reason(e), 300)}).", e);
}

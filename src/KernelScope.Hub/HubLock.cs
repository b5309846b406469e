namespace KernelScope.Hub;

/// <summary>
/// A lock of one blob between processes, where the hub's own library has it (.locks/ENTRY/ETAG.lock): on Unix both lock with flock, so they exclude each other. The file stays;
/// deleting it would let a third come between.
/// </summary>
internal static class HubLock
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(100);

    /// <summary>Waits for the lock; disposing gives it back.</summary>
    public static async Task<IDisposable> AcquireAsync(string path, Action onWait, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        // A link would be opened, and made, wherever it leads.
        if (new FileInfo(path).LinkTarget is not null)
            File.Delete(path);
        for (bool first = true; ; first = false)
        {
            cancellationToken.ThrowIfCancellationRequested();
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 1);
            }
            catch (IOException e) when (IsTaken(e))
            {
                if (first)
                    onWait();
            }

            await Task.Delay(Interval, cancellationToken).ConfigureAwait(false);
        }
    }

    // ERROR_SHARING_VIOLATION on Windows; EWOULDBLOCK of Linux and of macOS.
    private static bool IsTaken(IOException e) => (e.HResult & 0xFFFF) is 32 || e.HResult is 11 or 35;
}

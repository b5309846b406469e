namespace KernelScope.Files;

/// <summary>
/// A file that appears whole or not at all: written under a temporary name beside its place, flushed to the disk, then renamed over what was there.
/// Disposed without <see cref="Commit"/> (an error, a cancellation) it leaves nothing behind.
/// </summary>
/// <remarks>For one caller at a time.</remarks>
public sealed class AtomicFile : IDisposable
{
    private readonly string _temporary;
    private bool _committed;

    private AtomicFile(string path, string temporary, FileStream stream)
    {
        Path = path;
        _temporary = temporary;
        Stream = stream;
    }

    /// <summary>Where the file will be.</summary>
    public string Path { get; }

    /// <summary>What to write to; it can seek.</summary>
    public FileStream Stream { get; }

    /// <summary>Starts a file. A link is followed: the file it points to is replaced, the link stays.</summary>
    /// <exception cref="IOException">It cannot be written there; the message says why.</exception>
    public static AtomicFile Create(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        try
        {
            var given = new FileInfo(path);
            string target = given.LinkTarget is null ? given.FullName : given.ResolveLinkTarget(returnFinalTarget: true)!.FullName;
            if (Directory.Exists(target)) throw new IOException("it is a folder");
            if (IsDevice(target)) throw new IOException("it is a device; a regular file is needed");
            string temporary = $"{target}.{System.IO.Path.GetRandomFileName()}.tmp";
            return new AtomicFile(target, temporary, new FileStream(temporary, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1 << 16));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw Failed(path, e);
        }
    }

    /// <summary>Flushes to the disk and gives the file its name; the stream is then closed.</summary>
    /// <exception cref="IOException">It cannot be written; the message says why.</exception>
    public void Commit()
    {
        try
        {
            Stream.Flush(flushToDisk: true);
            Stream.Dispose();
            File.Move(_temporary, Path, overwrite: true);
            _committed = true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failed(Path, e);
        }
    }

    /// <summary>Closes the file and, without a commit, deletes it.</summary>
    public void Dispose()
    {
        if (_committed) return;
        try
        {
            Stream.Dispose();
        }
        catch (IOException)
        {
            // A full disk shows again when the buffer is flushed on closing; the file goes anyway, and the first error is the one to see.
        }
        File.Delete(_temporary);
        _committed = true;
    }

    // Renaming over a device or a pipe would replace it; /dev/shm is an ordinary place.
    private static bool IsDevice(string target) => !OperatingSystem.IsWindows() && !target.StartsWith("/dev/shm/", StringComparison.Ordinal)
        && (target.StartsWith("/dev/", StringComparison.Ordinal) || target.StartsWith("/proc/", StringComparison.Ordinal));

    private static IOException Failed(string path, Exception e) => new($"{BadFile.Printable(path, 4096)}: the file cannot be written ({BadFile.Printable(e.Message.TrimEnd('.'), 300)}).", e);
}

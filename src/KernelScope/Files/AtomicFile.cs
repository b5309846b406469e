namespace KernelScope.Files;

/// <summary>
/// A file that appears whole or not at all: written under a temporary name beside its place, flushed to the disk, then renamed over what was there.
/// Disposed without <see cref="Commit"/> (an error, a cancellation) it leaves nothing behind; what a killed process left, the next one that writes the same file removes.
/// </summary>
/// <remarks>For one thread at a time.</remarks>
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

    /// <summary>What to write to; it can seek. What goes wrong there is an <see cref="IOException"/> that names the file.</summary>
    public FileStream Stream { get; }

    /// <summary>Starts a file. A link is followed: the file it points to is replaced, the link stays.</summary>
    /// <exception cref="IOException">It cannot be written there, or a pipe or a device is there, which would be replaced by a file; the message says why.</exception>
    public static AtomicFile Create(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        try
        {
            return CreateAt(path, FilePlace.TargetOf(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw Failed(path, e);
        }
    }

    /// <summary>The same where a link must not be followed: it is replaced itself.</summary>
    /// <exception cref="IOException">It cannot be written there; the message says why.</exception>
    internal static AtomicFile Replacing(string path)
    {
        try
        {
            return CreateAt(path, System.IO.Path.GetFullPath(path));
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
        catch (Exception e) when (e is UnauthorizedAccessException or (IOException and not NamedException))
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

    private static AtomicFile CreateAt(string path, string target)
    {
        if (Directory.Exists(target)) throw new IOException("it is a folder");
        if (OddKind(path, target) is string kind) throw new IOException($"it is {kind}; a regular file is needed");
        TemporaryName.Sweep(target);
        string temporary = TemporaryName.For(target);
        return new AtomicFile(target, temporary, new NamedStream(target, temporary));
    }

    // Renaming over a device or a pipe would replace it; /dev/shm is an ordinary place.
    private static string? OddKind(string path, string target)
    {
        if (OperatingSystem.IsWindows()) return null;
        if (FileStatus.Of(path)?.OddKind is string kind) return kind;
        bool special = target.StartsWith("/dev/", StringComparison.Ordinal) || target.StartsWith("/proc/", StringComparison.Ordinal);
        return special && !target.StartsWith("/dev/shm/", StringComparison.Ordinal) ? "a device" : null;
    }

    private static NamedException Failed(string path, Exception e) => e as NamedException
        ?? new($"{BadFile.Printable(path, 4096)}: the file cannot be written ({BadFile.Printable(e.Message.TrimEnd('.'), 300)}).", e);

    /// <summary>A failure whose message names the file.</summary>
    private sealed class NamedException(string message, Exception inner) : IOException(message, inner);

    /// <summary>A stream whose failures name the file that is being written, not the temporary one or none.</summary>
    private sealed class NamedStream(string target, string temporary) : FileStream(temporary, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1 << 16)
    {
        public override void Write(ReadOnlySpan<byte> buffer)
        {
            try
            {
                base.Write(buffer);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw Failed(target, e);
            }
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void WriteByte(byte value) => Write([value]);

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            try
            {
                await base.WriteAsync(buffer, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw Failed(target, e);
            }
        }

        public override void Flush(bool flushToDisk)
        {
            try
            {
                base.Flush(flushToDisk);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw Failed(target, e);
            }
        }

        // Either writes what is buffered.
        public override long Position
        {
            get => base.Position;
            set => Seek(value, SeekOrigin.Begin);
        }

        public override long Seek(long offset, SeekOrigin origin)
        {
            try
            {
                return base.Seek(offset, origin);
            }
            catch (IOException e)
            {
                throw Failed(target, e);
            }
        }
    }
}

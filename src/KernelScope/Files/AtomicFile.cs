namespace KernelScope.Files;

/// <summary>
/// A file that appears whole or not at all: written under a temporary name beside its place, flushed to the disk, then renamed over what was there.
/// Disposed without <see cref="Commit"/> (an error, a cancellation) it leaves nothing behind; what a killed process left, the next one that writes the same file removes.
/// </summary>
/// <remarks>For one caller at a time.</remarks>
internal sealed class AtomicFile : IDisposable
{
    private readonly string _temporary;
    private readonly FileStream _file;
    private bool _committed;

    private AtomicFile(string path, string temporary)
    {
        Path = path;
        _temporary = temporary;
        _file = new FileStream(temporary, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, 1 << 16);
        Stream = new NamedStream(path, _file);
    }

    /// <summary>Where the file will be.</summary>
    public string Path { get; }

    /// <summary>What to write to; it can seek. What goes wrong there is an <see cref="IOException"/> that names the file.</summary>
    public Stream Stream { get; }

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
            _file.Flush(flushToDisk: true);
            _file.Dispose();
            File.Move(_temporary, Path, overwrite: true);
            _committed = true;
        }
        catch (Exception e) when (IsFailure(e))
        {
            throw Failed(Path, Named(e, _temporary, Path));
        }
    }

    /// <summary>Closes the file and, without a commit, deletes it.</summary>
    public void Dispose()
    {
        if (_committed)
            return;
        try
        {
            _file.Dispose();
        }
        catch (Exception e) when (IsFailure(e))
        {
            // A full disk shows again when the buffer is flushed on closing; the file goes anyway, and the first error is the one to see.
        }
        File.Delete(_temporary);
        _committed = true;
    }

    private static AtomicFile CreateAt(string path, string target)
    {
        if (Directory.Exists(target))
            throw new IOException("it is a folder");
        if (OddKind(path, target) is string kind)
            throw new IOException($"it is {kind}; a regular file is needed");
        TemporaryName.Sweep(target);
        string temporary = TemporaryName.For(target);
        try
        {
            return new AtomicFile(target, temporary);
        }
        catch (DirectoryNotFoundException e)
        {
            string place = new FileInfo(path).LinkTarget is null ? path : target;
            throw new IOException($"there is no folder '{System.IO.Path.GetDirectoryName(place)}'", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Named(e, temporary, target);
        }
    }

    /// <summary>The same failure, of the file that was asked for: nobody knows the temporary one.</summary>
    internal static IOException Named(Exception e, string temporary, string target) =>
        new(Reason(e).Replace(System.IO.Path.GetFullPath(temporary), target, StringComparison.Ordinal), e);

    // Renaming over a device or a pipe would replace it; /dev/shm is an ordinary place.
    private static string? OddKind(string path, string target)
    {
        if (OperatingSystem.IsWindows())
            return null;
        if (FileStatus.Of(path)?.OddKind is string kind)
            return kind;
        bool special = target.StartsWith("/dev/", StringComparison.Ordinal) || target.StartsWith("/proc/", StringComparison.Ordinal);
        return special && !target.StartsWith("/dev/shm/", StringComparison.Ordinal) ? "a device" : null;
    }

    /// <summary>Whether an exception is what .NET makes of a file that cannot be written: one that would grow beyond a limit gets an <see cref="ArgumentOutOfRangeException"/>.</summary>
    internal static bool IsFailure(Exception e) => e is IOException or UnauthorizedAccessException or ArgumentOutOfRangeException;

    private static IOException Failed(string path, Exception e)
    {
        string place = $"{BadFile.Printable(path, 4096)}: the file cannot be written (";
        return e is IOException named && e.Message.StartsWith(place, StringComparison.Ordinal) ? named
            : new IOException($"{place}{BadFile.Printable(Reason(e), 300)}).", e);
    }

    // Without what .NET appends for programmers.
    internal static string Reason(Exception e) => e.Message.Split(" (Parameter '")[0].TrimEnd('.');

    /// <summary>A stream whose failures name the file that is being written, not the temporary one or none.</summary>
    private sealed class NamedStream(string target, FileStream inner) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => true;

        public override bool CanWrite => true;

        public override long Length => inner.Length;

        // A seek writes what is buffered.
        public override long Position
        {
            get => inner.Position;
            set => Named(() => inner.Position = value);
        }

        public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer, offset, count);

        public override int Read(Span<byte> buffer) => inner.Read(buffer);

        public override long Seek(long offset, SeekOrigin origin)
        {
            Named(() => inner.Seek(offset, origin));
            return inner.Position;
        }

        public override void SetLength(long value) => Named(() => inner.SetLength(value));

        public override void Flush() => Named(inner.Flush);

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            try
            {
                inner.Write(buffer);
            }
            catch (Exception e) when (IsFailure(e))
            {
                throw Failed(target, AtomicFile.Named(e, inner.Name, target));
            }
        }

        private void Named(Action action)
        {
            try
            {
                action();
            }
            catch (Exception e) when (IsFailure(e))
            {
                throw Failed(target, AtomicFile.Named(e, inner.Name, target));
            }
        }
    }
}

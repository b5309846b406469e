using System.Buffers;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>A file of a run: its length and its hash.</summary>
/// <param name="Bytes">Length.</param>
/// <param name="Sha256">SHA-256 in hexadecimal.</param>
internal sealed record StoredFile(long Bytes, string Sha256);

/// <summary>Two workers made different bytes of one file. The first stays.</summary>
internal sealed class ShardConflictException(string message, string path, StoredFile found, StoredFile made) : IOException(message)
{
    /// <summary>The file.</summary>
    public string Path => path;

    /// <summary>What is there.</summary>
    public StoredFile Found => found;

    /// <summary>What was made.</summary>
    public StoredFile Made => made;
}

/// <summary>
/// A file that appears whole or not at all and never replaces another: written as <c>.tmp-worker-guid</c> in its folder, hashed as it
/// is written, flushed to the disk, then renamed.
/// Where the name is taken, equal contents are fine and different ones a conflict.
/// </summary>
internal sealed partial class PlacedFile : IDisposable
{
    private readonly string _temporary;
    private readonly FileStream _file;
    private readonly HashedStream _stream;
    private bool _done;

    private PlacedFile(string path, string temporary)
    {
        Path = path;
        _temporary = temporary;
        _file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 1);
        _stream = new HashedStream(path, _file);
    }

    /// <summary>Where it will be.</summary>
    public string Path { get; }

    /// <summary>What to write to, from the beginning to the end.</summary>
    public Stream Stream => _stream;

    /// <summary>Starts a file; its folder is made.</summary>
    /// <exception cref="IOException">It cannot be written there; the message says why.</exception>
    public static PlacedFile Create(string path)
    {
        try
        {
            string folder = System.IO.Path.GetDirectoryName(path)!;
            Directory.CreateDirectory(folder);
            return new PlacedFile(path, System.IO.Path.Combine(folder, WorkerName.Temporary()));
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            throw OutputPlace.NotWritten(path, e);
        }
    }

    /// <summary>A small file from its bytes.</summary>
    /// <exception cref="IOException">It cannot be written; the message says why.</exception>
    /// <exception cref="ShardConflictException">There is another with other bytes.</exception>
    public static StoredFile Write(string path, ReadOnlySpan<byte> bytes)
    {
        using PlacedFile file = Create(path);
        file.Stream.Write(bytes);
        return file.Place();
    }

    /// <summary>Length and hash of a file that is there.</summary>
    /// <exception cref="InvalidDataException">It cannot be read.</exception>
    public static StoredFile Measure(string path, CancellationToken cancellationToken = default)
    {
        using RawFile file = RawFile.Open(path);
        return new StoredFile(file.Length, HashOf(file, cancellationToken));
    }

    /// <summary>SHA-256 of a file's bytes.</summary>
    public static string HashOf(RawFile file, CancellationToken cancellationToken = default)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        // Pages that are touched for the first time take longer than the hash of what is read into them.
        byte[] piece = ArrayPool<byte>.Shared.Rent(1 << 18);
        for (long at = 0; at < file.Length; at += piece.Length)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Span<byte> part = piece.AsSpan(0, (int)Math.Min(piece.Length, file.Length - at));
            file.Read(at, part);
            hash.AppendData(part);
        }

        ArrayPool<byte>.Shared.Return(piece);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Flushes to the disk and gives the file its name.</summary>
    /// <exception cref="IOException">It cannot be written; the message says why.</exception>
    /// <exception cref="ShardConflictException">There is another with other bytes.</exception>
    public StoredFile Place()
    {
        var made = new StoredFile(_stream.Written, _stream.Hash());
        try
        {
            _file.Flush(flushToDisk: true);
            _file.Dispose();
            // A link cannot replace: this is how .NET moves without overwriting.
            if (!File.Exists(Path) && TryMove())
                FlushFolder(System.IO.Path.GetDirectoryName(Path)!);
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            throw OutputPlace.NotWritten(Path, AtomicFile.Named(e, _temporary, Path));
        }

        if (_done)
            return made;
        StoredFile found = Measure(Path);
        return found == made ? made
            : throw new ShardConflictException($"{BadFile.Printable(Path, 4096)}: another worker made other bytes of this file (SHA-256 " +
                $"{found.Sha256[..12]}…, here {made.Sha256[..12]}…); " +
                "the first stays.", Path, found, made);
    }

    /// <summary>Without <see cref="Place"/>, removes what was written.</summary>
    public void Dispose()
    {
        if (_done)
            return;
        _done = true;
        try
        {
            _file.Dispose();
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            // A full disk shows again on closing; the first error is the one to see.
        }

        _stream.Dispose();
        File.Delete(_temporary);
    }

    private bool TryMove()
    {
        try
        {
            File.Move(_temporary, Path, overwrite: false);
            _stream.Dispose();
            return _done = true;
        }
        catch (IOException) when (File.Exists(Path))
        {
            // Somebody was faster.
            return false;
        }
    }

    /// <summary>A name is on the disk once its folder is. Windows does that by itself.</summary>
    private static void FlushFolder(string folder)
    {
        if (OperatingSystem.IsWindows())
            return;
        try
        {
            int descriptor = Open(folder, 0);
            if (descriptor < 0)
                return;
            _ = Flush(descriptor);
            _ = Close(descriptor);
        }
        catch (EntryPointNotFoundException)
        {
            // A C library without it: the file system decides.
        }
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync")]
    private static partial int Flush(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);

    /// <summary>Counts and hashes what goes through. Failures name the file that is being written.</summary>
    private sealed class HashedStream(string target, FileStream inner) : Stream
    {
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

        public long Written { get; private set; }

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => Written;

        public override long Position { get => Written; set => throw new NotSupportedException(); }

        public string Hash() => Convert.ToHexStringLower(_hash.GetCurrentHash());

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            try
            {
                inner.Write(buffer);
            }
            catch (Exception e) when (AtomicFile.IsFailure(e))
            {
                throw OutputPlace.NotWritten(target, AtomicFile.Named(e, inner.Name, target));
            }

            _hash.AppendData(buffer);
            Written += buffer.Length;
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Flush() => inner.Flush();

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
                _hash.Dispose();
            base.Dispose(disposing);
        }
    }
}

using System.IO.MemoryMappedFiles;
using KernelScope.Numerics;
using Microsoft.Win32.SafeHandles;

namespace KernelScope.Files;

/// <summary>
/// A regular file, open for reading: positional reads for headers and checks, a mapping of the whole for weights, or a copy in memory where that was asked for.
/// Everything that the operating system may say of a path ends here as an <see cref="InvalidDataException"/> with one sentence.
/// </summary>
internal sealed unsafe class RawFile : IDisposable
{
    private readonly SafeFileHandle? _handle;
    private readonly byte* _memory;
    private readonly bool _intoMemory;
    private NativeBuffer? _copy;
    private MemoryMappedFile? _map;
    private MemoryMappedViewAccessor? _view;

    private RawFile(string path, SafeFileHandle handle, long length, bool intoMemory)
    {
        _intoMemory = intoMemory;
        Path = path;
        _handle = handle;
        Length = length;
    }

    private RawFile(string name, byte* memory, long length)
    {
        Path = name;
        _memory = memory;
        Length = length;
    }

    public string Path { get; }

    /// <summary>Bytes, as of opening.</summary>
    public long Length { get; }

    /// <summary>When the file was last written, as of opening; null for bytes that lie in memory.</summary>
    public DateTime? LastWrite { get; private init; }

    /// <summary>Opens a file that has at least one byte.</summary>
    /// <param name="path">Where.</param>
    /// <param name="intoMemory">Whether <see cref="Map"/> reads the file into memory: what becomes of it afterwards then does not matter.</param>
    public static RawFile Open(string path, bool intoMemory = false)
    {
        // Size first: a pipe or a device has none, and opening a pipe would wait for a writer.
        if (SizeOf(path) == 0)
            throw BadFile.At(path, "the file is empty, or it is not a regular file (a pipe, a device).");
        SafeFileHandle? handle = null;
        try
        {
            handle = File.OpenHandle(path);
            var file = new RawFile(path, handle, RandomAccess.GetLength(handle), intoMemory)
            {
                LastWrite = File.GetLastWriteTimeUtc(handle),
            };
            file.RefuseGitLfsPointer();
            return file;
        }
        catch (InvalidDataException)
        {
            handle?.Dispose();
            throw;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            handle?.Dispose();
            throw BadFile.At(path, Reason(e), e);
        }
    }

    /// <summary>Bytes that lie in memory already, such as an embedded resource, under a name that messages call it. They must outlive everything that reads them.</summary>
    public static RawFile OfMemory(string name, byte* first, long length) => new(name, first, length);

    /// <summary>Whether something of that name is there, a link that leads nowhere included.</summary>
    public static bool IsThere(string path) =>
        IsPath(path) && (File.Exists(path) || Directory.Exists(path) || new FileInfo(path).LinkTarget is not null);

    /// <summary>The whole of a small file.</summary>
    public static byte[] ReadAll(string path, int maxLength)
    {
        using RawFile file = Open(path);
        if (file.Length > maxLength)
            throw BadFile.At(path, $"the file has {file.Length} bytes, more than a file of this kind can have ({maxLength}).");
        byte[] bytes = new byte[file.Length];
        file.Read(0, bytes);
        return bytes;
    }

    /// <summary>Fills <paramref name="destination"/> from <paramref name="offset"/> on.</summary>
    public void Read(long offset, Span<byte> destination)
    {
        if (_handle is null)
        {
            CopyFromMemory(offset, destination);
            return;
        }
        try
        {
            while (!destination.IsEmpty)
            {
                int read = RandomAccess.Read(_handle, destination, offset);
                if (read == 0)
                    throw BadFile.At(Path, $"the file ended at byte {offset}: it was shortened while it was read.");
                destination = destination[read..];
                offset += read;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw BadFile.At(Path, Reason(e), e);
        }
    }

    /// <summary>What the system says of the file now; null for bytes in memory, and where the system says no more than <see cref="LastWrite"/>.</summary>
    public FileStatus? Status => _handle is null ? null : FileStatus.Of(_handle);

    /// <summary>Has everything that was stored into the file written to the disk. After that each store through somebody's mapping moves the file's time; before, a page that waits to be written takes more without a trace.</summary>
    public void Flush()
    {
        try
        {
            if (_handle is not null)
                RandomAccess.FlushToDisk(_handle);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A file that may only be read (Windows), or a file system that cannot.
        }
    }

    /// <summary>Maps the file, once, and gives its first byte; valid until disposal.</summary>
    public byte* Map()
    {
        if (_handle is null)
            return _memory;
        if (_intoMemory)
            return (_copy ??= ReadWhole()).Pointer;
        try
        {
            if (_view is null)
            {
                _map = MemoryMappedFile.CreateFromFile(_handle, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None,
                    leaveOpen: true);
                _view = _map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
                LargePages.Want((void*)_view.SafeMemoryMappedViewHandle.DangerousGetHandle(), Length);
            }
            if (RandomAccess.GetLength(_handle) < Length || _view.Capacity < Length)
                throw BadFile.At(Path, "the file was shortened while it was opened.");
            byte* pointer = null;
            _view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            return pointer + _view.PointerOffset;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw BadFile.At(Path, $"the file cannot be mapped into memory; {Reason(e)}", e);
        }
    }

    public void Dispose()
    {
        _copy?.Dispose();
        _view?.Dispose();
        _map?.Dispose();
        _handle?.Dispose();
    }

    private NativeBuffer ReadWhole()
    {
        const int PieceBytes = 1 << 28;
        NativeBuffer copy = NativeBuffer.TryCreate(Length)
            ?? throw BadFile.At(Path, $"the file has {Length} bytes, and there is not so much memory to read it into.");
        try
        {
            for (long at = 0; at < Length; at += PieceBytes)
                Read(at, new Span<byte>(copy.Pointer + at, (int)Math.Min(PieceBytes, Length - at)));
            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    private void CopyFromMemory(long offset, Span<byte> destination)
    {
        if (offset < 0 || offset > Length - destination.Length)
            throw BadFile.At(Path, $"it ended at byte {Length}.");
        new ReadOnlySpan<byte>(_memory + offset, destination.Length).CopyTo(destination);
    }

    // The commonest broken weight file: the small text that Git LFS leaves where the large file should be.
    private void RefuseGitLfsPointer()
    {
        ReadOnlySpan<byte> mark = "version https://git-lfs"u8;
        if (Length < mark.Length || Length > 1024)
            return;
        Span<byte> start = stackalloc byte[mark.Length];
        Read(0, start);
        if (start.SequenceEqual(mark))
            throw BadFile.At(Path, "this is a Git LFS pointer, not the file itself; 'git lfs pull' fetches the file.");
    }

    private static long SizeOf(string path)
    {
        if (!IsPath(path))
            throw BadFile.At(path, "this is not a path.");
        try
        {
            if (Directory.Exists(path))
                throw BadFile.At(path, "this is a folder; a file was expected.");
            var file = new FileInfo(path);
            if (file.LinkTarget is string link)
            {
                // The length of a link is that of its text; the target's is wanted.
                return file.ResolveLinkTarget(returnFinalTarget: true) is FileInfo { Exists: true } target ? target.Length
                    : throw BadFile.At(path, $"this is a link to {BadFile.Quote(link)}, which does not exist.");
            }
            if (!file.Exists)
                throw BadFile.At(path, "there is no such file.");
            return file.Length;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw BadFile.At(path, Reason(e), e);
        }
    }

    private static bool IsPath(string path) => path.Length > 0 && !path.Contains('\0', StringComparison.Ordinal);

    private static string Reason(Exception e) => e switch
    {
        FileNotFoundException or DirectoryNotFoundException => "there is no such file.",
        PathTooLongException => "the path is too long.",
        UnauthorizedAccessException => "the file may not be read (permission denied).",
        _ => "the file cannot be read: " + BadFile.Printable(e.Message, 200),
    };
}

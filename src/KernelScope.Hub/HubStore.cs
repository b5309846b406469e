using System.Globalization;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Hub;

/// <summary>One repository's entry in a cache: models--owner--name with blobs/, snapshots/COMMIT/ and refs/, as the hub's own library lays it out and reads it.</summary>
internal sealed class HubStore
{
    private const int MostNoteBytes = 1 << 16;
    private readonly HubOptions _options;
    private readonly string _name, _entry;

    public HubStore(HubOptions options, string repository)
    {
        _options = options;
        _name = HubCache.EntryName(repository)
            ?? throw new ArgumentException($"{BadFile.Quote(repository)} is not a hub id; one is like google/gemma-2-2b.",
            nameof(repository));
        _entry = Path.Combine(options.CacheRoot, _name);
    }

    public string BlobPath(HubFileHead head) => Path.Combine(_entry, "blobs", head.Etag);

    public string LockPath(HubFileHead head) => Path.Combine(_options.CacheRoot, ".locks", _name, head.Etag + ".lock");

    public string SnapshotPath(string commit) => Path.Combine(_entry, "snapshots", commit);

    public string FilePath(HubFileHead head) => Path.Combine(SnapshotPath(head.Commit), head.Name);

    /// <summary>Whether the snapshot has the file already: as a link to its blob, or of the right size where links cannot be made.</summary>
    public bool Has(HubFileHead head)
    {
        string path = FilePath(head);
        return new FileInfo(path).LinkTarget is string target
            ? Path.GetFullPath(target, Path.GetDirectoryName(path)!) == BlobPath(head) && HasBlob(head)
            : File.Exists(path) && new FileInfo(path).Length == head.Size;
    }

    /// <summary>Whether the snapshot's file is a link.</summary>
    public bool IsLink(HubFileHead head) => new FileInfo(FilePath(head)).LinkTarget is not null;

    /// <summary>Whether the blob is there, a file of the right size.</summary>
    public bool HasBlob(HubFileHead head) =>
        new FileInfo(BlobPath(head)) is { Exists: true, LinkTarget: null } file && file.Length == head.Size;

    /// <summary>Whether the blob, and the snapshot's copy where there is one, are as they were when their bytes were last compared with the checksum.</summary>
    public bool IsChecked(HubFileHead head)
    {
        string note = NotePath(head);
        if (new FileInfo(note) is not { Exists: true, LinkTarget: null, Length: > 0 and < MostNoteBytes })
            return false;
        string[] known = Encoding.UTF8.GetString(RawFile.ReadAll(note, MostNoteBytes)).Split('\n');
        return Checkable(head).All(path => known.Contains(Note(path), StringComparer.Ordinal));
    }

    /// <summary>Notes that the bytes of blob and copy are right.</summary>
    public void NoteChecked(HubFileHead head)
    {
        using var file = AtomicFile.Replacing(NotePath(head));
        file.Stream.Write(Encoding.UTF8.GetBytes(string.Join('\n', Checkable(head).Select(Note))));
        file.Commit();
    }

    /// <summary>Compares a file's bytes with the checksum.</summary>
    public static bool IsRight(string path, HubFileHead head, Action<long> report, CancellationToken cancellationToken)
    {
        using var hash = new HubHash(head.Etag, head.Size);
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        byte[] buffer = new byte[1 << 20];
        long done = 0;
        for (int read; (read = stream.Read(buffer)) > 0;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            hash.Append(buffer.AsSpan(0, read));
            report(done += read);
        }

        return done == head.Size && hash.Finish() == head.Etag;
    }

    /// <summary>Refuses a cache in which a folder that is written to is a link: what is behind it is not the cache's.</summary>
    /// <exception cref="HubException">There is one.</exception>
    public void RequireNoLinks(IEnumerable<HubFileHead> heads, string revision)
    {
        IEnumerable<string> folders = heads.Select(h => Path.GetDirectoryName(FilePath(h))!)
            .Concat([Path.Combine(_entry, "blobs"), Path.GetDirectoryName(Path.Combine(_entry, "refs", revision))!,
                Path.Combine(_options.CacheRoot, ".locks", _name)]);
        foreach (string folder in folders.Distinct(StringComparer.Ordinal))
        {
            for (string part = folder; part.Length > _options.CacheRoot.Length; part = Path.GetDirectoryName(part)!)
            {
                if (new FileInfo(part).LinkTarget is string target)
                    throw new HubException(
                        $"{BadFile.Printable(part, 4096)}: this is a link to {BadFile.Quote(target)}, and nothing is written through a "
                            + "link in a cache; remove it, or choose another cache (--cache, HF_HUB_CACHE).");
            }
        }
    }

    /// <summary>Puts a blob into the snapshot: a relative link, or where links cannot be made the file itself.</summary>
    public void Place(HubFileHead head)
    {
        string path = FilePath(head), folder = Path.GetDirectoryName(path)!, temporary = TemporaryName.For(path);
        Directory.CreateDirectory(folder);
        TemporaryName.Sweep(path);
        if (!TryLink(temporary, Path.GetRelativePath(folder, BlobPath(head))))
            File.Copy(BlobPath(head), temporary, overwrite: true);
        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Notes which commit a branch or tag is. Last of all, so that nobody finds a snapshot that is not whole.</summary>
    public void WriteReference(string revision, string commit)
    {
        if (revision == commit)
            return;
        string path = Path.Combine(_entry, "refs", revision);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using var file = AtomicFile.Replacing(path);
        file.Stream.Write(Encoding.ASCII.GetBytes(commit));
        file.Commit();
    }

    /// <summary>Refuses a download for which there is no room.</summary>
    /// <returns>Bytes that are to be written.</returns>
    /// <exception cref="HubException">There is none.</exception>
    public Int128 RequireRoom(IEnumerable<HubFileHead> heads, string repository)
    {
        // What else the disk is used for meanwhile, and the file system's own needs.
        const long Margin = 64L << 20;
        Directory.CreateDirectory(Path.Combine(_entry, "blobs"));
        // In Int128: the sizes are a server's.
        Int128 missing = 0;
        foreach (HubFileHead head in heads.DistinctBy(h => h.Etag))
            missing += Missing(head);
        if (missing > 0 && FreeSpace(_entry) is long free && free < missing + Margin)
            throw new HubException(
                $"{repository}: {missing} bytes are to be written, but the disk of {BadFile.Printable(_options.CacheRoot, 4096)} has "
                    + $"{free} free; make room, or choose another cache (--cache, HF_HUB_CACHE).");
        return missing;
    }

    // Beside the locks: the hub's own library takes everything else in an entry for something of its own.
    private string NotePath(HubFileHead head) => Path.Combine(_options.CacheRoot, ".locks", _name, head.Etag + ".checked");

    private IEnumerable<string> Checkable(HubFileHead head) =>
        new FileInfo(FilePath(head)).LinkTarget is null ? [BlobPath(head), FilePath(head)] : [BlobPath(head)];

    private string Note(string path)
    {
        FileStatus? status = FileStatus.Of(path);
        var file = new FileInfo(path);
        (long length, long modified, long changed) = status is FileStatus s ? (s.Length, s.Modified, s.Changed)
            : file.Exists ? (file.Length, file.LastWriteTimeUtc.Ticks, 0) : (-1, 0, 0);
        return string.Create(CultureInfo.InvariantCulture, $"{length} {modified} {changed} {Path.GetRelativePath(_entry, path)}");
    }

    // A copy in the snapshot needs the blob's room once more.
    private Int128 Missing(HubFileHead head)
    {
        if (Has(head))
            return 0;
        Int128 blob = HasBlob(head) ? 0 : head.Size - Math.Min(head.Size, HubTransfer.LengthOf(BlobPath(head)));
        return _options.UseLinks ? blob : blob + head.Size;
    }

    private bool TryLink(string path, string target)
    {
        if (!_options.UseLinks)
            return false;
        try
        {
            File.CreateSymbolicLink(path, target);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or PlatformNotSupportedException)
        {
            return false;
        }
    }

    private static long? FreeSpace(string folder)
    {
        try
        {
            return new DriveInfo(OperatingSystem.IsWindows() ? Path.GetPathRoot(folder)! : folder).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }
}

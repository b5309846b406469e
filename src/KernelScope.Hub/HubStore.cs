using System.Text;
using KernelScope.Files;

namespace KernelScope.Hub;

/// <summary>One repository's entry in a cache: models--owner--name with blobs/, snapshots/COMMIT/ and refs/, as the hub's own library lays it out and reads it.</summary>
internal sealed class HubStore
{
    private readonly HubOptions _options;
    private readonly string _name, _entry;

    public HubStore(HubOptions options, string repository)
    {
        _options = options;
        _name = HubCache.EntryName(repository) ?? throw new ArgumentException($"{BadFile.Quote(repository)} is no hub id; one is like google/gemma-2-2b.", nameof(repository));
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

    /// <summary>Whether the blob is there. Its name is its checksum, which was checked when it got the name.</summary>
    public bool HasBlob(HubFileHead head) => new FileInfo(BlobPath(head)) is { Exists: true } file && file.Length == head.Size;

    /// <summary>Puts a blob into the snapshot: a relative link, or where links cannot be made the file itself.</summary>
    public void Place(HubFileHead head)
    {
        string path = FilePath(head), folder = Path.GetDirectoryName(path)!, temporary = $"{path}.{Path.GetRandomFileName()}.tmp";
        Directory.CreateDirectory(folder);
        if (!TryLink(temporary, Path.GetRelativePath(folder, BlobPath(head)))) File.Copy(BlobPath(head), temporary, overwrite: true);
        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Notes which commit a branch or tag is. Last of all, so that nobody finds a snapshot that is not whole.</summary>
    public void WriteReference(string revision, string commit)
    {
        if (revision == commit) return;
        string path = Path.Combine(_entry, "refs", revision);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using AtomicFile file = AtomicFile.Create(path);
        file.Stream.Write(Encoding.ASCII.GetBytes(commit));
        file.Commit();
    }

    /// <summary>Refuses a download for which there is no room.</summary>
    /// <exception cref="HubException">There is none.</exception>
    public void RequireRoom(IEnumerable<HubFileHead> heads, string repository)
    {
        // What else the disk is used for meanwhile, and the file system's own needs.
        const long Margin = 64L << 20;
        Directory.CreateDirectory(Path.Combine(_entry, "blobs"));
        // In Int128: the sizes are a server's.
        Int128 missing = 0;
        foreach (HubFileHead head in heads.DistinctBy(h => h.Etag)) missing += Missing(head);
        if (missing > 0 && FreeSpace(_entry) is long free && free < missing + Margin)
            throw new HubException($"{repository}: {missing} bytes are to be written, but the disk of {BadFile.Printable(_options.CacheRoot, 4096)} has {free} free; make room, or choose another cache (--cache, HF_HUB_CACHE).");
    }

    // A copy in the snapshot needs the blob's room once more.
    private Int128 Missing(HubFileHead head)
    {
        if (Has(head)) return 0;
        Int128 blob = HasBlob(head) ? 0 : head.Size - Math.Min(head.Size, HubTransfer.LengthOf(BlobPath(head)));
        return _options.UseLinks ? blob : blob + head.Size;
    }

    private bool TryLink(string path, string target)
    {
        if (!_options.UseLinks) return false;
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

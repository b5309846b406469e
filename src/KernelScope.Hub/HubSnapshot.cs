namespace KernelScope.Hub;

/// <summary>How far a download is.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct HubProgress
{
    internal HubProgress(string file, HubStep step, long done, long total)
    {
        File = file;
        Step = step;
        Done = done;
        Total = total;
    }

    /// <summary>The file's path in the repository.</summary>
    public string File { get; init; }

    /// <summary>What is being done at the moment.</summary>
    public HubStep Step { get; init; }

    /// <summary>Bytes of it that are there.</summary>
    public long Done { get; init; }

    /// <summary>Bytes of the whole file.</summary>
    public long Total { get; init; }
}

/// <summary>What is being done for a file.</summary>
public enum HubStep
{
    /// <summary>Before the first file: the total of all files (the name is the repository's), and how much of it is there.</summary>
    Planned,
    /// <summary>Bytes that an earlier, interrupted download left, or that are in the cache, are read for the checksum.</summary>
    Rereading,
    /// <summary>Bytes arrive.</summary>
    Receiving,
    /// <summary>Another process downloads the same blob; it is waited for.</summary>
    Waiting,
    /// <summary>It is there, its size and checksum as the hub says.</summary>
    Done,
}

/// <summary>A file that is in the cache now.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record HubFile
{
    internal HubFile(string name, string path, long bytes, string blob, long received)
    {
        Name = name;
        Path = path;
        Bytes = bytes;
        Blob = blob;
        Received = received;
    }

    /// <summary>Its path in the repository.</summary>
    public string Name { get; init; }

    /// <summary>Where it is: a link in the snapshot, or the file itself where links cannot be made.</summary>
    public string Path { get; init; }

    /// <summary>Bytes of the file.</summary>
    public long Bytes { get; init; }

    /// <summary>Its checksum, the blob's name: SHA-256, or git's SHA-1 for a small file.</summary>
    public string Blob { get; init; }

    /// <summary>Bytes that were received for it now; 0 if it was there.</summary>
    public long Received { get; init; }
}

/// <summary>What a download brought.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record HubSnapshot
{
    internal HubSnapshot(string repository, string revision, string commit, string path, IReadOnlyList<HubFile> files)
    {
        Repository = repository;
        Revision = revision;
        Commit = commit;
        Path = path;
        Files = files;
    }

    /// <summary>The hub id, owner/name.</summary>
    public string Repository { get; init; }

    /// <summary>The branch, tag or commit that was asked for.</summary>
    public string Revision { get; init; }

    /// <summary>The commit that the revision stands for.</summary>
    public string Commit { get; init; }

    /// <summary>The snapshot's folder.</summary>
    public string Path { get; init; }

    /// <summary>The files, in the order in which they were wanted.</summary>
    public IReadOnlyList<HubFile> Files { get; init; }
}

/// <summary>What a repository holds at a commit.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record HubListing
{
    internal HubListing(string commit, IReadOnlyList<string> files)
    {
        Commit = commit;
        Files = files;
    }

    /// <summary>The commit that the revision stands for.</summary>
    public string Commit { get; init; }

    /// <summary>Paths of all files.</summary>
    public IReadOnlyList<string> Files { get; init; }
}

/// <summary>What the hub says of a file before its bytes.</summary>
internal sealed record HubFileHead(string Name, string Commit, string Etag, long Size);

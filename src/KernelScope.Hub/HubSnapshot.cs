namespace KernelScope.Hub;

/// <summary>How a download stands.</summary>
/// <param name="File">The file's path in the repository.</param>
/// <param name="Step">What is being done.</param>
/// <param name="Done">Bytes of it that are there.</param>
/// <param name="Total">Bytes that it has.</param>
public readonly record struct HubProgress(string File, HubStep Step, long Done, long Total);

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
/// <param name="Name">Its path in the repository.</param>
/// <param name="Path">Where it is: a link in the snapshot, or the file itself where links cannot be made.</param>
/// <param name="Bytes">Its size.</param>
/// <param name="Blob">Its checksum, the blob's name: SHA-256, or git's SHA-1 for a small file.</param>
/// <param name="Received">Bytes that were received for it now; 0 if it was there.</param>
public sealed record HubFile(string Name, string Path, long Bytes, string Blob, long Received);

/// <summary>What a download brought.</summary>
/// <param name="Repository">The hub id.</param>
/// <param name="Revision">What was asked for.</param>
/// <param name="Commit">What that is.</param>
/// <param name="Path">The snapshot's folder.</param>
/// <param name="Files">The files, in the order in which they were wanted.</param>
public sealed record HubSnapshot(string Repository, string Revision, string Commit, string Path, IReadOnlyList<HubFile> Files);

/// <summary>What a repository holds at a commit.</summary>
/// <param name="Commit">The commit.</param>
/// <param name="Files">Paths of all files.</param>
public sealed record HubListing(string Commit, IReadOnlyList<string> Files);

/// <summary>What the hub says of a file before its bytes.</summary>
internal sealed record HubFileHead(string Name, string Commit, string Etag, long Size);

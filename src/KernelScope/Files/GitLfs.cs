namespace KernelScope.Files;

/// <summary>Recognises the commonest broken weight file: the small text that Git LFS leaves where the large file should be.</summary>
internal static class GitLfs
{
    /// <summary>Throws, with advice, if the file is a pointer.</summary>
    public static void Refuse(RawFile file)
    {
        ReadOnlySpan<byte> mark = "version https://git-lfs"u8;
        Span<byte> start = stackalloc byte[mark.Length];
        if (file.Length < mark.Length || file.Length > 1024) return;
        file.Read(0, start);
        if (start.SequenceEqual(mark)) throw BadFile.Of(file.Path, "this is a Git LFS pointer, not the file itself; 'git lfs pull' fetches the file.");
    }
}

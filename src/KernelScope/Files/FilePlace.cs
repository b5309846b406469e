namespace KernelScope.Files;

/// <summary>Which entry of which folder a path names, once links are followed: what writing there would replace.</summary>
internal static class FilePlace
{
    /// <summary>The full path of what would be replaced. A link leads to its target, whether or not that is there.</summary>
    /// <exception cref="IOException">Links lead in a circle.</exception>
    public static string TargetOf(string path)
    {
        var given = new FileInfo(path);
        return given.LinkTarget is null ? given.FullName : given.ResolveLinkTarget(returnFinalTarget: true)!.FullName;
    }

    /// <summary>Whether writing to one path would replace what the other names.</summary>
    public static bool IsSame(string a, string b)
    {
        try
        {
            string one = TargetOf(a), other = TargetOf(b);
            StringComparison comparison = OperatingSystem.IsLinux() ? StringComparison.Ordinal : StringComparison.OrdinalIgnoreCase;
            if (!Path.GetFileName(one.AsSpan()).Equals(Path.GetFileName(other.AsSpan()), comparison))
                return false;
            string folder = Path.GetDirectoryName(one) ?? one, otherFolder = Path.GetDirectoryName(other) ?? other;
            // A folder may be reached by two paths.
            return folder.Equals(otherFolder, comparison)
                || (FileStatus.Of(folder) is FileStatus x && FileStatus.Of(otherFolder) is FileStatus y
                    && (x.Inode, x.Device) == (y.Inode, y.Device));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            // What cannot be followed cannot be written either; the sentence about that comes from there.
            return false;
        }
    }
}

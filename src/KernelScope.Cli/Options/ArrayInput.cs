namespace KernelScope.Cli;

/// <summary>A file of arrays that a verb names: it is read at any place, and a pipe only from its beginning.</summary>
internal static class ArrayInput
{
    private const int MostLinks = 40;

    /// <summary>Refuses standard input and pipes (<c>/dev/stdin</c>, <c>&lt;(…)</c>), and gives back any other path.</summary>
    /// <exception cref="WorkException">It is one.</exception>
    public static string Require(string path)
    {
        if (path == "-" || IsPipe(path))
            throw new WorkException($"{InputFile.NameOf(path)}: arrays cannot be read from a pipe; write them to a file, and name that.");
        return path;
    }

    private static bool IsPipe(string path)
    {
        try
        {
            string? at = path;
            for (int i = 0; i < MostLinks && !string.IsNullOrEmpty(at); i++)
            {
                string? target = new FileInfo(at).LinkTarget;
                if (target is not null && (target.StartsWith("pipe:[", StringComparison.Ordinal)
                    || target.StartsWith("socket:[", StringComparison.Ordinal)))
                    return true;
                at = target is null ? null : Path.Combine(Path.GetDirectoryName(Path.GetFullPath(at)) ?? "/", target);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            // Whoever opens the file has the sentence.
        }

        return false;
    }
}

using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>Says on standard error which files a verb wrote, and how large they are.</summary>
internal static class Written
{
    /// <param name="streams">Where.</param>
    /// <param name="paths">The files; null for an option that was not given. What is not a file (a pipe, /dev/null) has no size.</param>
    public static void Say(Streams streams, params ReadOnlySpan<string?> paths)
    {
        streams.Output.Flush();
        foreach (string? path in paths)
        {
            if (path is null)
                continue;
            // Of a link, the file that it leads to.
            long bytes = File.Exists(path) ? new FileInfo(FilePlace.TargetOf(path)).Length : 0;
            streams.Error.WriteLine($"Wrote {Printable.Escape(path)}{(bytes > 0 ? $" ({ByteText.Of(bytes)})" : "")}.");
        }
    }
}

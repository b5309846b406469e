using System.ComponentModel;
using System.Diagnostics;

namespace KernelScope.Bench.Models;

/// <summary>The system's copies of files in memory.</summary>
internal static class PageCache
{
    /// <summary>
    /// Has files leave it, so that they are read from the disk as after a restart of the machine. What a program has just written lies there in small pages, which cost whoever maps the file more than
    /// the large pages of a file that was read. Pages that a process has mapped stay. Without the program dd (GNU) nothing happens.
    /// </summary>
    public static void Drop(params ReadOnlySpan<string> files)
    {
        foreach (string file in files)
        {
            // Written to the disk first: only pages that are there can go.
            try
            {
                using Process dd = Process.Start("dd", [$"of={file}", "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
                dd.WaitForExit();
            }
            catch (Win32Exception)
            {
                return;
            }
        }
    }
}

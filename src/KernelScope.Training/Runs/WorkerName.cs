using System.Diagnostics;
using System.Globalization;

namespace KernelScope.Training.Runs;

/// <summary>Who writes: host and process, so that whoever finds an unfinished file can tell whether its writer still lives.</summary>
internal static class WorkerName
{
    private const string Prefix = ".tmp-";
    private static readonly TimeSpan DeadAfter = TimeSpan.FromDays(1);

    /// <summary>This host, with letters, digits, dots and underscores only.</summary>
    public static string Host { get; } = string.Concat(Environment.MachineName.Select(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_'
        ? c : '_')) is { Length: > 0 } name
        ? name[..Math.Min(name.Length, 64)] : "host";

    /// <summary>This process: <c>host-1234</c>.</summary>
    public static string Own { get; } = string.Create(CultureInfo.InvariantCulture, $"{Host}-{Environment.ProcessId}");

    /// <summary>A name for a file that is being written.</summary>
    public static string Temporary() => $"{Prefix}{Own}-{Guid.NewGuid():N}";

    /// <summary>
    /// Removes unfinished files whose writer is dead: a process of this host that has ended, or anybody's that are older than a day.
    /// Gives their number.
    /// </summary>
    /// <param name="folder">Where to look, folders below included.</param>
    public static int Sweep(string folder)
    {
        int removed = 0;
        var all = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.None };
        foreach (string file in Directory.EnumerateFiles(folder, Prefix + "*", all))
        {
            try
            {
                if (!IsDead(Path.GetFileName(file)) && DateTime.UtcNow - File.GetLastWriteTimeUtc(file) < DeadAfter)
                    continue;
                File.Delete(file);
                removed++;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Somebody else's, or gone already: the work does not depend on it.
            }
        }

        return removed;
    }

    private static bool IsDead(string fileName)
    {
        string[] parts = fileName.Split('-');
        if (parts.Length != 4 || parts[1] != Host || !int.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out int id)
            || id == Environment.ProcessId)
            return false;
        try
        {
            using var process = Process.GetProcessById(id);
            return process.HasExited;
        }
        catch (ArgumentException)
        {
            return true;
        }
        catch (InvalidOperationException)
        {
            return true;
        }
    }
}

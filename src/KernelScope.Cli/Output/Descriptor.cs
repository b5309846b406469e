using System.Globalization;

namespace KernelScope.Cli;

/// <summary>Whether standard input, output or error is there at all. Where one was closed, something that .NET opened for itself has taken its number: reading there steals signals and waits for ever.</summary>
internal static class Descriptor
{
    private const string Folder = "/proc/self/fdinfo";
    private const int CloseOnExec = 0x80000;

    /// <summary>Whether a descriptor was not inherited. One that was cannot have the mark "close on exec"; what .NET opens has it.</summary>
    public static bool IsClosed(int number)
    {
        if (!OperatingSystem.IsLinux() || !Directory.Exists(Folder))
            return false;
        string path = Path.Combine(Folder, number.ToString(CultureInfo.InvariantCulture));
        try
        {
            string? flags = File.ReadLines(path).FirstOrDefault(line => line.StartsWith("flags:", StringComparison.Ordinal));
            return flags is not null && (Convert.ToInt32(flags["flags:".Length..].Trim(), 8) & CloseOnExec) != 0;
        }
        catch (FileNotFoundException)
        {
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException or OverflowException)
        {
            return false;
        }
    }
}

using System.Buffers;

namespace KernelScope.Files;

/// <summary>Names of files in repositories, which come from servers: none may lead out of the folder that it is put below, on any system.</summary>
internal static class HubName
{
    private static readonly SearchValues<char> Special = SearchValues.Create("\\:*?\"<>|");
    private const int MaxLength = 1024;

    /// <summary>Whether a path, parts separated by slashes, stays below where it is put: no empty part, no "." or "..", nothing that some system takes for a drive, a separator or a stream.</summary>
    public static bool IsSafe(string name) => name.Length is > 0 and <= MaxLength && name.Split('/').All(IsPlainPart);

    /// <summary>Whether a listing that holds the name is an attack rather than a repository: git itself stores no such path.</summary>
    public static bool IsHostile(string name) => name.Length == 0 || name[0] == '/' || name.Contains('\\', StringComparison.Ordinal)
        || name.Any(char.IsControl) || name.Split('/').Any(part => part is "" or "." or "..");

    /// <summary>The path for a URL.</summary>
    public static string Escape(string name) => string.Join('/', name.Split('/').Select(Uri.EscapeDataString));

    // Windows drops dots and spaces at the end of a name, so ".. " would be "..".
    private static bool IsPlainPart(string part) => part.Length is > 0 and <= 255 && part[^1] is not ('.' or ' ') && part[0] != ' '
        && !part.AsSpan().ContainsAny(Special) && !part.Any(char.IsControl);
}

using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace KernelScope.Files;

/// <summary>
/// Names of files that are being written, beside their place: <c>NAME.RRRRRRRRCCCCCCCC.tmp</c>, R random and C a checksum of the name and R, so that only our own are ever taken for ours.
/// Whoever writes such a file holds it open without sharing it: one that nobody holds is what a killed process left.
/// </summary>
internal static class TemporaryName
{
    private const string Ending = ".tmp";
    private const int RandomDigits = 8, Digits = 16;

    /// <summary>A new name for something that will replace <paramref name="target"/>.</summary>
    public static string For(string target)
    {
        string random = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(RandomDigits / 2));
        return $"{target}.{random}{Check(Path.GetFileName(target), random)}{Ending}";
    }

    /// <summary>Removes what killed processes left of earlier attempts at <paramref name="target"/>. What cannot be removed stays, without a word: the work does not depend on it.</summary>
    public static void Sweep(string target)
    {
        try
        {
            string name = Path.GetFileName(target);
            foreach (string path in Directory.EnumerateFiles(Path.GetDirectoryName(Path.GetFullPath(target))!))
            {
                if (IsFor(name, Path.GetFileName(path)))
                    Remove(path);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A folder that cannot be listed.
        }
    }

    /// <summary>The name that a temporary file's name was made for; null if it is not such a name.</summary>
    public static string? TargetOf(string fileName)
    {
        int length = fileName.Length - Ending.Length - Digits - 1;
        return length > 0 && IsFor(fileName[..length], fileName) ? fileName[..length] : null;
    }

    private static bool IsFor(string name, string fileName)
    {
        if (fileName.Length != name.Length + 1 + Digits + Ending.Length)
            return false;
        if (!fileName.StartsWith(name, StringComparison.Ordinal) || fileName[name.Length] != '.'
            || !fileName.EndsWith(Ending, StringComparison.Ordinal))
            return false;
        string random = fileName.Substring(name.Length + 1, RandomDigits);
        return fileName.AsSpan(name.Length + 1 + RandomDigits, Digits - RandomDigits).SequenceEqual(Check(name, random));
    }

    private static string Check(string name, string random) => Crc32.Append(0, Encoding.UTF8.GetBytes(name + "\n" + random))
        .ToString("x8", CultureInfo.InvariantCulture);

    private static void Remove(string path)
    {
        try
        {
            if (new FileInfo(path).LinkTarget is not null)
            {
                File.Delete(path);
                return;
            }

            // Fails while another process writes it.
            using var unused = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // In use, or another user's.
        }
    }
}

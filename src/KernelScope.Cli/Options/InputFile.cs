using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>A text or token file that an option names: a file, <c>-</c>, or a pipe (<c>/dev/stdin</c>, <c>&lt;(…)</c>, a FIFO).</summary>
internal static class InputFile
{
    private const string Dash = "-";
    private const int MaxLength = int.MaxValue - 64;

    /// <summary>Whether it is the text that the program carries for its examples. A file of that name goes before it.</summary>
    public static bool IsDemo(string path) => path == Demo.ModelName && !RawFile.IsThere(path);

    /// <summary>How messages call it.</summary>
    public static string NameOf(string path) => path == Dash ? StandardInput.Name : Printable.Escape(path);

    /// <summary>All of its bytes.</summary>
    /// <exception cref="InvalidDataException">It cannot be read.</exception>
    public static byte[] ReadAll(string path) =>
        path == Dash ? StandardInput.ReadAll()
        : IsDemo(path) ? Demo.Corpus.ToArray()
        : StandardInput.Wait(() => OfPipe(path), StandardInput.Cancellation) ?? RawFile.ReadAll(path, MaxLength);

    /// <summary>
    /// The bytes of what has no length, or none; null for a file, and for what cannot be opened, of which the reader of files has the sentence.
    /// </summary>
    private static byte[]? OfPipe(string path)
    {
        try
        {
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            if (stream.CanSeek)
                return stream.Length == 0 ? [] : null;
            using var bytes = new MemoryStream();
            stream.CopyTo(bytes);
            return bytes.ToArray();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            return null;
        }
    }
}

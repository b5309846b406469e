using System.Text;

namespace KernelScope.Cli;

/// <summary>Texts from files and from standard input: strictly UTF-8.</summary>
internal static class StandardText
{
    /// <summary>All of standard input, without the line end that a shell's echo adds.</summary>
    public static string Read(Streams streams)
    {
        using Stream input = streams.OpenInput();
        using var bytes = new MemoryStream();
        if (streams.ErrorIsTerminal && !Console.IsInputRedirected)
            streams.Error.WriteLine("Type the text; Ctrl+D ends it.");
        input.CopyTo(bytes);
        string text = Decode(bytes.GetBuffer().AsSpan(0, (int)bytes.Length), "standard input");
        return text.EndsWith("\r\n", StringComparison.Ordinal) ? text[..^2] : text.EndsWith('\n') ? text[..^1] : text;
    }

    /// <summary>All of a file, as it is.</summary>
    public static string ReadFile(string path) => Decode(File.ReadAllBytes(path), Printable.Escape(path));

    /// <summary>Refuses bytes that are not UTF-8.</summary>
    /// <exception cref="WorkException">It says where.</exception>
    public static void Check(ReadOnlySpan<byte> bytes, string source)
    {
        if (RawArguments.FirstInvalid(bytes) is int at)
            throw new WorkException($"{source} is not valid UTF-8: byte 0x{bytes[at]:X2} at offset {at} begins no character.");
    }

    private static string Decode(ReadOnlySpan<byte> bytes, string source)
    {
        Check(bytes, source);
        return Encoding.UTF8.GetString(bytes);
    }
}

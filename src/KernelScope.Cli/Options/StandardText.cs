using System.Text;

namespace KernelScope.Cli;

/// <summary>Texts from files and from standard input: strictly UTF-8.</summary>
internal static class StandardText
{
    private static ReadOnlySpan<byte> Mark => "\uFEFF"u8;

    /// <summary>All of standard input, without the line end that a shell's echo adds.</summary>
    public static string Read(Streams streams)
    {
        if (streams.ErrorIsTerminal && StandardInput.IsTerminal)
            streams.Error.WriteLine("Type the text; Ctrl+D ends it.");
        return WithoutLineEnd(StandardInput.ReadAll());
    }

    /// <summary>The text of a pipe that no option names, as <see cref="Read"/> has it; empty if there is none, null if nothing came in time.</summary>
    public static string? ReadWhatComes() => StandardInput.ReadWhatComes() is byte[] bytes ? WithoutLineEnd(bytes) : null;

    private static string WithoutLineEnd(byte[] bytes)
    {
        string text = Decode(bytes, StandardInput.Name);
        return text.EndsWith("\r\n", StringComparison.Ordinal) ? text[..^2] : text.EndsWith('\n') ? text[..^1] : text;
    }

    /// <summary>All of a file, as it is, without a mark that an editor put before it; '-' is standard input.</summary>
    public static string ReadFile(string path) => Decode(InputFile.ReadAll(path), InputFile.NameOf(path));

    /// <summary>The text after the mark that some editors put before UTF-8.</summary>
    public static ReadOnlyMemory<byte> WithoutMark(ReadOnlyMemory<byte> bytes) => bytes.Span.StartsWith(Mark)
        ? bytes[Mark.Length..] : bytes;

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
        return Encoding.UTF8.GetString(bytes.StartsWith(Mark) ? bytes[Mark.Length..] : bytes);
    }
}

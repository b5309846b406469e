using System.Text;
using System.Text.Unicode;

namespace KernelScope.Cli;

/// <summary>Refuses arguments that are not valid text, before .NET's replacement characters pass for what was typed.</summary>
internal static class RawArguments
{
    private const string ProcessArguments = "/proc/self/cmdline";

    /// <summary>Checks every argument.</summary>
    /// <exception cref="WorkException">One is not valid UTF-8 (Unix) or UTF-16 (Windows).</exception>
    public static void Check(string[] args)
    {
        for (int i = 0; i < args.Length; i++)
        {
            if (HasLoneSurrogate(args[i]))
                throw new WorkException($"the argument '{Printable.Escape(args[i])}' is not valid text: it has half of a surrogate pair.");
        }

        // Only where .NET may have replaced something are the bytes worth a look.
        if (OperatingSystem.IsLinux() && args.Any(a => a.Contains('\uFFFD', StringComparison.Ordinal)))
            CheckBytes(args);
    }

    private static void CheckBytes(string[] args)
    {
        byte[] bytes;
        try
        {
            bytes = File.ReadAllBytes(ProcessArguments);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return;
        }

        var all = new List<byte[]>();
        for (int start = 0, end; (end = Array.IndexOf(bytes, (byte)0, start)) >= 0; start = end + 1)
            all.Add(bytes[start..end]);
        // The program's own arguments are the last ones; before them are the host and the assembly.
        for (int i = 0; i < args.Length && args.Length <= all.Count; i++)
        {
            byte[] argument = all[all.Count - args.Length + i];
            if (FirstInvalid(argument) is int at)
                throw new WorkException($"the argument '{Printable.Escape(args[i])}' is not valid UTF-8: byte 0x{argument[at]:X2} at " +
                    $"offset {at} begins no character.");
        }
    }

    /// <summary>Where the first byte is that begins no whole valid sequence; null if the text is valid.</summary>
    public static int? FirstInvalid(ReadOnlySpan<byte> text)
    {
        if (Utf8.IsValid(text))
            return null;
        int at = 0;
        while (Rune.DecodeFromUtf8(text[at..], out _, out int consumed) == System.Buffers.OperationStatus.Done)
            at += consumed;
        return at;
    }

    private static bool HasLoneSurrogate(string text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            if (!char.IsSurrogate(text[i]))
                continue;
            if (i + 1 == text.Length || !char.IsSurrogatePair(text[i], text[i + 1]))
                return true;
            i++;
        }

        return false;
    }
}

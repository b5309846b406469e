namespace KernelScope.Cli;

/// <summary>Breaks lines between words where a terminal would break them inside.</summary>
internal static class WordWrap
{
    /// <summary>The line in pieces of at most <paramref name="width"/> columns, those after the first with an indent. A longer word is one line of its own.</summary>
    public static IEnumerable<string> Lines(string text, int width, int indent)
    {
        string line = "";
        foreach (string word in text.Split(' '))
        {
            if (line.Length > indent && line.Length + 1 + word.Length > width && line.AsSpan().TrimStart().Length > 0)
            {
                yield return line;
                line = new string(' ', indent) + word;
            }
            else
            {
                line = line.Length == 0 ? word : $"{line} {word}";
            }
        }

        yield return line;
    }

    /// <summary>Prints a line: in pieces on a terminal, whole elsewhere, where programs read it.</summary>
    public static void Print(Streams streams, string text, int indent)
    {
        foreach (string line in streams.OutputIsTerminal ? Lines(text, streams.Width, indent) : [text])
            streams.Output.WriteLine(line);
    }
}

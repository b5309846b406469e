namespace KernelScope.PtxEmulator;

/// <summary>PTX text that the emulator cannot accept: malformed, or an instruction or modifier that it does not know. The message names the file, the line and the text.</summary>
public sealed class PtxSyntaxException : FormatException
{
    internal PtxSyntaxException(string file, int line, string text, string problem)
        : base($"{file} line {line}: {problem}: '{text}'.")
    {
        File = file;
        Line = line;
        Text = text;
    }

    /// <summary>Name given to <see cref="PtxModule.Parse"/>.</summary>
    public string File { get; }

    /// <summary>Line in the text, from 1.</summary>
    public int Line { get; }

    /// <summary>The statement or word that was not accepted.</summary>
    public string Text { get; }
}

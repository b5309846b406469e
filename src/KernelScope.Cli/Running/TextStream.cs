using KernelScope.Generation;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>Prints generated text as it comes, never half a character.</summary>
internal sealed class TextStream(Streams streams, GemmaTokenizer? tokenizer)
{
    /// <summary>Prints what a token adds; a token without a text is its id in brackets.</summary>
    public void Append(GeneratedToken token) =>
        Print(tokenizer is null || !tokenizer.Contains(token.Id) ? $"[{token.Id}]{token.Text}" : token.Text!);

    /// <summary>Ends the line.</summary>
    public void End()
    {
        streams.Output.WriteLine();
        streams.Output.Flush();
    }

    // In a file or a pipe the text is what the model wrote, byte for byte; on a terminal it must not move the cursor or change colours.
    private void Print(string text)
    {
        streams.Output.Write(streams.OutputIsTerminal ? Printable.EscapeKeepingLines(text) : text);
        streams.Output.Flush();
    }
}

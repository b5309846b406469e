using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>Prints generated text as it comes, never half a character.</summary>
internal sealed class TextStream(Streams streams, GemmaTokenizer? tokenizer)
{
    private readonly StreamingDecoder? _decoder = tokenizer is null ? null : new StreamingDecoder(tokenizer);

    /// <summary>Prints what a token adds; a token without a text is its id in brackets.</summary>
    public void Append(int id)
    {
        if (_decoder is null || !tokenizer!.Contains(id))
            Print($"[{id}]");
        else
            Print(_decoder.Append(id));
    }

    /// <summary>Prints what was held back, and a line end.</summary>
    public void End()
    {
        Print(_decoder?.Flush() ?? "");
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

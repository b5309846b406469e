using System.Text;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>Standard output for Spectre: colours only where a terminal shows them and NO_COLOR does not forbid it.</summary>
internal sealed class Terminal : IAnsiConsoleOutput
{
    private readonly Streams _streams;

    private Terminal(Streams streams) => _streams = streams;

    public TextWriter Writer => _streams.Output;

    public bool IsTerminal => _streams.OutputIsTerminal;

    public int Width => _streams.Width;

    public int Height => 24;

    /// <summary>Opens a console on standard output.</summary>
    public static IAnsiConsole Open(Streams streams)
    {
        bool plain = !streams.OutputIsTerminal || Environment.GetEnvironmentVariable("NO_COLOR") is { Length: > 0 }
            || Environment.GetEnvironmentVariable("TERM") == "dumb";
        return AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = plain ? AnsiSupport.No : AnsiSupport.Detect,
            ColorSystem = plain ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
            Interactive = InteractionSupport.No,
            Out = new Terminal(streams),
        });
    }

    public void SetEncoding(Encoding encoding)
    {
    }
}

using System.Text;

namespace KernelScope.Cli;

/// <summary>Standard output and error, of this process or others: UTF-8, and whether somebody looks at them.</summary>
internal sealed class Streams : IDisposable
{
    private const int PlainWidth = 100;
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false);

    private readonly CancellationToken _cancellationToken;

    /// <summary>Those of this process.</summary>
    /// <param name="cancellationToken">Ends reading from standard input.</param>
    public Streams(CancellationToken cancellationToken)
    {
        _cancellationToken = cancellationToken;
        OutputIsClosed = Descriptor.IsClosed(1);
        bool errorIsClosed = Descriptor.IsClosed(2);
        OutputIsTerminal = !OutputIsClosed && !Console.IsOutputRedirected;
        ErrorIsTerminal = !errorIsClosed && !Console.IsErrorRedirected;
        if (OperatingSystem.IsWindows() && (OutputIsTerminal || ErrorIsTerminal))
            Console.OutputEncoding = Utf8;
        OutputBytes = OutputIsClosed ? Stream.Null : new StandardOutput(Console.OpenStandardOutput());
        (Output, Error) = Writers(OutputBytes, errorIsClosed ? Stream.Null : new StandardError(Console.OpenStandardError()));
    }

    /// <summary>Streams that take the place of this process's own; nobody looks at them.</summary>
    public Streams(Stream output, Stream error)
    {
        OutputBytes = output;
        (Output, Error) = Writers(output, error);
    }

    /// <summary>Standard output as bytes; flush <see cref="Output"/> before it.</summary>
    public Stream OutputBytes { get; }

    /// <summary>Standard output as text, buffered.</summary>
    public StreamWriter Output { get; }

    /// <summary>Standard error, not buffered.</summary>
    public StreamWriter Error { get; }

    /// <summary>Whether there is no standard output.</summary>
    public bool OutputIsClosed { get; }

    /// <summary>Whether standard output is a terminal.</summary>
    public bool OutputIsTerminal { get; }

    /// <summary>Whether standard error is a terminal.</summary>
    public bool ErrorIsTerminal { get; }

    /// <summary>Columns of the terminal; a readable width where there is none.</summary>
    public int Width => OutputIsTerminal && TryWindowWidth(out int width) ? Math.Max(width, 40) : PlainWidth;

    /// <summary>Standard input as bytes.</summary>
    /// <exception cref="WorkException">It is closed.</exception>
    public Stream OpenInput() => Descriptor.IsClosed(0)
        ? throw new WorkException("standard input is closed, and '-' reads from it.")
        : new InterruptibleInput(Console.OpenStandardInput(), _cancellationToken);

    /// <summary>Says on standard error that something looks wrong; what runs goes on.</summary>
    public void Warn(string sentence)
    {
        Output.Flush();
        Failure.WriteLine(Error, $"warning: {sentence}");
    }

    public void Dispose()
    {
        try
        {
            Output.Flush();
        }
        catch (IOException)
        {
            // The reader went away (a closed pipe); the verb has reported that already, or had nothing left to say.
        }
    }

    private static (StreamWriter Output, StreamWriter Error) Writers(Stream output, Stream error) => (
        new StreamWriter(output, Utf8, bufferSize: 1 << 14) { AutoFlush = false },
        new StreamWriter(error, Utf8, bufferSize: 1 << 10) { AutoFlush = true });

    private static bool TryWindowWidth(out int width)
    {
        try
        {
            width = Console.WindowWidth;
            return width > 0;
        }
        catch (Exception e) when (e is IOException or PlatformNotSupportedException)
        {
            width = 0;
            return false;
        }
    }
}

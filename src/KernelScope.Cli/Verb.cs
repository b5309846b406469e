using System.CommandLine;

namespace KernelScope.Cli;

/// <summary>What a verb runs in.</summary>
/// <param name="Streams">Standard output and error.</param>
/// <param name="Cancellation">Cancelled by Ctrl+C.</param>
internal sealed record Surroundings(Streams Streams, CancellationToken Cancellation);

/// <summary>A verb of the command line: its options, its help with an example, and what it does.</summary>
internal abstract class Verb : Command
{
    protected Verb(string name, string description, string example, CommonOptions common, Surroundings surroundings) : base(name, $"{description}\n\nExample:\n{example}")
    {
        Common = common;
        Streams = surroundings.Streams;
        Cancellation = surroundings.Cancellation;
        SetAction(Run);
    }

    protected CommonOptions Common { get; }

    protected Streams Streams { get; }

    protected CancellationToken Cancellation { get; }

    /// <summary>Does it; the result is the exit code.</summary>
    protected abstract int Run(ParseResult parsed);
}

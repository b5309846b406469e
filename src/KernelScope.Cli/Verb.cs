using System.CommandLine;
using KernelScope.Hooks;

namespace KernelScope.Cli;

/// <summary>The streams that a verb writes to, and what ends it.</summary>
/// <param name="Streams">Standard output and error.</param>
/// <param name="Interruption">What Ctrl+C ends before the program.</param>
/// <param name="Cancellation">Cancelled by Ctrl+C.</param>
internal sealed record VerbEnvironment(Streams Streams, Interruption Interruption, CancellationToken Cancellation);

/// <summary>A verb of the command line: its options, its help with an example, and what it does.</summary>
internal abstract class Verb : Command
{
    protected Verb(string name, string description, string example, CommonOptions common, VerbEnvironment environment)
        : base(name, description)
    {
        Examples = [.. example.Split('\n').Select(line => line.Trim())];
        Common = common;
        Streams = environment.Streams;
        Cancellation = environment.Cancellation;
        Interruption = environment.Interruption;
        SetAction(RunAndName);
    }

    /// <summary>Commands that work as they are written, one after the other in one folder, with nothing but what the program carries.</summary>
    public IReadOnlyList<string> Examples { get; }

    /// <summary>The common options that act here.</summary>
    public IEnumerable<Option> CommonOptions => Common.Each.Where(o => Uses.HasFlag(o.Use)).Select(o => o.Option);

    /// <summary>The options that many verbs take.</summary>
    public CommonOptions Common { get; }

    /// <summary>Standard output and error.</summary>
    public Streams Streams { get; }

    /// <summary>Cancelled by Ctrl+C.</summary>
    public CancellationToken Cancellation { get; }

    protected Interruption Interruption { get; }

    /// <summary>Which of the common options act here; the others are refused, and are not in the help.</summary>
    public virtual CommonUse Uses => CommonUse.All;

    /// <summary>Refuses options that would do nothing as they are given.</summary>
    /// <exception cref="UsageException">There is one.</exception>
    public void RefuseIdle(ParseResult parsed)
    {
        Common.RefuseIdle(parsed, this);
        RefuseEmptyPaths(parsed);
        CheckOptions(parsed);
    }

    /// <summary>An empty path is a variable that was not set: what it would do, from nothing to a read of this folder, nobody meant.</summary>
    private void RefuseEmptyPaths(ParseResult parsed)
    {
        foreach (Argument argument in Arguments)
        {
            bool isPath = argument.Name is "PATH" or "ACTS" or "A" or "B" or "RUN";
            if (isPath && parsed.GetResult(argument)?.Tokens.Any(t => t.Value.Length == 0) == true)
                throw new UsageException($"{argument.Name} is empty; it needs a path.");
        }

        foreach (Option option in Options)
        {
            string kind = option.HelpName ?? "";
            bool isPath = kind is "F" or "DIR" or "RUN" or "PATH" || kind.StartsWith("F.", StringComparison.Ordinal);
            if (isPath && parsed.GetResult(option) is { } given && given.Tokens.Any(t => t.Value.Length == 0))
                throw new UsageException($"{option.Name} is empty; it needs a path.");
        }
    }

    /// <summary>Refuses options of the verb's own that would do nothing as they are given.</summary>
    /// <exception cref="UsageException">There is one.</exception>
    protected virtual void CheckOptions(ParseResult parsed)
    {
    }

    /// <summary>Refuses an option that was given without what it belongs to.</summary>
    /// <exception cref="UsageException">It was.</exception>
    protected static void Belongs(ParseResult parsed, bool isThere, string to, params ReadOnlySpan<Option> options)
    {
        if (isThere)
            return;
        foreach (Option option in options)
        {
            if (parsed.GetResult(option) is { Implicit: false })
                throw new UsageException($"{option.Name} does nothing without {to}.");
        }
    }

    private int RunAndName(ParseResult parsed)
    {
        try
        {
            return Run(parsed);
        }
        catch (NotFiniteException e)
        {
            throw new WorkException($"{Common.ModelOf(parsed)}: {e.Message}");
        }
    }

    /// <summary>Does it; the result is the exit code.</summary>
    protected abstract int Run(ParseResult parsed);
}

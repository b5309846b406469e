using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Parsing;
using System.Runtime.InteropServices;

namespace KernelScope.Cli;

/// <summary>The program: parses, runs a verb, and turns what happened into an exit code.</summary>
internal static class CommandLine
{
    private const string HelpVerb = "help", SuggestPrefix = "[suggest";

    private const string Description = "Runs Gemma 2 and Gemma Scope sparse autoencoders from their files. " +
        "Without --model it runs a small trained model that it carries.";

    /// <summary>Runs the verb that the arguments name.</summary>
    public static int Run(string[] args)
    {
        using var stop = new CancellationTokenSource();
        using var streams = new Streams(stop.Token);
        StandardInput.Cancellation = stop.Token;
        var interruption = new Interruption();
        int signalled = 0;
        using PosixSignalRegistration interrupt = StopOn(PosixSignal.SIGINT, ExitCode.Interrupted);
        using PosixSignalRegistration terminate = StopOn(PosixSignal.SIGTERM, ExitCode.Terminated);
        using PosixSignalRegistration hangUp = StopOn(PosixSignal.SIGHUP, ExitCode.HungUp);
        int code = Run(args, new VerbEnvironment(streams, interruption, stop.Token));
        return code == ExitCode.Interrupted ? signalled : code;

        PosixSignalRegistration StopOn(PosixSignal signal, int exitCode) => PosixSignalRegistration.Create(signal, call =>
        {
            if (signal == PosixSignal.SIGINT && interruption.TryEndPart())
            {
                call.Cancel = true;
                return;
            }

            // The second one ends the process at once, as it does everywhere.
            call.Cancel = Interlocked.CompareExchange(ref signalled, exitCode, 0) == 0;
            if (call.Cancel)
                stop.Cancel();
        });
    }

    /// <summary>Runs the verb that the arguments name, with streams and signals of the caller's. For any number of threads.</summary>
    internal static int Run(string[] args, VerbEnvironment environment)
    {
        TextWriter error = environment.Streams.Error;
        string verb = "";
        try
        {
            if (environment.Streams.OutputIsClosed)
                throw new WorkException("standard output is closed, and results go there; '> /dev/null' discards them.");
            RequireFolder();
            RawArguments.Check(args);
            RootCommand root = Root(environment);
            bool completes = args.Length > 0 && args[0].StartsWith(SuggestPrefix, StringComparison.Ordinal);
            // Words in brackets at the beginning of a text are text.
            if (!completes)
                root.Directives.Clear();
            if (args is [HelpVerb, ..])
                args = HelpOf(args[1..], root);
            // A text may begin with @: it is not a file of more arguments.
            var parsing = new ParserConfiguration { ResponseFileTokenReplacer = null, EnablePosixBundling = false };
            ParseResult parsed = root.Parse(WithEmptyValues(args, root), parsing);
            verb = parsed.CommandResult.Command is Verb command ? command.Name : "";
            if (!completes && parsed.Action is not HelpView && FirstError(parsed) is string complaint)
                throw new UsageException(complaint);
            // Help is for those who have not given what is needed yet.
            if (parsed.CommandResult.Command is Verb acting && parsed.Action is not HelpView)
                acting.RefuseIdle(parsed);
            int code = parsed.Invoke(new InvocationConfiguration
            {
                Output = environment.Streams.Output,
                Error = error,
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = null,
            });
            environment.Streams.Output.Flush();
            return code;
        }
        catch (Exception e)
        {
            return Failure.Report(e, verb, error);
        }
    }

    /// <summary>Paths are read from the current folder on, and .NET says only that it does not find "the file".</summary>
    /// <exception cref="WorkException">It was deleted.</exception>
    private static void RequireFolder()
    {
        try
        {
            Directory.GetCurrentDirectory();
        }
        catch (IOException)
        {
            throw new WorkException("the current folder was deleted; change to one that is there.");
        }
    }

    private static RootCommand Root(VerbEnvironment environment)
    {
        var common = new CommonOptions();
        var root = new RootCommand(Description)
        {
            new FeaturesCommand(common, environment),
            new GenerateCommand(common, environment),
            new RunCommand(common, environment),
            new TokenizeCommand(common, environment),
            new EncodeCommand(common, environment),
            new EvalCommand(common, environment),
            new AttributeCommand(common, environment),
            new LensCommand(common, environment),
            new DiffCommand(common, environment),
            new TopCommand(common, environment),
            new HarvestCommand(common, environment),
            new PlanCommand(common, environment),
            new WorkCommand(common, environment),
            new StatusCommand(common, environment),
            new MergeCommand(common, environment),
            new TrainCommand(common, environment),
            new SuiteCommand(common, environment),
            new InspectCommand(common, environment),
            new DoctorCommand(common, environment),
            new VerifyCommand(common, environment),
            new KernelsCommand(common, environment),
            new BenchCommand(common, environment),
            new CatalogCommand(common, environment),
            new PullCommand(common, environment),
            new PackCommand(common, environment),
            new LabelsCommand(common, environment),
#if !WITHOUT_WEB
            new DashCommand(common, environment),
            new ServeCommand(common, environment),
#endif
        };
        var verb = new Argument<string>("VERB") { CompletionSources = { _ => root.Subcommands.Select(c => c.Name) } };
        root.Subcommands.Add(new Command(HelpVerb, "Shows the options and examples of a verb.") { verb });
        // "/?" is not a call for help.
        foreach (Option help in root.Options.OfType<HelpOption>())
        {
            help.Aliases.Remove("/h");
            help.Aliases.Remove("/?");
            help.Action = new HelpView(environment.Streams);
        }

        common.AddTo(root);
        // A flag takes no value: 'features --dense true' is the text "true".
        foreach (Option flag in root.Subcommands.Prepend(root).SelectMany(c => c.Options).Where(o => o.ValueType == typeof(bool)))
            flag.Arity = ArgumentArity.Zero;
        return root;
    }

    /// <summary>The arguments with an empty word after each <c>--option=</c>, for which the parser would take the next argument.</summary>
    /// <exception cref="UsageException">A flag was given a value.</exception>
    private static List<string> WithEmptyValues(string[] args, RootCommand root)
    {
        Command? verb = args.Select(a => root.Subcommands.FirstOrDefault(c => c.Name == a)).FirstOrDefault(c => c is not null);
        Option[] options = [.. root.Options, .. verb?.Options ?? []];
        var words = new List<string>(args.Length);
        bool isText = false;
        foreach (string word in args)
        {
            isText |= word == "--";
            int end = isText ? -1 : word.AsSpan().IndexOfAny('=', ':');
            Option? option = end < 0 ? null : Array.Find(options, o => o.Name == word[..end]);
            if (option?.Arity.MaximumNumberOfValues == 0)
                throw new UsageException($"{option.Name} takes no value; this is '{Printable.Escape(word)}'.");
            if (option is not null && end == word.Length - 1)
                words.AddRange([option.Name, ""]);
            else
                words.Add(word);
        }

        return words;
    }

    /// <summary>The arguments that show what <c>help</c> is asked for.</summary>
    private static string[] HelpOf(string[] words, RootCommand root)
    {
        if (words is [string word, ..] && word[0..Math.Min(1, word.Length)] != "-" && !root.Subcommands.Any(c => c.Name == word))
            throw new UsageException(NoVerb(word, root));
        if (words.Where(w => !w.StartsWith('-')).Skip(1).FirstOrDefault() is string second)
            throw new UsageException($"help shows one verb at a time; '{Printable.Escape(second)}' is left over.");
        return words is ["--help", ..] or [HelpVerb, ..] ? ["--help"] : [.. words.Take(1), "--help"];
    }

    private static string NoVerb(string word, Command root)
    {
        string[] verbs = [.. root.Subcommands.Select(c => c.Name)];
        string advice = Spelling.Nearest(word, verbs) is string near ? $"; did you mean '{near}'? There" : "; there";
        return $"there is no verb '{Printable.Escape(word)}'{advice} are {string.Join(", ", verbs)}.";
    }

    private static string? FirstError(ParseResult parsed)
    {
        if (MistypedOption(parsed) is string option)
        {
            IEnumerable<Option> options = parsed.CommandResult.Command.Options.Concat(parsed.RootCommandResult.Command.Options);
            // An option of the program alone, --version, stands before a verb: it is not a misspelling of itself.
            string? near = Spelling.Nearest(option.Split('=')[0], options.Select(o => o.Name).Where(n => n != option));
            const string Text = "text that begins like one goes after '--'.";
            string advice = near is null ? $"a {Text}" : $"did you mean '{near}'? (A {Text})";
            return $"there is no option '{Printable.Escape(option)}'; {advice}";
        }

        if (parsed.CommandResult.Command is RootCommand root && parsed.Errors.Count > 0)
        {
            if (parsed.UnmatchedTokens.Count > 0 && parsed.Tokens.Any(t => t.Type == TokenType.DoubleDash))
                return "a verb comes first, and '--' after it: 'kernelscope run -- TEXT'.";
            return parsed.UnmatchedTokens.Count > 0 ? NoVerb(parsed.UnmatchedTokens[0], root)
                : $"a verb is missing; there are {string.Join(", ", root.Subcommands.Select(c => c.Name))}.";
        }

        if (parsed.UnmatchedTokens.Count > 0)
            return $"'{Printable.Escape(parsed.UnmatchedTokens[0])}' is one word too many; a text of several words goes between quotes.";
        Command verb = parsed.CommandResult.Command;
        Argument? missing = verb.Arguments.FirstOrDefault(a => (parsed.GetResult(a)?.Tokens.Count ?? 0) < a.Arity.MinimumNumberOfValues);
        if (missing is not null)
            return $"{missing.Name} is missing; the usage is '{HelpView.Usage(verb)}'.";
        IEnumerable<OptionResult> given = parsed.CommandResult.Children.OfType<OptionResult>();
        if (given.Select(Parsing.NotADecimal).FirstOrDefault(c => c is not null) is string notADecimal)
            return notADecimal;
        // The parser complains of types by their .NET names; our own complaint about the same option is better.
        ParseError? complaint = parsed.Errors.OrderBy(IsOfType).FirstOrDefault();
        return complaint is not null && IsOfType(complaint) && complaint.SymbolResult is OptionResult { Tokens: [.., var word] } of
            ? Parsing.WrongType(of.Option, word.Value) : complaint?.Message;
    }

    private static bool IsOfType(ParseError error) => error.Message.StartsWith("Cannot parse argument", StringComparison.Ordinal);

    /// <summary>A word that looks like an option and is none: the parser would take it for the text.</summary>
    private static string? MistypedOption(ParseResult parsed)
    {
        IEnumerable<string> values = parsed.CommandResult.Children.OfType<ArgumentResult>().SelectMany(a => a.Tokens).Select(t => t.Value);
        var arguments = values.Concat(parsed.UnmatchedTokens).ToHashSet(StringComparer.Ordinal);
        return parsed.Tokens.TakeWhile(t => t.Type != TokenType.DoubleDash)
            .Select(t => t.Value)
            .FirstOrDefault(v => LooksLikeOption(v) && arguments.Contains(v));
    }

    private static bool LooksLikeOption(string word) =>
        word.Length > 1 && word[0] == '-' && (word[1] == '-' || char.IsAsciiLetter(word[1])) && !word.Any(char.IsWhiteSpace);
}

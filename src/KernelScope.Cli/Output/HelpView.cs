using System.CommandLine;
using System.CommandLine.Invocation;
using System.Globalization;

namespace KernelScope.Cli;

/// <summary>The help: verbs and options in groups, lines broken between words, examples never.</summary>
internal sealed class HelpView(Streams streams) : SynchronousCommandLineAction
{
    private const int MostIndent = 26;

    private static readonly (string Title, string[] Names)[] VerbGroups =
    [
        ("Look inside a model", ["features", "generate", "run", "lens", "attribute", "top", "dash", "labels", "serve"]),
        ("Measure and compare", ["eval", "encode", "diff", "verify", "kernels", "bench"]),
        ("Runs on disk, on one machine or many", ["harvest", "plan", "work", "status", "merge", "train", "suite"]),
        ("Files, models and this machine", ["tokenize", "inspect", "catalog", "pull", "pack", "doctor", "help"]),
    ];

    private static readonly (string Title, string[] Names)[] OptionGroups =
    [
        (
            "What it reads",
            ["--tokens", "--text-file", "--tokens-file", "--jsonl", "--file", "--decode", "--length", "--special-ids", "--chat",
            "--documents", "--context", "--sequences", "--rows"]),
        (
            "Choice of the next token",
            [
                "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--frequency-penalty",
                "--logit-bias",
                "--seed", "--stop", "--ignore-eos",
            ]),
        ("SAEs", ["--sae", "--site", "--site-out", "--labels"]),
        ("Edits at an SAE's site", ["--steer", "--clamp", "--ablate", "--splice", "--mean-from", "--edit-at", "--strengths", "--baseline"]),
    ];

    private const string OwnGroup = "Options", CommonGroup = "Model and device";

    /// <inheritdoc/>
    public override int Invoke(ParseResult parseResult)
    {
        Command command = parseResult.CommandResult.Command;
        if (command is Verb verb)
            Print(verb);
        else
            PrintProgram((RootCommand)parseResult.RootCommandResult.Command);
        streams.Output.Flush();
        return ExitCode.Done;
    }

    private void PrintProgram(RootCommand root)
    {
        Paragraph(root.Description ?? "");
        Title("Usage");
        streams.Output.WriteLine("  kernelscope VERB [options]");
        streams.Output.WriteLine("  kernelscope help VERB");
        foreach ((string title, IEnumerable<Command> verbs) in Grouped(root.Subcommands, c => c.Name, VerbGroups, "Other verbs"))
        {
            Title(title);
            Table([.. verbs.Select(v => (v.Name, FirstSentence(v.Description ?? "")))]);
        }

        Title(OwnGroup);
        Table([.. root.Options.Where(o => !o.Recursive || o.Name is "--help" or "--version").Select(o => (NameOf(o), TextOf(o)))]);
        streams.Output.WriteLine();
        Paragraph(
            "'kernelscope help VERB' shows a verb's options and examples. Results go to standard output, everything else to standard " +
            "error. " +
            "Exit codes: 0 done, 1 the work failed, 2 bad usage.");
    }

    private void Print(Verb verb)
    {
        foreach (string paragraph in (verb.Description ?? "").Split('\n'))
            Paragraph(paragraph);
        Title("Usage");
        streams.Output.WriteLine($"  {Usage(verb)}");
        if (verb.Arguments.Count > 0)
        {
            Title("Arguments");
            Table([.. verb.Arguments.Select(a => (a.Name, a.Description ?? ""))]);
        }

        Title(verb.Examples.Count == 1 ? "Example" : "Examples");
        foreach (string example in verb.Examples)
            streams.Output.WriteLine($"  {example}");
        Option[] shown = [.. verb.Options.Where(o => !o.Hidden)];
        bool chooses = shown.Any(o => o.Name == "--temperature");
        foreach ((string title, IEnumerable<Option> options) in Grouped(shown, GroupedName, OptionGroups, OwnGroup))
        {
            Title(title);
            Table([.. options.Select(o => (NameOf(o), TextOf(o)))]);
        }

        Title(CommonGroup);
        Table([.. verb.CommonOptions.Select(o => (NameOf(o), TextOf(o)))]);

        // A seed of something else than tokens.
        string GroupedName(Option option) => option.Name == "--seed" && !chooses ? "" : option.Name;
    }

    /// <summary>Things by group, in the order of the groups; what is in none comes last.</summary>
    private static IEnumerable<(string Title, IEnumerable<T> Members)> Grouped<T>(
        IEnumerable<T> all, Func<T, string> name, (string Title, string[] Names)[] groups, string rest)
    {
        T[] things = [.. all];
        T[] others = [.. things.Where(t => !groups.Any(g => g.Names.Contains(name(t))))];
        foreach ((string title, string[] names) in groups)
        {
            T[] members = [.. things.Where(t => names.Contains(name(t))).OrderBy(t => Array.IndexOf(names, name(t)))];
            if (members.Length > 0)
                yield return (title, members);
        }

        if (others.Length > 0)
            yield return (rest, others);
    }

    /// <summary>How a verb is called.</summary>
    public static string Usage(Command verb) => $"kernelscope {verb.Name}{string.Concat(verb.Arguments.Select(a => $" {Usage(a)}"))} " +
        "[options]";

    private static string Usage(Argument argument) =>
        (argument.Arity is { MinimumNumberOfValues: 0 }, argument.Arity.MaximumNumberOfValues > 1) switch
        {
            (true, true) => $"[{argument.Name}…]",
            (true, false) => $"[{argument.Name}]",
            (false, true) => $"{argument.Name}…",
            _ => argument.Name,
        };

    private static string NameOf(Option option) =>
        string.Join(", ", option.Aliases.Order(StringComparer.Ordinal).Append(option.Name)) + (option.HelpName is string value
        ? $" {value}" : "");

    private static string TextOf(Option option)
    {
        string text = option.Description ?? "";
        bool isSaid = text.Contains("default", StringComparison.OrdinalIgnoreCase) || !option.HasDefaultValue
            || option.ValueType == typeof(bool);
        return isSaid ? text : $"{text} Default: {Convert.ToString(option.GetDefaultValue(), CultureInfo.InvariantCulture)}.";
    }

    /// <summary>
    /// What a list of verbs has room for: up to the first full stop or colon that a space follows ("config.json" ends no sentence).
    /// </summary>
    private static string FirstSentence(string text)
    {
        string line = text.Split('\n')[0];
        int[] ends = [line.IndexOf(". ", StringComparison.Ordinal), line.IndexOf(": ", StringComparison.Ordinal)];
        return $"{line[..ends.Where(e => e >= 0).DefaultIfEmpty(line.Length).Min()].TrimEnd('.', ':')}.";
    }

    private void Title(string text)
    {
        streams.Output.WriteLine();
        streams.Output.WriteLine($"{text}:");
    }

    private void Paragraph(string text)
    {
        foreach (string line in WordWrap.Lines(text, streams.Width, indent: 0))
            streams.Output.WriteLine(line);
    }

    private void Table(IReadOnlyList<(string Name, string Text)> rows)
    {
        int indent = Math.Min(MostIndent, rows.Count == 0 ? 0 : rows.Max(r => r.Name.Length) + 4);
        foreach ((string name, string text) in rows)
        {
            string head = $"  {name}";
            bool fits = head.Length + 2 <= indent;
            if (!fits)
                streams.Output.WriteLine(head);
            int first = 0;
            foreach (string line in WordWrap.Lines(text, Math.Max(streams.Width - indent, 20), indent: 0))
                streams.Output.WriteLine((fits && first++ == 0 ? head.PadRight(indent) : new string(' ', indent)) + line);
        }
    }
}

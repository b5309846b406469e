using System.Collections.Concurrent;
using System.Globalization;

namespace KernelScope.Cli.Tests;

/// <summary>The help, what is said to who misspells a name, and shell completion.</summary>
public sealed class HelpTests
{
    private static readonly ConcurrentDictionary<string, Outcome> Helps = new(StringComparer.Ordinal);

    public static TheoryData<string> Verbs => [.. VerbsOfHelp()];

    [Theory]
    [MemberData(nameof(Verbs))]
    public void Every_verb_shows_an_example_and_the_options_that_act(string verb)
    {
        Outcome outcome = Help(verb);
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
        Assert.Equal(outcome.Output, Program.Run(verb, "--help").Output);
        Assert.NotEmpty(Examples(verb));
        Assert.Contains(Examples(verb), e => e.StartsWith($"kernelscope {verb}", StringComparison.Ordinal));
        Assert.Equal(verb is not ("diff" or "inspect" or "pull" or "bench" or "kernels" or "status" or "merge"),
            outcome.Output.Contains("  --model DIR", StringComparison.Ordinal));
        Assert.Equal(verb is not ("diff" or "inspect" or "pull" or "catalog" or "pack" or "tokenize" or "labels" or "status" or "merge"),
            outcome.Output.Contains("  --device NAME", StringComparison.Ordinal));
        Assert.Contains("  --json", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void The_program_lists_every_verb_in_one_group_and_its_version()
    {
        string[] verbs = VerbsOfHelp();
        Assert.Equal(verbs.Distinct(), verbs);
        Outcome bad = Program.Run("nonsense");
        Assert.All(verbs, v => Assert.Contains(v, bad.Error, StringComparison.Ordinal));
        string help = Program.Run("help").Output;
        Assert.Equal(help, Program.Run("--help").Output);
        Assert.DoesNotContain("Other verbs", help, StringComparison.Ordinal);
        Assert.All(help.Split('\n'), line => Assert.True(line.Length <= 100, line));
        Assert.StartsWith("0.", Program.RunAlone("--version").Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("did you mean 'features'?", "featurs", "x")]
    [InlineData("did you mean 'generate'?", "genrate", "x")]
    [InlineData("did you mean 'tokenize'?", "tokenise", "x")]
    [InlineData("did you mean 'inspect'?", "insp", "x")]
    [InlineData("did you mean 'doctor'?", "help", "docter")]
    [InlineData("help shows one verb at a time; 'run' is left over.", "help", "features", "run")]
    [InlineData("did you mean '--top'?", "features", "x", "--tpo", "3")]
    [InlineData("did you mean '--max-new-tokens'?", "generate", "x", "--max-new-token=3")]
    [InlineData("did you mean '--device'?", "run", "x", "--devise", "cpu")]
    [InlineData("there is no verb 'xyzzy'; there are features", "xyzzy")]
    [InlineData("a verb comes first, and '--' after it", "--", "run", "And")]
    [InlineData("a verb comes first, and '--' after it", "--json", "--", "run", "And")]
    [InlineData("there is no option '--zzzz'; a text", "features", "--zzzz")]
    [InlineData("there is no option '--version'; a text", "features", "--version")]
    public void A_misspelt_name_gets_a_suggestion_where_one_is_near(string words, params string[] arguments) => Program.Run(arguments)
        .AssertFailed(2, words);

    [Theory]
    [InlineData("kernelscope fea", "features")]
    [InlineData("kernelscope features --to", "--top", "--tokens", "--tokens-file")]
    [InlineData("kernelscope features --device r", "reference")]
    [InlineData("kernelscope run x --sae transcoder.3", "transcoder.3.1k.l0_20")]
    [InlineData("kernelscope help dif", "diff")]
    public void A_shell_is_told_how_a_word_can_go_on(string line, params string[] words)
    {
        Outcome outcome = Program.Run($"[suggest:{line.Length.ToString(CultureInfo.InvariantCulture)}]", line);
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
        string last = line[(line.LastIndexOf(' ') + 1)..];
        IEnumerable<string> offered = outcome.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Where(w => w.StartsWith(last, StringComparison.Ordinal));
        Assert.Equal(words.Order(StringComparer.Ordinal), offered.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void A_trace_is_shown_to_those_who_ask()
    {
        Outcome outcome = Program.RunWith(null, new Dictionary<string, string> { ["KERNELSCOPE_TRACE"] = "1" }, "features", "x", "--sae",
            "/no/such/sae");
        Assert.Equal(1, outcome.ExitCode);
        Assert.Contains("   at KernelScope.", outcome.Error, StringComparison.Ordinal);
    }

    /// <summary>The verbs, from the groups of the help; those of other lines are indented further.</summary>
    private static string[] VerbsOfHelp()
    {
        string help = Program.Run("--help").Output;
        string[] groups = ["Look inside a model:", "Measure and compare:", "Runs on disk, on one machine or many:",
            "Files, models and this machine:"];
        var verbs = new List<string>();
        bool inside = false;
        foreach (string line in help.Split('\n'))
        {
            inside = line.Length > 0 && line[0] != ' ' ? groups.Contains(line.TrimEnd()) : inside && line.Length > 0;
            if (inside && line.StartsWith("  ", StringComparison.Ordinal) && line[2] != ' '
                && line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[0] is not "help" and string verb)
                verbs.Add(verb);
        }

        return [.. verbs];
    }

    /// <summary>The examples in the help of a verb.</summary>
    internal static string[] Examples(string verb)
    {
        string[] lines = Help(verb).Output.Split('\n');
        int first = Array.FindIndex(lines, l => l is "Example:" or "Examples:") + 1;
        return [.. lines[first..].TakeWhile(l => l.StartsWith("  ", StringComparison.Ordinal)).Select(l => l.Trim())];
    }

    /// <summary>What <c>help VERB</c> gives; a process for each verb, not for each question.</summary>
    private static Outcome Help(string verb) => Helps.GetOrAdd(verb, v => Program.Run("help", v));
}

using System.Globalization;

namespace KernelScope.Bench;

/// <summary>What was asked for on the command line.</summary>
internal sealed record Options
{
    /// <summary>The words of the command line that take a value, and what they mean.</summary>
    public const string Usage = """
        [--filter "WORDS"]     only cases whose name holds every one of these words
        [--rounds 5]           rounds in which the limit, ours and the peers take turns
        [--threads N]          threads of ours and of every peer (default: one a core)
        [--layers 6]           layers of the simulated model (Gemma 2 2B has 26)
        [--folder DIR]         where files of random weights are put for the time of a case
        [--out FILE.json]      merges the results into a file and writes the table beside it as FILE.md
        [--list]               prints the names of the cases
        """;

    public string[] Words { get; private init; } = [];

    public int Rounds { get; private init; } = 5;

    public int Threads { get; private init; } = Environment.ProcessorCount;

    public int Layers { get; private init; } = 6;

    public string Folder { get; private init; } = Path.GetTempPath();

    public string? Out { get; private init; }

    public bool List { get; private init; }

    /// <summary>Reads the command line.</summary>
    /// <exception cref="ArgumentException">An unknown word, or one without its value.</exception>
    public static Options Parse(ReadOnlySpan<string> args)
    {
        var options = new Options();
        for (int n = 0; n < args.Length; n++)
        {
            if (args[n] == "--list")
            {
                options = options with { List = true };
                continue;
            }

            if (n + 1 == args.Length)
                throw new ArgumentException($"'{args[n]}' is unknown or lacks its value. Options:\n{Usage}");
            options = options.With(args[n], args[++n]);
        }

        return options;
    }

    /// <summary>Whether a case was asked for.</summary>
    public bool Wants(string name)
    {
        string[] has = name.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return Words.All(word => has.Contains(word));
    }

    private Options With(string word, string value) => word switch
    {
        "--filter" => this with { Words = value.Split(' ', StringSplitOptions.RemoveEmptyEntries) },
        "--rounds" => this with { Rounds = Number(value) },
        "--threads" => this with { Threads = Number(value) },
        "--layers" => this with { Layers = Number(value) },
        "--folder" => this with { Folder = value },
        "--out" => this with { Out = value },
        _ => throw new ArgumentException($"'{word}' is unknown. Options:\n{Usage}"),
    };

    private static int Number(string value) => int.TryParse(value, CultureInfo.InvariantCulture, out int number) && number > 0
        ? number
        : throw new ArgumentException($"'{value}' is not a number above 0.");
}

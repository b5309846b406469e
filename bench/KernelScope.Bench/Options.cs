using System.Globalization;
using KernelScope.Bench.Cases;

namespace KernelScope.Bench;

/// <summary>What was asked for on the command line.</summary>
internal sealed record Options
{
    /// <summary>The words of the command line, and what they mean.</summary>
    public const string Usage = """
        [--filter "WORDS"]     only cases whose name holds every one of these words
        [--quick]              only the cases of the table in bench/README.md, 3 rounds, 15 seconds of rounds a case
        [--rounds 5]           rounds in which the limit, ours and the peers take turns
        [--case-seconds 60]    no new round of a case begins after so many seconds
        [--threads N]          threads of ours and of every peer (default: one a core)
        [--layers 6]           layers of the cases 'decode N-layers+logits products' (Gemma 2 2B has 26)
        [--folder DIR]         where files of random values are put for the time of a few cases
        [--weights DIR]        where the whole model's random weights are put: 5.2 GB, and 3.9 more where they are packed
        [--keep]               leaves the whole model's weights there, for the next run
        [--llama-bench PATH]   llama.cpp's llama-bench, which then takes turns with the whole model
        [--gguf FILE]          a bfloat16 model of Gemma 2 2B for it (default: the same random weights, written as GGUF, 5.2 GB more)
        [--gemma-cpp PATH]     gemma.cpp's program gemma, likewise
        [--sbs FILE]           its weights; needed with --gemma-cpp
        [--sbs-tokenizer FILE] its tokenizer, where the weights hold none
        [--out FILE.json]      merges the results into a file and writes the table beside it as FILE.md
        [--list]               prints the names of the cases
        """;

    public string[] Words { get; private init; } = [];

    public bool Quick { get; private init; }

    public int Rounds { get; private init; } = 5;

    public int CaseSeconds { get; private init; } = 60;

    public int Threads { get; private init; } = Environment.ProcessorCount;

    public int Layers { get; private init; } = 6;

    public string Folder { get; private init; } = Path.GetTempPath();

    public string Weights { get; private init; } = Path.Combine(Path.GetTempPath(), "kernelscope-bench-2b");

    public bool Keep { get; private init; }

    public string? LlamaBench { get; private init; }

    public string? Gguf { get; private init; }

    public string? GemmaCpp { get; private init; }

    public string? Sbs { get; private init; }

    public string? SbsTokenizer { get; private init; }

    public string? Out { get; private init; }

    public bool List { get; private init; }

    /// <summary>Reads the command line.</summary>
    /// <exception cref="ArgumentException">An unknown word, one without its value, or one that needs another.</exception>
    public static Options Parse(ReadOnlySpan<string> args)
    {
        var options = new Options();
        for (int n = 0; n < args.Length; n++)
        {
            if (options.WithFlag(args[n]) is { } flagged)
            {
                options = flagged;
                continue;
            }

            if (n + 1 == args.Length)
                throw new ArgumentException($"'{args[n]}' is unknown or lacks its value. Options:\n{Usage}");
            options = options.With(args[n], args[++n]);
        }

        if ((options.GemmaCpp is null) != (options.Sbs is null))
            throw new ArgumentException("--gemma-cpp and --sbs need each other: the program, and the weights it reads.");
        return options.Gguf is null || options.LlamaBench is not null ? options
            : throw new ArgumentException("--gguf is for --llama-bench, which was not given.");
    }

    /// <summary>Whether a case was asked for.</summary>
    public bool Wants(string name)
    {
        string[] has = name.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return Words.All(word => has.Contains(word)) && (!Quick || QuickCases.Names.Contains(name));
    }

    private Options? WithFlag(string word) => word switch
    {
        "--quick" => this with { Quick = true, Rounds = 3, CaseSeconds = 15 },
        "--keep" => this with { Keep = true },
        "--list" => this with { List = true },
        _ => null,
    };

    private Options With(string word, string value) => word switch
    {
        "--filter" => this with { Words = value.Split(' ', StringSplitOptions.RemoveEmptyEntries) },
        "--rounds" => this with { Rounds = Number(value) },
        "--case-seconds" => this with { CaseSeconds = Number(value) },
        "--threads" => this with { Threads = Number(value) },
        "--layers" => this with { Layers = Number(value) },
        "--folder" => this with { Folder = value },
        "--weights" => this with { Weights = value },
        "--llama-bench" => this with { LlamaBench = value },
        "--gguf" => this with { Gguf = value },
        "--gemma-cpp" => this with { GemmaCpp = value },
        "--sbs" => this with { Sbs = value },
        "--sbs-tokenizer" => this with { SbsTokenizer = value },
        "--out" => this with { Out = value },
        _ => throw new ArgumentException($"'{word}' is unknown. Options:\n{Usage}"),
    };

    private static int Number(string value) => int.TryParse(value, CultureInfo.InvariantCulture, out int number) && number > 0
        ? number
        : throw new ArgumentException($"'{value}' is not a number above 0.");
}

using System.CommandLine;
using System.Text;
using System.Text.Json;
using KernelScope.Files;
using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary>The corpus of a run: one or several files, how documents become sequences, and where it ends.</summary>
internal sealed class CorpusOptions
{
    private const int DefaultContext = 1024;
    private readonly Option<string?> _textFile = new("--text-file")
    {
        Description = "UTF-8 text; a file is a document, a folder all its *.txt. '-' is standard input.",
        HelpName = "F",
    };
    private readonly Option<string?> _tokensFile = new("--tokens-file")
    {
        Description = "Token ids, taken as they are: a JSON list of lists, or {\"sequences\": [...]}; a folder: all its *.json.",
        HelpName = "F.json",
    };
    private readonly Option<string?> _jsonl = new("--jsonl")
    {
        Description = "A document on each line: a JSON string, a list of ids, {\"text\": ...} or {\"ids\": [...]}; a folder: all its " +
            "*.jsonl. It may be larger than memory.",
        HelpName = "F",
    };
    private readonly Option<string?> _documents = new("--documents")
    {
        Description = "packed: documents follow each other and every sequence is full; separate: a sequence holds one document, a long " +
            "one is cut. Default: packed for text, separate for --tokens-file.",
        HelpName = "packed|separate",
    };

    private readonly Option<int?> _context = new("--context")
    {
        Description = "Most tokens of a sequence, its BOS included. Default: 1024, or the model's context if that is shorter; the " +
            "longest list of --tokens-file.",
        HelpName = "N",
    };
    private readonly Option<long?> _sequences = new("--sequences") { Description = "Sequences after which the run ends.", HelpName = "N" };
    private readonly Option<long?> _rows = new("--rows")
    {
        Description = "The run ends with the sequence that has this row.",
        HelpName = "N",
    };

    public CorpusOptions(Command verb)
    {
        _documents.CompletionSources.Add("packed", "separate");
        _documents.Validators.Add(r => Parsing.Require(r, _documents, v => v is "packed" or "separate",
            "'{0}' is not a way to place documents: there are packed and separate."));
        _context.Validators.Add(r => Parsing.Require(r, _context, v => v >= 2,
            "--context is {0}; a sequence has at least 2 tokens, BOS and one more."));
        _sequences.Validators.Add(r => Parsing.Require(r, _sequences, v => v >= 1, "--sequences is {0}; it must be 1 or more."));
        _rows.Validators.Add(r => Parsing.Require(r, _rows, v => v >= 1, "--rows is {0}; it must be 1 or more."));
        foreach (Option option in All)
            verb.Options.Add(option);
    }

    /// <summary>All of them.</summary>
    public Option[] All => [_textFile, _tokensFile, _jsonl, _documents, _context, _sequences, _rows];

    /// <summary>Most sequences; null: all.</summary>
    public long? SequencesOf(ParseResult parsed) => parsed.GetValue(_sequences);

    /// <summary>Most rows; null: all.</summary>
    public long? RowsOf(ParseResult parsed) => parsed.GetValue(_rows);

    /// <summary>Opens the corpus.</summary>
    /// <returns>The corpus, most tokens of a sequence, and whether documents share sequences.</returns>
    public (Corpus Corpus, int Context, bool Packed) Open(ParseResult parsed, ModelFiles model)
    {
        (Option<string?> Option, CorpusKind Kind, string Ending)[] given =
            [.. new[] { (_textFile, CorpusKind.Text, ".txt"), (_tokensFile, CorpusKind.Tokens, ".json"),
                (_jsonl, CorpusKind.Jsonl, ".jsonl") }.Where(o => parsed.GetValue(o.Item1) is not null)];
        if (given.Length != 1)
            throw new UsageException(given.Length == 0 ? "the corpus is missing: --text-file F, --jsonl F or --tokens-file F.json."
                : $"{given[0].Option.Name} and {given[1].Option.Name} were given; one of them is the corpus.");
        string path = parsed.GetValue(given[0].Option)!;
        CorpusKind kind = given[0].Kind;
        bool packed = (parsed.GetValue(_documents) ?? (kind == CorpusKind.Tokens ? "separate" : "packed")) == "packed";
        var corpus = new Corpus(kind, Files(path, given[0].Ending, kind), model.Tokenizer, model.BosId, model.Config.VocabSize);
        int most = model.Config.ContextLength;
        int context = parsed.GetValue(_context) ?? (kind == CorpusKind.Tokens && !packed ? Longest(corpus, most)
            : Math.Min(DefaultContext, most));
        return context <= most ? (corpus, context, packed)
            : throw new WorkException($"--context is {context}; the context of {model.Name} holds {most}.");
    }

    private static int Longest(Corpus corpus, int most) => Math.Max(2,
        corpus.Sequences(int.MaxValue, packed: false).Max(s => s.Ids.Length)) is int longest && longest <= most ? longest
        : throw new WorkException($"the corpus has a sequence of more tokens than the model's context holds, {most}; --documents packed " +
            $"cuts it.");

    private static CorpusFile[] Files(string path, string ending, CorpusKind kind)
    {
        if (!Directory.Exists(path))
            return [File(path, kind)];
        string[] files = [.. FilesIn(path, ending, []).Order(StringComparer.Ordinal)];
        return files.Length > 0 ? [.. files.Select(f => File(f, kind))]
            : throw new WorkException($"{Printable.Escape(path)}: there is no *{ending} in this folder.");
    }

    /// <summary>The files of a folder and of those below it, links followed.</summary>
    /// <param name="folder">Where to look.</param>
    /// <param name="ending">What their names end with.</param>
    /// <param name="above">The folders on the way to it.</param>
    /// <exception cref="InvalidDataException">A link leads to a folder above it, whose files would be read again and again; or one of the
    /// files is a pipe or a device, which whoever asked for a folder did not mean.</exception>
    private static IEnumerable<string> FilesIn(string folder, string ending, FileStatus[] above)
    {
        FileStatus[] way = FileStatus.Of(folder) is FileStatus status ? [.. above, status] : above;
        foreach (string path in Directory.EnumerateFileSystemEntries(folder))
        {
            if (Directory.Exists(path))
            {
                if (FileStatus.Of(path) is FileStatus found && way.Any(f => (f.Inode, f.Device) == (found.Inode, found.Device)))
                    throw BadFile.At(path, "this link leads to a folder above it, so that its files would be read again and again.");
                foreach (string file in FilesIn(path, ending, way))
                    yield return file;
            }
            else if (path.EndsWith(ending, OperatingSystem.IsWindows() ? StringComparison.OrdinalIgnoreCase : StringComparison.Ordinal))
            {
                yield return FileStatus.Of(path)?.OddKind is string kind
                    ? throw BadFile.At(path, $"this is {kind}; in the folder of a corpus, regular files are read.") : path;
            }
        }
    }

    private static CorpusFile File(string path, CorpusKind kind)
    {
        string name = InputFile.NameOf(path);
        if (InputFile.IsDemo(path))
        {
            byte[] demo = kind == CorpusKind.Jsonl ? Encoding.UTF8.GetBytes(string.Join('\n',
                Encoding.UTF8.GetString(Demo.Corpus).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(Quoted)))
                : Demo.Corpus.ToArray();
            return new CorpusFile(name, () => new MemoryStream(demo, writable: false));
        }

        // What can be read once only (a pipe, standard input) is kept; a file is read again.
        if (path != "-" && new FileInfo(path) is { Exists: true, Length: > 0 } && !IsOdd(path))
            return new CorpusFile(name, () => new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
        byte[] bytes = InputFile.ReadAll(path);
        return new CorpusFile(name, () => new MemoryStream(bytes, writable: false));
    }

    /// <summary>A pipe, a device, or a link that leads nowhere.</summary>
    private static bool IsOdd(string path) => OperatingSystem.IsLinux() && FileStatus.Of(path) is not FileStatus { OddKind: null };

    private static string Quoted(string text) => $"\"{JsonEncodedText.Encode(text)}\"";
}

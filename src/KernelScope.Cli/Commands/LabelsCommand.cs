using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using KernelScope.Evaluation;
using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary><c>labels</c>: what somebody thinks that features mean, from files.</summary>
internal sealed class LabelsCommand : Verb
{
    private const string Import = "import", Search = "search";
    private readonly Argument<string> _action = new("import|search")
    {
        Description = "import: read files, say what they hold, write them as one with --out, or ready for use with --out-dir. search: " +
            "find labels by words, in the files of --labels and the demo's own.",
    };

    private readonly Argument<string[]> _words = new("PATH|WORD")
    {
        Description = "Files or folders to import; or the words to search for.",
        Arity = ArgumentArity.OneOrMore,
    };

    private readonly Option<string?> _out = new("--out")
    {
        Description = "Where imported labels go: JSON lines, by source and index.",
        HelpName = "F.jsonl",
    };

    private readonly Option<string?> _outFolder = new("--out-dir")
    {
        Description = "A folder for one file a source, DIR/MODEL/SOURCE.labels, with an index of its words: --labels DIR maps them " +
            "instead of reading them.",
        HelpName = "DIR",
    };

    private readonly Option<string[]> _labels = LabelOption.Create();
    private readonly Option<int> _count = new("--count")
    {
        Description = "Matches shown, best first.",
        HelpName = "N",
        DefaultValueFactory = _ => 20,
    };

    public LabelsCommand(CommonOptions common, VerbEnvironment environment) : base(
        "labels",
        "Reads labels of features as Neuronpedia exports them, and finds them by words. Nothing is fetched. Labels are guesses: test them.",
        "  kernelscope labels search girl",
        common,
        environment)
    {
        _count.Validators.Add(r => Parsing.Require(r, _count, v => v >= 1, "--count is {0}; it must be at least 1."));
        Arguments.Add(_action);
        Arguments.Add(_words);
        foreach (Option option in (Option[])[_out, _outFolder, _labels, _count])
            Options.Add(option);
    }

    public override CommonUse Uses => CommonUse.Json | CommonUse.Model;

    protected override void CheckOptions(ParseResult parsed)
    {
        string action = parsed.GetRequiredValue(_action);
        if (action is not (Import or Search))
            throw new UsageException($"'{Printable.Escape(action)}' is nothing that labels can do; there are import and search.");
        Belongs(parsed, action == Import, "import", _out, _outFolder);
        Belongs(parsed, action == Search, "search", _labels, _count);
    }

    protected override int Run(ParseResult parsed)
    {
        string[] words = parsed.GetRequiredValue(_words);
        return parsed.GetRequiredValue(_action) == Import ? ImportFiles(parsed, words) : SearchLabels(parsed, string.Join(' ', words));
    }

    private int ImportFiles(ParseResult parsed, string[] paths)
    {
        string? output = parsed.GetValue(_out);
        OutputPlaces.Require([("--out", output)], paths);
        string? model = Common.HasModel(parsed) ? LabelOption.ModelId(Common.ModelOf(parsed)) : null;
        string? folder = parsed.GetValue(_outFolder);
        FeatureLabels labels = folder is null ? FeatureLabels.Load(paths, model, Cancellation)
            : FeatureLabels.LoadToSave(paths, model, Cancellation);
        if (output is not null)
            Write(output, labels);
        if (folder is not null)
            Save(folder, labels);
        LabelSource[] sources = [.. labels.BySource
            .Select(t => new LabelSource(t.ModelId, t.Source, t.Count, t.Indexes.ToArray().Distinct().Count()))];
        LabelOption.SayRejected(labels, Streams);
        Written.Say(Streams, output);
        if (Common.JsonOf(parsed))
        {
            JsonOutput.Write(Streams, new LabelsImportResult(labels.All.Count, labels.Rejected, labels.FirstRejected, sources));
            return ExitCode.Done;
        }

        foreach (LabelSource source in sources)
        {
            string name = Printable.Escape($"{source.Model}/{source.Source}");
            Streams.Output.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"{name}: {source.Labels:N0} labels of {source.Features:N0} features"));
        }

        return ExitCode.Done;
    }

    private void Save(string folder, FeatureLabels labels)
    {
        try
        {
            labels.Save(folder, Cancellation);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new WorkException($"{Printable.Escape(folder)}: labels cannot be written there ({AtomicFile.Reason(e)}).");
        }

        Written.Say(Streams, folder);
    }

    private int SearchLabels(ParseResult parsed, string query)
    {
        FeatureLabels labels;
        using (var bench = Workbench.Open(parsed, this))
            labels = LabelOption.Read(parsed.GetValue(_labels), bench.Files, Streams, Cancellation);
        IReadOnlyList<LabelMatch> matches = labels.Search(query);
        LabelMatchRow[] rows = [.. matches.Take(parsed.GetValue(_count))
            .Select(m => new LabelMatchRow(m.Label.ModelId, m.Label.Source, m.Label.Index, m.Label.Description, m.Score))];
        if (Common.JsonOf(parsed))
        {
            JsonOutput.Write(Streams, new LabelsSearchResult(query, matches.Count, rows));
            return ExitCode.Done;
        }

        foreach (LabelMatchRow row in rows)
        {
            string label = $"{Printable.Escape(row.Source)} {row.Index.ToString(CultureInfo.InvariantCulture)}";
            Streams.Output.WriteLine($"{label}: {Printable.Escape(row.Description)}");
        }

        if (rows.Length == 0)
            Failure.WriteLine(Streams.Error, $"no label has '{query}'.");
        return ExitCode.Done;
    }

    /// <summary>One object a line, with the names that are read.</summary>
    private static void Write(string path, FeatureLabels labels)
    {
        using AtomicFile file = AtomicFile.Create(path);
        foreach (FeatureLabel label in labels.All)
        {
            using (var writer = new Utf8JsonWriter(file.Stream))
            {
                writer.WriteStartObject();
                writer.WriteString("modelId", label.ModelId);
                writer.WriteString("layer", label.Source);
                writer.WriteString("index", label.Index.ToString(CultureInfo.InvariantCulture));
                writer.WriteString("description", label.Description);
                (string, string?)[] more = [("id", label.Id), ("typeName", label.TypeName), ("explanationModelName", label.ModelName)];
                foreach ((string name, string? value) in more)
                {
                    if (value is not null)
                        writer.WriteString(name, value);
                }

                writer.WriteEndObject();
            }

            file.Stream.Write("\n"u8);
        }

        file.Commit();
    }
}

using System.CommandLine;
using KernelScope.Evaluation;

namespace KernelScope.Cli;

/// <summary>Labels of features, from files and from the demo.</summary>
internal static class LabelOption
{
    public static Option<string[]> Create() => new("--labels")
    {
        Description = "Labels of features, repeatable: a file or folder of JSON lines as Neuronpedia exports explanations (.jsonl, " +
            ".jsonl.gz), a JSON list, {\"explanations\": [...]}, or what labels import --out-dir wrote. Labels are guesses.",
        HelpName = "PATH",
    };

    /// <summary>What Neuronpedia calls a model: its name without its owner, in lower case.</summary>
    public static string ModelId(ModelFiles model) => model.IsDemo ? Demo.ModelName : ModelId(model.Name);

    /// <summary>The same of a name or a folder.</summary>
    public static string ModelId(string model) => Path.GetFileName(model.TrimEnd('/', '\\')).ToLowerInvariant();

    /// <summary>Gives SAEs the labels of files, if any were named.</summary>
    /// <exception cref="InvalidDataException">A file holds no label.</exception>
    public static void Give(string[]? paths, ModelFiles model, IEnumerable<SaeFiles> saes, Streams streams, CancellationToken cancellation)
    {
        if (paths is not { Length: > 0 })
            return;
        FeatureLabels labels = Read(paths, model, streams, cancellation);
        foreach (SaeFiles sae in saes)
            sae.Take(labels, ModelId(model));
    }

    /// <summary>Reads the files, and adds what is known of the demo's features.</summary>
    /// <exception cref="InvalidDataException">A file holds no label.</exception>
    public static FeatureLabels Read(string[]? paths, ModelFiles model, Streams streams, CancellationToken cancellation)
    {
        FeatureLabels read = FeatureLabels.None;
        if (paths is { Length: > 0 })
        {
            read = FeatureLabels.Load(paths, ModelId(model), cancellation);
            SayRejected(read, streams);
        }

        if (!model.IsDemo)
            return read;
        // The demo's own file names SAEs as the command line does.
        return read.With(
            Demo.SaeNames.SelectMany(sae => Demo.Meanings(sae).Select(m => Label(SourceName.OfDemo(sae), m.Key, m.Value))),
            source => Demo.SaeNames.Contains(source) ? SourceName.OfDemo(source) : source);
    }

    /// <summary>Says what was read and is not a label.</summary>
    public static void SayRejected(FeatureLabels labels, Streams streams)
    {
        if (labels.Rejected == 0)
            return;
        string count = labels.Rejected == 1 ? "1 entry is not a label" : $"{labels.Rejected} entries are not labels";
        Failure.WriteLine(streams.Error, $"{count}; the first: {labels.FirstRejected}");
    }

    private static FeatureLabel Label(string source, int index, string text) =>
        new() { ModelId = Demo.ModelName, Source = source, Index = index, Description = text };
}

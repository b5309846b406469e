namespace KernelScope.Evaluation;

/// <summary>Labels of features, by feature and by words.</summary>
/// <remarks>Immutable: any number of threads may use it.</remarks>
/// <example>
/// <code>
/// FeatureLabels labels = FeatureLabels.Load(["explanations/"]);
/// foreach (LabelMatch match in labels.Search("golden gate bridge"))
///     Console.WriteLine($"{match.Label.Source} {match.Label.Index}: {match.Label.Description}");
/// </code>
/// </example>
public sealed class FeatureLabels
{
    private readonly FeatureLabel[] _all;
    private readonly Dictionary<(string Model, string Source), (int First, int End)> _sources = [];
    private readonly Lazy<LabelIndex> _index;

    private FeatureLabels(IEnumerable<FeatureLabel> labels)
    {
        _all = [.. labels];
        // Stable: of one feature the labels stay in the order in which they were read.
        int[] order = [.. Enumerable.Range(0, _all.Length)];
        Array.Sort(order, (a, b) => Compare(_all[a], _all[b]) is int c and not 0 ? c : a.CompareTo(b));
        _all = Array.ConvertAll(order, i => _all[i]);
        for (int start = 0, i = 1; i <= _all.Length; i++)
        {
            if (i < _all.Length && Key(_all[i]) == Key(_all[start]))
                continue;
            _sources.Add(Key(_all[start]), (start, i));
            start = i;
        }

        _index = new Lazy<LabelIndex>(() => new LabelIndex(_all));
    }

    /// <summary>No labels.</summary>
    public static FeatureLabels None { get; } = new([]);

    /// <summary>All, by model, source and index.</summary>
    public IReadOnlyList<FeatureLabel> All => _all;

    /// <summary>Entries of the files that were not labels.</summary>
    public int Rejected { get; private init; }

    /// <summary>File, line and reason of the first of them; null: there was none.</summary>
    public string? FirstRejected { get; private init; }

    /// <summary>Labels that are at hand.</summary>
    /// <param name="labels">Any number.</param>
    /// <returns>The collection.</returns>
    public static FeatureLabels Create(IEnumerable<FeatureLabel> labels)
    {
        ArgumentNullException.ThrowIfNull(labels);
        return new FeatureLabels(labels);
    }

    /// <summary>
    /// Reads files or folders: JSON lines as Neuronpedia exports them (gzip or not), a JSON list, <c>{"explanations": […]}</c>. Nothing is
    /// fetched. Entries that are not labels are counted and left out.
    /// </summary>
    /// <param name="paths">Files or folders.</param>
    /// <param name="modelId">The model of entries that do not say theirs; null: they must.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>The labels.</returns>
    /// <exception cref="InvalidDataException">A file is not JSON at all; or no entry of them all is a label.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static FeatureLabels Load(IReadOnlyList<string> paths, string? modelId = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(paths);
        var reader = new LabelReader(modelId);
        foreach (string path in paths)
            reader.Read(path, cancellationToken);
        if (reader.Labels.Count == 0 && paths.Count > 0)
            throw new InvalidDataException(reader.FirstRejected ?? $"{paths[0]}: there is no label in it.");
        return new FeatureLabels(reader.Labels) { Rejected = reader.Rejected, FirstRejected = reader.FirstRejected };
    }

    /// <summary>The labels of a feature, in the order in which they were read.</summary>
    /// <param name="modelId">The model.</param>
    /// <param name="source">The source.</param>
    /// <param name="index">The feature.</param>
    /// <returns>None, one or several.</returns>
    public IReadOnlyList<FeatureLabel> Of(string modelId, string source, int index)
    {
        if (!_sources.TryGetValue((modelId, source), out (int First, int End) range))
            return [];
        int low = range.First, high = range.End;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_all[middle].Index < index)
                low = middle + 1;
            else
                high = middle;
        }

        int end = low;
        while (end < range.End && _all[end].Index == index)
            end++;
        return new ArraySegment<FeatureLabel>(_all, low, end - low);
    }

    /// <summary>The first label of each feature of a source.</summary>
    /// <param name="modelId">The model.</param>
    /// <param name="source">The source.</param>
    /// <returns>Texts by feature.</returns>
    public IReadOnlyDictionary<int, string> Meanings(string modelId, string source)
    {
        var meanings = new Dictionary<int, string>();
        if (_sources.TryGetValue((modelId, source), out (int First, int End) range))
        {
            for (int i = range.First; i < range.End; i++)
                meanings.TryAdd(_all[i].Index, _all[i].Description);
        }

        return meanings;
    }

    /// <summary>
    /// Finds labels by words, without case and accents. Score: for each word of the query ln(1 + n / n_w) where the label has it (n labels,
    /// n_w of them with the word), ½ where it only begins one of the label's; and 1 where the label has the whole query in its order. The
    /// best first; among equals by source and index.
    /// </summary>
    /// <param name="query">Words.</param>
    /// <param name="modelId">Of this model only; null: of all.</param>
    /// <param name="sources">Of these sources only; null: of all.</param>
    /// <returns>The matches, best first.</returns>
    public IReadOnlyList<LabelMatch> Search(string query, string? modelId = null, IReadOnlyCollection<string>? sources = null)
    {
        ArgumentNullException.ThrowIfNull(query);
        return _index.Value.Search(
            query, label => (modelId is null || label.ModelId == modelId) && (sources is null || sources.Contains(label.Source)));
    }

    private static (string, string) Key(FeatureLabel label) => (label.ModelId, label.Source);

    private static int Compare(FeatureLabel a, FeatureLabel b)
    {
        int model = string.CompareOrdinal(a.ModelId, b.ModelId);
        int source = model != 0 ? model : string.CompareOrdinal(a.Source, b.Source);
        return source != 0 ? source : a.Index.CompareTo(b.Index);
    }
}

/// <summary>A label that a search found.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct LabelMatch
{
    internal LabelMatch(FeatureLabel label, double score)
    {
        Label = label;
        Score = score;
    }

    /// <summary>The label.</summary>
    public FeatureLabel Label { get; init; }

    /// <summary>How well it fits; see <see cref="FeatureLabels.Search"/>.</summary>
    public double Score { get; init; }
}

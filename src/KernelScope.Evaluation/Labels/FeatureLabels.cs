using System.Runtime.ExceptionServices;

namespace KernelScope.Evaluation;

/// <summary>Labels of features, by feature and by words.</summary>
/// <remarks>Immutable: any number of threads may use it. Files that <see cref="Save"/> wrote stay mapped while it is in use.</remarks>
/// <example>
/// <code>
/// FeatureLabels labels = FeatureLabels.Load(["explanations/"]);
/// foreach (LabelMatch match in labels.Search("golden gate bridge"))
///     Console.WriteLine($"{match.Label.Source} {match.Label.Index}: {match.Label.Description}");
/// </code>
/// </example>
public sealed class FeatureLabels
{
    private readonly LabelTable[] _tables;
    private readonly Dictionary<(string Model, string Source), LabelTable> _byName;

    private FeatureLabels(IEnumerable<LabelTable> tables)
    {
        _tables = [.. tables.OrderBy(t => t.ModelId, StringComparer.Ordinal).ThenBy(t => t.Source, StringComparer.Ordinal)];
        _byName = _tables.ToDictionary(t => (t.ModelId, t.Source));
        int[] starts = new int[_tables.Length + 1];
        for (int i = 0; i < _tables.Length; i++)
            starts[i + 1] = starts[i] + _tables[i].Count;
        All = new LazyList<FeatureLabel>(starts[^1], at =>
        {
            int found = Array.BinarySearch(starts, at), table = found < 0 ? ~found - 1 : Array.LastIndexOf(starts, at);
            return _tables[table][at - starts[table]];
        });
    }

    /// <summary>A set without labels.</summary>
    public static FeatureLabels None { get; } = new([]);

    /// <summary>All, by model, source and index; of one feature in the order in which they were read.</summary>
    public IReadOnlyList<FeatureLabel> All { get; }

    /// <summary>The same, a table for each source.</summary>
    internal IReadOnlyList<LabelTable> BySource => _tables;

    /// <summary>Entries of the files that were not labels.</summary>
    public int Rejected { get; private init; }

    /// <summary>File, line and reason of the first of them; null: there was none.</summary>
    public string? FirstRejected { get; private init; }

    /// <summary>A set of labels that are in memory.</summary>
    /// <param name="labels">Any number.</param>
    /// <returns>The collection.</returns>
    public static FeatureLabels Create(IEnumerable<FeatureLabel> labels)
    {
        ArgumentNullException.ThrowIfNull(labels);
        return new FeatureLabels(Tables(labels));
    }

    /// <summary>
    /// Reads files or folders: JSON lines as Neuronpedia exports them (gzip or not), a JSON list, <c>{"explanations": […]}</c>, and what
    /// <see cref="Save"/> wrote, which is mapped. Nothing is fetched. Entries that are not labels are counted and left out.
    /// </summary>
    /// <param name="paths">Files or folders.</param>
    /// <param name="modelId">The model of entries that do not say theirs; null: they must.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>The labels.</returns>
    /// <exception cref="InvalidDataException">A file is not JSON at all, or damaged; or no entry of them all is a label.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static FeatureLabels Load(IReadOnlyList<string> paths, string? modelId = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(paths);
        return Read(new LabelReader(modelId), paths, cancellationToken);
    }

    /// <summary>The same; what <see cref="Save"/> cannot name a file by is not a label.</summary>
    internal static FeatureLabels LoadToSave(IReadOnlyList<string> paths, string? modelId, CancellationToken cancellationToken) =>
        Read(new LabelReader(modelId, namesAreFiles: true), paths, cancellationToken);

    private static FeatureLabels Read(LabelReader reader, IReadOnlyList<string> paths, CancellationToken cancellationToken)
    {
        foreach (string path in paths)
            reader.Read(path, cancellationToken);
        if (reader.Labels.Count == 0 && reader.Tables.Count == 0 && paths.Count > 0)
            throw new InvalidDataException(reader.FirstRejected ?? $"{paths[0]}: there is no label in it.");
        return new FeatureLabels(Joined([.. reader.Tables, .. Tables(reader.Labels)]))
        {
            Rejected = reader.Rejected,
            FirstRejected = reader.FirstRejected,
        };
    }

    /// <summary>
    /// Writes a file for each source, <c>folder/model/source.labels</c>, with an index of its words: <see cref="Load"/> maps it, and a
    /// search in it begins at once.
    /// </summary>
    /// <param name="folder">Where; made if it is not there. Files of the same names are replaced.</param>
    /// <param name="cancellationToken">Stops it between two files.</param>
    /// <exception cref="InvalidDataException">A model or a source has a name that no file can have.</exception>
    /// <exception cref="IOException">A file cannot be written.</exception>
    public void Save(string folder, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        string[] paths = [.. _tables.Select(t => Path.Combine(folder, FileNameOf(t.ModelId), FileNameOf(t.Source) + LabelFile.Extension))];
        if (paths.GroupBy(p => p, StringComparer.OrdinalIgnoreCase).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new InvalidDataException($"{twice.Key}: two sources would have this file.");
        foreach (string path in paths)
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        try
        {
            // Finding the words of many labels is what takes the time.
            Parallel.For(0, paths.Length, new ParallelOptions { CancellationToken = cancellationToken },
                i => LabelFile.Write(paths[i], _tables[i]));
        }
        catch (AggregateException e) when (e.InnerExceptions is [var first, ..])
        {
            ExceptionDispatchInfo.Throw(first);
        }

        GC.KeepAlive(this);
    }

    /// <summary>These, some of them under another source's name, and more behind them.</summary>
    internal FeatureLabels With(IEnumerable<FeatureLabel> more, Func<string, string> nameOf)
    {
        IEnumerable<LabelTable> renamed = _tables.Select(t => nameOf(t.Source) is string name && name != t.Source
            ? LabelTable.Create(t.ModelId, name, LabelsOf(t)) : t);
        return new FeatureLabels(Joined([.. renamed, .. Tables(more)])) { Rejected = Rejected, FirstRejected = FirstRejected };
    }

    /// <summary>The labels of a feature, in the order in which they were read.</summary>
    /// <param name="modelId">The model.</param>
    /// <param name="source">The source.</param>
    /// <param name="index">The feature.</param>
    /// <returns>None, one or several.</returns>
    public IReadOnlyList<FeatureLabel> Of(string modelId, string source, int index)
    {
        if (!_byName.TryGetValue((modelId, source), out LabelTable? table))
            return [];
        (int first, int end) = table.RowsOf(index);
        return [.. Enumerable.Range(first, end - first).Select(row => table[row])];
    }

    /// <summary>The first label of each feature of a source.</summary>
    /// <param name="modelId">The model.</param>
    /// <param name="source">The source.</param>
    /// <returns>Texts by feature.</returns>
    public IReadOnlyDictionary<int, string> Meanings(string modelId, string source)
    {
        var meanings = new Dictionary<int, string>();
        if (!_byName.TryGetValue((modelId, source), out LabelTable? table))
            return meanings;
        for (int row = 0; row < table.Count; row++)
        {
            if (!meanings.ContainsKey(table.Indexes.Span[row]))
                meanings.Add(table.Indexes.Span[row], table.TextOf(row));
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
        List<(LabelTable Table, int Row, double Score)> found = new LabelSearch(_tables, query).Run(
            table => (modelId is null || table.ModelId == modelId) && (sources is null || sources.Contains(table.Source)));
        GC.KeepAlive(this);
        return new LazyList<LabelMatch>(found.Count, at => new LabelMatch(found[at].Table[found[at].Row], found[at].Score));
    }

    /// <summary>A table for each source, in the order in which sources first come.</summary>
    private static IEnumerable<LabelTable> Tables(IEnumerable<FeatureLabel> labels)
    {
        var bySource = new Dictionary<(string Model, string Source), List<FeatureLabel>>();
        foreach (FeatureLabel label in labels)
        {
            if (!bySource.TryGetValue((label.ModelId, label.Source), out List<FeatureLabel>? list))
                bySource.Add((label.ModelId, label.Source), list = []);
            list.Add(label);
        }

        return bySource.Select(s => LabelTable.Create(s.Key.Model, s.Key.Source, s.Value));
    }

    /// <summary>One table for each source: of several, their labels one after the other.</summary>
    private static IEnumerable<LabelTable> Joined(IEnumerable<LabelTable> tables) => tables.GroupBy(t => (t.ModelId, t.Source))
        .Select(g => g.Count() == 1 ? g.First()
            : LabelTable.Create(g.Key.ModelId, g.Key.Source, g.SelectMany(LabelsOf)));

    private static IEnumerable<FeatureLabel> LabelsOf(LabelTable table) => Enumerable.Range(0, table.Count).Select(row => table[row]);

    private static string FileNameOf(string name) =>
        LabelFile.WrongName(name) is string wrong ? throw new InvalidDataException(wrong) : name;

    /// <summary>A list whose items are made when somebody asks for them.</summary>
    private sealed class LazyList<T>(int count, Func<int, T> item) : IReadOnlyList<T>
    {
        public int Count => count;

        public T this[int index] => (uint)index < (uint)count ? item(index) : throw new ArgumentOutOfRangeException(nameof(index));

        public IEnumerator<T> GetEnumerator() => Enumerable.Range(0, count).Select(item).GetEnumerator();

        System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
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

    /// <summary>The label that matches.</summary>
    public FeatureLabel Label { get; init; }

    /// <summary>How well it fits; see <see cref="FeatureLabels.Search"/>.</summary>
    public double Score { get; init; }
}

namespace KernelScope.Evaluation;

/// <summary>The labels of one source, sorted by index; those of one feature in the order in which they were read. In memory or in a mapped file.</summary>
/// <remarks>Immutable. Whoever takes spans of it keeps it reachable (<see cref="GC.KeepAlive"/>): they may lie in the mapping.</remarks>
internal sealed class LabelTable
{
    private readonly Lazy<LabelWords> _words;

    /// <param name="words">Its words, if they are known.</param>
    public LabelTable(LabelWords? words = null) =>
        _words = words is null ? new Lazy<LabelWords>(() => LabelWords.Create(this)) : new Lazy<LabelWords>(words);

    public required string ModelId { get; init; }

    public required string Source { get; init; }

    /// <summary>The feature of each label.</summary>
    public required ReadOnlyMemory<int> Indexes { get; init; }

    public required Ragged<byte> Texts { get; init; }

    /// <summary>Empty where a label has no id.</summary>
    public required Ragged<byte> Ids { get; init; }

    /// <summary>What <see cref="Types"/> and <see cref="Makers"/> name.</summary>
    public required Ragged<byte> Names { get; init; }

    /// <summary>The name of how each label was made; −1: not said.</summary>
    public required ReadOnlyMemory<int> Types { get; init; }

    /// <summary>The name of the model that made it; −1: not said.</summary>
    public required ReadOnlyMemory<int> Makers { get; init; }

    public int Count => Indexes.Length;

    /// <summary>Which labels have which words; made when it is first asked for.</summary>
    public LabelWords Words => _words.Value;

    public FeatureLabel this[int row]
    {
        get
        {
            var label = new FeatureLabel
            {
                ModelId = ModelId,
                Source = Source,
                Index = Indexes.Span[row],
                Description = TextOf(row),
                Id = Ids[row].IsEmpty ? null : Ids.Text(row),
                TypeName = Types.Span[row] < 0 ? null : Names.Text(Types.Span[row]),
                ModelName = Makers.Span[row] < 0 ? null : Names.Text(Makers.Span[row]),
            };
            GC.KeepAlive(this);
            return label;
        }
    }

    /// <summary>The text as it may be shown, wherever the file came from.</summary>
    public string TextOf(int row)
    {
        string text = LabelReader.Clean(Texts.Text(row));
        GC.KeepAlive(this);
        return text;
    }

    public static LabelTable Create(string modelId, string source, IEnumerable<FeatureLabel> labels)
    {
        var names = new Dictionary<string, int>(StringComparer.Ordinal);
        var texts = new RaggedBuilder<byte>();
        var ids = new RaggedBuilder<byte>();
        var listed = new RaggedBuilder<byte>();
        List<int> indexes = [], types = [], makers = [];
        foreach (FeatureLabel label in labels.OrderBy(l => l.Index))
        {
            indexes.Add(label.Index);
            texts.Add(label.Description);
            ids.Add(label.Id);
            types.Add(NameOf(label.TypeName));
            makers.Add(NameOf(label.ModelName));
        }

        return new LabelTable
        {
            ModelId = modelId,
            Source = source,
            Indexes = indexes.ToArray(),
            Texts = texts.ToRagged(),
            Ids = ids.ToRagged(),
            Names = listed.ToRagged(),
            Types = types.ToArray(),
            Makers = makers.ToArray(),
        };

        int NameOf(string? name)
        {
            if (name is null)
                return -1;
            if (!names.TryGetValue(name, out int number))
            {
                names.Add(name, number = names.Count);
                listed.Add(name);
            }

            return number;
        }
    }

    /// <summary>The labels of a feature: the first, and the one behind the last.</summary>
    public (int First, int End) RowsOf(int feature)
    {
        ReadOnlySpan<int> indexes = Indexes.Span;
        int low = 0, high = indexes.Length;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (indexes[middle] < feature)
                low = middle + 1;
            else
                high = middle;
        }

        int end = low;
        while (end < indexes.Length && indexes[end] == feature)
            end++;
        GC.KeepAlive(this);
        return (low, end);
    }
}

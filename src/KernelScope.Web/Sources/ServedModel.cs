using System.Text.Json;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Runtime;
using KernelScope.Text;
using KernelScope.Web.Contract;
using KernelScope.Web.Dashboards;

namespace KernelScope.Web.Sources;

/// <summary>The model that is served: its sources, its labels, and the rules of prompts.</summary>
internal sealed class ServedModel : IDisposable
{
    private const int MostBytes = 100_000, MostPrompts = 4;
    private readonly Dictionary<string, ServedSource> _byId;
    private readonly Dictionary<ServedSource, SourceCorpus>? _corpora;
    private readonly Dictionary<ServedSource, DashboardFolder> _dashboards = [];

    public ServedModel(KernelScopeEngine engine, KernelScopeWebOptions options)
    {
        Engine = engine;
        Options = options;
        Tokenizer = engine.Tokenizer ?? throw new ArgumentException("The engine's model has no tokenizer, and requests are texts.");
        Id = (options.ModelId ?? LastPart(engine.ModelName)).ToLowerInvariant();
        Sources = [.. engine.Saes.Values.Select(s => new ServedSource(s))];
        _byId = new Dictionary<string, ServedSource>(StringComparer.OrdinalIgnoreCase);
        foreach (ServedSource source in Sources)
        {
            if (!_byId.TryAdd(source.Id, source))
                throw new ArgumentException($"Two SAEs have the source id '{source.Id}'; give one of them another name.");
        }

        Labels = options.Labels ?? FeatureLabels.None;
        if (options.Corpus is TokenSet corpus)
            _corpora = Sources.ToDictionary(s => s, s => new SourceCorpus(engine, s, corpus, options.CorpusName));
        try
        {
            foreach (string folder in options.Dashboards)
                Take(folder);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string Id { get; }

    public KernelScopeEngine Engine { get; }

    public KernelScopeWebOptions Options { get; }

    public GemmaTokenizer Tokenizer { get; }

    public IReadOnlyList<ServedSource> Sources { get; }

    public FeatureLabels Labels { get; }

    public Gemma2Config Config => Engine.Model.Config;

    public int BosId => Tokenizer.BosId >= 0 ? Tokenizer.BosId : Config.BosId;

    /// <summary>Most tokens of a prompt.</summary>
    public int MaxPromptTokens => Math.Min(Options.MaxPromptTokens, Engine.ContextLength);

    /// <summary>What a source does over the corpus; null: there is none.</summary>
    public SourceCorpus? CorpusOf(ServedSource source) => _corpora?[source];

    /// <summary>The stored pages of a source; null: there are none.</summary>
    public DashboardFolder? DashboardOf(ServedSource source) => _dashboards.GetValueOrDefault(source);

    /// <summary>The share of positions on which a feature fires; null while that is not known.</summary>
    public double? Density(ServedSource source, int feature) =>
        DashboardOf(source) is { } dashboard && dashboard.Has(feature) ? dashboard.Density(feature) : CorpusOf(source)?.Density(feature);

    /// <summary>
    /// Whether a feature is known to fire on more than a share of positions, and not by so few that the share is a guess.
    /// </summary>
    public bool IsDenser(ServedSource source, int feature, double share)
    {
        if (DashboardOf(source) is { } dashboard && dashboard.Has(feature))
            return SourceCorpus.IsEnough(dashboard.Info.CountedPositions, share) && dashboard.Density(feature) > share;
        return CorpusOf(source)?.IsDenser(feature, share) ?? false;
    }

    /// <summary>A source by its id; null if there is none.</summary>
    public ServedSource? Find(string id) => _byId.GetValueOrDefault(id);

    /// <exception cref="Refusal">404.</exception>
    public ServedSource Source(string id) => Find(id)
        ?? throw Refusal.NotFound($"There is no source '{Printable(id)}'; there are {string.Join(", ", Sources.Select(s => s.Id))}.");

    /// <summary>The sources of a set, in the order in which they were given; of some, those.</summary>
    /// <exception cref="Refusal">There is none.</exception>
    public IReadOnlyList<ServedSource> SourcesOf(string set, IReadOnlyList<string> selected)
    {
        if (selected.Count > 0)
            return [.. selected.Select(Source).Distinct()];
        ServedSource[] all = [.. Sources.Where(s => string.Equals(s.SourceSet, set, StringComparison.OrdinalIgnoreCase))];
        return all.Length > 0 ? all : throw Refusal.NotFound(
            $"There is no source set '{Printable(set)}'; there are {string.Join(", ", Sources.Select(s => s.SourceSet).Distinct())}.");
    }

    /// <exception cref="Refusal">404: it is another model.</exception>
    public void RequireModel(string id)
    {
        if (!string.Equals(id, Id, StringComparison.OrdinalIgnoreCase))
            throw Refusal.NotFound($"There is no model '{Printable(id)}' here; this server has {Id}.");
    }

    /// <exception cref="Refusal">404: the source has no such feature.</exception>
    public static int Feature(ServedSource source, int index) => index >= 0 && index < source.FeatureCount ? index
        : throw Refusal.NotFound($"There is no feature {index} in {source.Id}; it has features 0 to {source.FeatureCount - 1}.");

    /// <summary>The feature that a body of <c>/api</c> names: its model, its source by either of two names, its index.</summary>
    /// <exception cref="Refusal">404: there is no such; 400: the names are of two.</exception>
    public (ServedSource Source, int Index) Named(JsonElement entry)
    {
        RequireModel(entry.RequiredText("modelId"));
        ServedSource source = Source(entry.Text("layer") ?? entry.RequiredText("source"));
        if (entry.Text("source") is string other && Source(other) != source)
            throw Refusal.Bad("layer and source are two names of one thing, and here they name two.", "source");
        return (source, Feature(source, entry.RequiredWhole("index")));
    }

    /// <summary>The ids of a prompt: BOS, once, then the text's.</summary>
    /// <exception cref="Refusal">400: it is too long.</exception>
    public int[] Prompt(string text, bool prependBos = true)
    {
        if (System.Text.Encoding.UTF8.GetByteCount(text) > MostBytes)
            throw Refusal.Bad($"Text too long: more than {MostBytes} bytes.");
        var ids = new List<int>();
        string bos = Tokenizer.Piece(BosId);
        if (text.StartsWith(bos, StringComparison.Ordinal))
        {
            ids.Add(BosId);
            text = text[bos.Length..];
        }
        else if (prependBos)
        {
            ids.Add(BosId);
        }

        Tokenizer.Encode(text, ids);
        return Fitting([.. ids]);
    }

    /// <exception cref="Refusal">400: it is too long. Clients match on the sentence.</exception>
    public int[] Fitting(int[] ids) => ids.Length <= MaxPromptTokens ? ids
        : throw Refusal.Bad($"Text too long: {ids.Length} tokens, max is {MaxPromptTokens}");

    /// <summary>Says that a prompt and its continuation do not fit.</summary>
    public string TooLong(int tokens, int newTokens) =>
        $"The prompt has {tokens} tokens, and {newTokens} new ones do not fit: the context holds {Engine.ContextLength}.";

    /// <exception cref="Refusal">400: none, or too many.</exception>
    public static string[] Prompts(string[] prompts, string field) => prompts.Length is >= 1 and <= MostPrompts ? prompts
        : throw Refusal.Bad($"{field} has {prompts.Length} texts; it must have 1 to {MostPrompts}.", field);

    /// <summary>The text of a token alone; what is not a whole character is U+FFFD.</summary>
    public string TokenText(int id) => !Tokenizer.Contains(id) || Tokenizer.IsControl(id) || id == Tokenizer.UnknownId
        ? Tokenizer.Contains(id) ? Tokenizer.Piece(id) : $"<{id}>"
        : Tokenizer.Decode([id]);

    public string[] TokenTexts(IReadOnlyList<int> ids) => [.. ids.Select(TokenText)];

    /// <summary>Whether a token is a mark and not text: BOS, EOS, padding, the ends of turns.</summary>
    public bool IsSpecial(int id) => Tokenizer.Contains(id)
        && (Tokenizer.IsControl(id) || Tokenizer.Piece(id) is "<start_of_turn>" or "<end_of_turn>");

    public void Dispose()
    {
        foreach (DashboardFolder dashboard in _dashboards.Values)
            dashboard.Dispose();
    }

    private void Take(string path)
    {
        var folder = DashboardFolder.Open(path);
        try
        {
            DashboardInfo info = folder.Info;
            if (!string.Equals(info.ModelId, Id, StringComparison.OrdinalIgnoreCase))
                throw BadFile.At(path, $"its pages are of the model {BadFile.Quote(info.ModelId)}; this one is {Id}.");
            if (!_byId.TryGetValue(info.Source, out ServedSource? source))
                throw BadFile.At(path, $"its pages are of the source {BadFile.Quote(info.Source)}, and there are " +
                    $"{string.Join(", ", Sources.Select(s => s.Id))}.");
            if (info.Features != source.FeatureCount || info.Site != source.Sae.Site.ToString())
                throw BadFile.At(path, $"its pages are of {info.Features} features at {BadFile.Quote(info.Site)}; {source.Id} has " +
                    $"{source.FeatureCount} at {source.Sae.Site}.");
            if (!_dashboards.TryAdd(source, folder))
                throw BadFile.At(path, $"another folder has pages of {source.Id} already.");
        }
        catch
        {
            folder.Dispose();
            throw;
        }
    }

    private static string Printable(string text) => new([.. text.Take(100).Select(c => char.IsControl(c) ? '?' : c)]);

    private static string LastPart(string name) =>
        name.TrimEnd('/', '\\').Split('/', '\\', ':')[^1] is { Length: > 0 } last ? last : "model";
}

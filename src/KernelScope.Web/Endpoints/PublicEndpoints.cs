using System.Globalization;
using System.Text.Json;
using KernelScope.Evaluation;
using KernelScope.Web.Contract;
using KernelScope.Web.Serving;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>The public calls that Neuronpedia's Python client makes.</summary>
internal static class PublicEndpoints
{
    private const int SearchPage = 20;
    private const string DensityHeader = "X-KernelScope-Density";

    public static async Task FeatureAsync(Call call)
    {
        RouteValueDictionary route = call.Http.Request.RouteValues;
        call.Model.RequireModel((string)route["model"]!);
        ServedSource source = call.Model.Source((string)route["source"]!);
        if (!int.TryParse((string)route["index"]!, NumberStyles.None, CultureInfo.InvariantCulture, out int index))
            throw Refusal.NotFound("A feature is named by its number.");
        await call.AnswerAsync(await FeatureRows.FullAsync(call.Model, source, ServedModel.Feature(source, index), call.Cancellation));
    }

    public static async Task FeaturesAsync(Call call)
    {
        var rows = new List<FeatureRow>();
        foreach (JsonElement entry in call.Body.EnumerateArray())
        {
            (ServedSource source, int index) = call.Model.Named(entry);
            FeatureRow row = await FeatureRows.FullAsync(call.Model, source, index, call.Cancellation);
            int most = Math.Max(0, entry.Whole("maxActsToReturn") ?? int.MaxValue);
            rows.Add(row with { Activations = [.. row.Activations.Take(most)] });
        }

        await call.AnswerAsync(new AnswerList(rows));
    }

    public static async Task ActivationNewAsync(Call call)
    {
        if (!call.Body.TryField("feature", out JsonElement named) && !call.Body.TryField("neuron", out named))
            throw Refusal.Bad("feature is missing.", "feature");
        (ServedSource source, int index) = call.Model.Named(named);
        string[] texts = ServedModel.Prompts(call.Body.OneOrMoreTexts("customText", out bool isList), "customText");
        var answers = new List<ActivationNewAnswer>();
        foreach (string text in texts)
            answers.Add(await NewAsync(call, source, index, text));
        await (isList ? call.AnswerAsync(new AnswerList(answers)) : call.AnswerAsync(answers[0]));
    }

    public static async Task ActivationSourceAsync(Call call)
    {
        call.Model.RequireModel(call.Body.RequiredText("modelId"));
        ServedSource source = call.Model.Source(call.Body.RequiredText("source"));
        string[] texts = ServedModel.Prompts(call.Body.OneOrMoreTexts("customText", out _), "customText");
        IReadOnlyList<SourceResult> results = await ActivationEndpoints.SourceAsync(call.Model, source, texts, call.Cancellation);
        await call.AnswerAsync(new PublicSourceAnswer(results));
    }

    public static async Task ActivationGetAsync(Call call)
    {
        (ServedSource source, int index) = call.Model.Named(call.Body);
        IReadOnlyList<ActivationRow> stored = (await FeatureRows.FullAsync(call.Model, source, index, call.Cancellation)).Activations;
        if (stored.Count == 0)
            throw Refusal.NotFound($"There are no stored activations of {call.Model.Id}/{source.Id}/{index}.");
        await call.AnswerAsync(new AnswerList(stored));
    }

    public static async Task SearchAllAsync(Call call)
    {
        ServedModel model = call.Model;
        model.RequireModel(call.Body.RequiredText("modelId"));
        IReadOnlyList<ServedSource> sources = model.SourcesOf(call.Body.RequiredText("sourceSet"), call.Body.Texts("selectedLayers"));
        string[] texts = ServedModel.Prompts(call.Body.OneOrMoreTexts("text", out bool isList), "text");
        int[] sortBy = [.. call.Body.Entries("sortIndexes").Select(e => (int)e.GetDouble())];
        int count = call.Body.Whole("numResults") ?? 50;
        double density = await DensityAsync(call, sources, -1);
        var answers = new List<SearchAllAnswer>();
        foreach (string text in texts)
        {
            AllAnswer all = await ActivationEndpoints.AllAsync(
                model, text, sources, sortBy, call.Body.Flag("ignoreBos") ?? false, ActivationEndpoints.MaxResults, call.Cancellation);
            AllFeature[] rows = [.. all.Activations.Where(a => (sortBy.Length > 0 ? a.SumValues : a.MaxValue) > 0)
                .Where(a => !IsDense(model, model.Source(a.Source), a.Index, density)).Take(count)];
            IReadOnlyList<AllFeature> attributed = await ActivationEndpoints.WithAttributionAsync(model, text, rows, call.Cancellation);
            answers.Add(new SearchAllAnswer(all.Tokens, [.. attributed.Select(a => Row(model, a))], sortBy));
        }

        await (isList ? call.AnswerAsync(new BatchAnswer(answers)) : call.AnswerAsync(answers[0]));
    }

    public static async Task SearchTopkAsync(Call call)
    {
        ServedModel model = call.Model;
        model.RequireModel(call.Body.RequiredText("modelId"));
        ServedSource source = model.Source(call.Body.RequiredText("source"));
        string[] texts = ServedModel.Prompts(call.Body.OneOrMoreTexts("text", out bool isList), "text");
        int count = call.Body.Whole("numResults") ?? 10;
        bool ignoreBos = call.Body.Flag("ignoreBos") ?? true;
        double density = await DensityAsync(call, [source], 0.01);
        var answers = new List<SearchTopkAnswer>();
        foreach (string text in texts)
        {
            int[] tokens = model.Prompt(text);
            FeatureValues read = (await FeatureValues.ReadAsync(model, tokens, [source], call.Cancellation))[0];
            SearchToken[] rows = [.. Enumerable.Range(0, tokens.Length).Where(t => !ignoreBos || !model.IsSpecial(tokens[t]))
                .Select(t => new SearchToken(t, model.TokenText(tokens[t]), model.IsSpecial(tokens[t]),
                    [.. read.ByToken[t].Where(a => !IsDense(model, source, a.Feature, density)).Take(count)
                        .Select(a => new SearchTopFeature(a.Feature, a.Activation, FeatureRows.Short(model, source, a.Feature)))]))];
            answers.Add(new SearchTopkAnswer(source.Id, rows));
        }

        await (isList ? call.AnswerAsync(new BatchAnswer(answers)) : call.AnswerAsync(answers[0]));
    }

    public static Task SourceSetAsync(Call call)
    {
        RouteValueDictionary route = call.Http.Request.RouteValues;
        call.Model.RequireModel((string)route["model"]!);
        string name = (string)route["name"]!;
        IReadOnlyList<ServedSource> sources = call.Model.SourcesOf(name, []);
        return call.AnswerAsync(Set(call.Model, sources, Model(call.Model, null)));
    }

    public static Task VectorAsync(Call call)
    {
        (ServedSource source, int index) = call.Model.Named(call.Body);
        string? label = call.Model.Labels.Of(call.Model.Id, source.Id, index) is [var first, ..] ? first.Description : null;
        return call.AnswerAsync(new PublicVectorAnswer(new VectorRow(
            call.Model.Id, source.Id, Text(index), label, source.HookName, source.Sae.Sae.DecoderRow(index))));
    }

    public static Task TokenizeAsync(Call call)
    {
        call.Model.RequireModel(call.Body.RequiredText("modelId"));
        bool prepend = call.Body.Flag("prependBos") ?? true;
        int[] tokens = call.Model.Prompt(call.Body.RequiredText("prompt"), prepend);
        string[] texts = call.Model.TokenTexts(tokens);
        return call.AnswerAsync(new PublicTokenizeAnswer(tokens, texts, prepend, new TokenizeAnswer(tokens, texts, prepend)));
    }

    public static Task ExplanationSearchAsync(Call call)
    {
        ServedModel model = call.Model;
        model.RequireModel(call.Body.RequiredText("modelId"));
        string query = call.Body.RequiredText("query");
        string[] layers = [.. call.Body.Texts("layers")];
        if (layers.Length > model.Sources.Count)
            throw Refusal.Bad($"layers has {layers.Length} entries; there are {model.Sources.Count} sources.", "layers");
        layers = [.. layers.Select(l => model.Source(l).Id)];
        int offset = call.Body.Whole("offset") ?? 0;
        IReadOnlyList<LabelMatch> found = model.Labels.Search(query, model.Id, layers.Length > 0 ? layers : null);
        Explanation[] page = [.. found.Skip(offset).Take(SearchPage).Select(m => FeatureRows.Explanation(m.Label) with
        {
            Score = m.Score,
            Neuron = model.Sources.FirstOrDefault(s => s.Id == m.Label.Source) is ServedSource source && m.Label.Index < source.FeatureCount
                ? FeatureRows.Short(model, source, m.Label.Index) : null,
        })];
        return call.AnswerAsync(new ExplanationSearchAnswer(
            new SearchQuery(model.Id, layers, query, offset), page, offset + page.Length < found.Count, offset + page.Length));
    }

    public static Task ModelListAsync(Call call) => call.AnswerAsync(new AnswerList([Model(call.Model, null)]));

    public static Task ModelGetAsync(Call call)
    {
        call.Model.RequireModel(call.Body.RequiredText("id"));
        SourceSetAnswer[] sets = [.. call.Model.Sources.GroupBy(s => s.SourceSet).Select(g => Set(call.Model, [.. g], null))];
        return call.AnswerAsync(Model(call.Model, sets));
    }

    public static Task PresetsAsync(Call call)
    {
        call.Model.RequireModel(call.Body.RequiredText("modelId"));
        return call.AnswerAsync(new AnswerList(SteerPresets.For(call.Model)));
    }

    private static async Task<ActivationNewAnswer> NewAsync(Call call, ServedSource source, int index, string text)
    {
        SingleAnswer single = await ActivationEndpoints.SingleAsync(call.Model, text, source, index, call.Cancellation);
        string now = DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", CultureInfo.InvariantCulture);
        return new ActivationNewAnswer(single, single.Activation.Values.Min(), call.Model.Id, source.Id, Text(index), now);
    }

    /// <summary>The threshold above which features are left out, once it is known how often they fire; a header says where it is not.</summary>
    private static async Task<double> DensityAsync(Call call, IReadOnlyList<ServedSource> sources, double otherwise)
    {
        double threshold = call.Body.Number("densityThreshold") ?? otherwise;
        foreach (ServedSource source in sources)
        {
            if (threshold < 0 || call.Model.DashboardOf(source) is not null)
                continue;
            if (call.Model.CorpusOf(source) is SourceCorpus corpus)
                await corpus.ReadyAsync(call.Cancellation);
            else
                call.Http.Response.Headers[DensityHeader] = "unknown";
        }

        return threshold;
    }

    private static bool IsDense(ServedModel model, ServedSource source, int feature, double threshold) =>
        threshold >= 0 && model.IsDenser(source, feature, threshold);

    private static SearchAllRow Row(ServedModel model, AllFeature found)
    {
        ServedSource source = model.Source(found.Source);
        return new SearchAllRow(model.Id, source.Id, found, FeatureRows.Short(model, source, found.Index));
    }

    private static SourceSetAnswer Set(ServedModel model, IReadOnlyList<ServedSource> sources, ModelRow? row)
    {
        string name = sources[0].SourceSet;
        return new SourceSetAnswer(name, model.Id, $"SAEs of {name} that this server has open.",
            [.. sources.Select(s => new SourceRow(
                s.Id, model.Id, s.SourceSet, s.HookName, s.FeatureCount, hasDashboards: model.DashboardOf(s) is not null))],
            row);
    }

    private static ModelRow Model(ServedModel model, IReadOnlyList<SourceSetAnswer>? sets) => new(model.Id, model.Config.LayerCount, sets);

    private static string Text(int index) => index.ToString(CultureInfo.InvariantCulture);
}

using System.Globalization;
using KernelScope.Evaluation;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Runtime;
using KernelScope.Web.Contract;
using KernelScope.Web.Serving;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>What features do on texts, in the shapes of Neuronpedia's inference server.</summary>
internal static class ActivationEndpoints
{
    /// <summary>Most features of an answer.</summary>
    public const int MaxResults = 1000;

    private const int DefaultResults = 25, DefaultTopK = 5;
    private const string OnePair = "Invalid request data: exactly one of layer/index or vector must be provided";

    public static async Task SingleAsync(Call call) => await call.AnswerAsync(await SingleAsync(call, call.Body.RequiredText("prompt")));

    public static async Task SingleBatchAsync(Call call)
    {
        var results = new List<SingleAnswer>();
        foreach (string prompt in ServedModel.Prompts(call.Body.Texts("prompts"), "prompts"))
            results.Add(await SingleAsync(call, prompt));
        await call.AnswerAsync(new BatchAnswer(results));
    }

    public static async Task AllAsync(Call call) => await call.AnswerAsync(await AllAsync(call, call.Body.RequiredText("prompt")));

    public static async Task AllBatchAsync(Call call)
    {
        var results = new List<AllAnswer>();
        foreach (string prompt in ServedModel.Prompts(call.Body.Texts("prompts"), "prompts"))
            results.Add(await AllAsync(call, prompt));
        await call.AnswerAsync(new BatchAnswer(results));
    }

    public static async Task TopkAsync(Call call) => await call.AnswerAsync(await TopkAsync(call, call.Body.RequiredText("prompt")));

    public static async Task TopkBatchAsync(Call call)
    {
        var results = new List<TopkAnswer>();
        foreach (string prompt in ServedModel.Prompts(call.Body.Texts("prompts"), "prompts"))
            results.Add(await TopkAsync(call, prompt));
        await call.AnswerAsync(new BatchAnswer(results));
    }

    public static async Task SourceAsync(Call call)
    {
        ServedSource source = call.Model.Source(call.Body.RequiredText("source"));
        string[] prompts = ServedModel.Prompts(call.Body.Texts("prompts"), "prompts");
        await call.AnswerAsync(new BatchAnswer(await SourceAsync(call.Model, source, prompts, call.Cancellation)));
    }

    public static async Task RawAsync(Call call)
    {
        ServedModel model = call.Model;
        string hook = call.Body.Text("hookPoint") ?? "residual_stream", type = call.Body.Text("type") ?? "final_output_token";
        if (hook != "residual_stream")
            throw Refusal.Bad($"hookPoint is '{hook}'; only residual_stream is served.", "hookPoint");
        if (type != "final_output_token")
            throw Refusal.Bad($"type is '{type}'; only final_output_token is served.", "type");
        int[] layers = [.. call.Body.Entries("layers").Select(e => (int)e.GetDouble())];
        if (layers.Length > model.Config.LayerCount)
            throw Refusal.Bad($"layers has {layers.Length} entries; the model has {model.Config.LayerCount} layers.", "layers");
        if (layers.Length == 0)
            layers = [.. Enumerable.Range(0, model.Config.LayerCount)];
        HookPoint[] points = [.. layers.Select(l => new HookPoint(Site.ResidPost, l))];
        var results = new List<RawResult>();
        foreach (string prompt in ServedModel.Prompts(call.Body.Texts("prompts"), "prompts"))
        {
            int[] tokens = model.Prompt(prompt);
            var request = new ActivationsRequest { Tokens = tokens, Points = points, LastTokenOnly = true };
            IReadOnlyList<float[]> rows = await model.Engine.ActivationsAsync(request, call.Cancellation);
            RawLayer[] activations = [.. layers.Select((l, i) => new RawLayer(l, [tokens.Length - 1], [rows[i]]))];
            results.Add(new RawResult(model.TokenTexts(tokens), tokens, activations));
        }

        await call.AnswerAsync(new RawAnswer(hook, type, "float32", model.Engine.Model.Device.Name, results));
    }

    /// <summary>Every active feature of some texts: position 0 never among them.</summary>
    public static async Task<IReadOnlyList<SourceResult>> SourceAsync(
        ServedModel model, ServedSource source, string[] prompts, CancellationToken cancellationToken)
    {
        var results = new List<SourceResult>();
        foreach (string prompt in prompts)
        {
            int[] tokens = model.Prompt(prompt);
            FeatureValues read = (await FeatureValues.ReadAsync(model, tokens, [source], cancellationToken))[0];
            var active = new Dictionary<string, IReadOnlyList<double[]>>();
            foreach (int feature in read.Active)
            {
                float[] values = read.Of(feature);
                IEnumerable<int> firing = Enumerable.Range(1, values.Length - 1).Where(t => values[t] > 0);
                double[][] places = [.. firing.Select(t => (double[])[t, Math.Round((double)values[t], 3)])];
                if (places.Length > 0)
                    active.Add(feature.ToString(CultureInfo.InvariantCulture), places);
            }

            results.Add(new SourceResult(model.TokenTexts(tokens), new ActiveFeatures(active)));
        }

        return results;
    }

    /// <summary>The strongest features of a text over some sources, by their maximum or by their sum at some positions.</summary>
    public static async Task<AllAnswer> AllAsync(
        ServedModel model, string prompt, IReadOnlyList<ServedSource> sources, int[] sortBy, bool ignoreBos, int results,
        CancellationToken cancellationToken)
    {
        int[] tokens = model.Prompt(prompt);
        if (sortBy.Length > tokens.Length)
            throw Refusal.Bad($"There are {sortBy.Length} sort indexes; the text has {tokens.Length} tokens.");
        if (sortBy.FirstOrDefault(i => i < 0 || i >= tokens.Length, -1) is int bad and not -1 || sortBy.Contains(-1))
            throw Refusal.Bad($"A sort index is outside the text, which has tokens 0 to {tokens.Length - 1}.");
        IReadOnlyList<FeatureValues> read = await FeatureValues.ReadAsync(model, tokens, sources, cancellationToken);
        var found = new List<(AllFeature Row, float Key)>();
        foreach (FeatureValues values in read)
        {
            foreach (int feature in values.Active)
                found.Add(Row(values, feature, sortBy, ignoreBos));
        }

        // Stable: equal keys stay by source, then by feature.
        AllFeature[] rows = [.. found.Where(f => f.Key > 0).OrderByDescending(f => f.Key).Select(f => f.Row).Take(results)];
        return new AllAnswer([.. rows, .. Rest(read, found, results - rows.Length, sortBy, ignoreBos)], model.TokenTexts(tokens));
    }

    /// <summary>Features whose key is 0, by source and feature, as a stable sort of all of them would leave them.</summary>
    private static IEnumerable<AllFeature> Rest(
        IReadOnlyList<FeatureValues> read, List<(AllFeature Row, float Key)> found, int count, int[] sortBy, bool ignoreBos)
    {
        var taken = found.Where(f => f.Key > 0).Select(f => (f.Row.Source, f.Row.Index)).ToHashSet();
        return read.SelectMany(values => Enumerable.Range(0, values.Source.FeatureCount).Select(feature => (values, feature)))
            .Where(f => !taken.Contains((f.values.Source.Id, f.feature)))
            .Take(count)
            .Select(f => Row(f.values, f.feature, sortBy, ignoreBos).Row);
    }

    private static (AllFeature Row, float Key) Row(FeatureValues read, int feature, int[] sortBy, bool ignoreBos)
    {
        float[] values = read.Of(feature);
        if (ignoreBos && values.Length > 0)
            values[0] = 0;
        (float max, int at) = Largest(values);
        float sum = sortBy.Sum(i => values[i]);
        return (new AllFeature(read.Source.Id, feature, values, max, at, sum), sortBy.Length > 0 ? sum : max);
    }

    private static async Task<SingleAnswer> SingleAsync(Call call, string prompt)
    {
        bool byIndex = call.Body.TryField("source", out _) && call.Body.TryField("index", out _);
        bool byVector = call.Body.TryField("vector", out _) && call.Body.TryField("hook", out _);
        if (byIndex == byVector)
            throw Refusal.Bad(OnePair);
        if (byVector)
            return await AlongVectorAsync(call, prompt);
        ServedSource source = call.Model.Source(call.Body.RequiredText("source"));
        int feature = ServedModel.Feature(source, call.Body.RequiredWhole("index"));
        return await SingleAsync(call.Model, prompt, source, feature, call.Cancellation);
    }

    /// <summary>One feature on a text: 0 at every BOS, and nothing for the first token, which is one.</summary>
    public static async Task<SingleAnswer> SingleAsync(
        ServedModel model, string prompt, ServedSource source, int feature, CancellationToken cancellationToken)
    {
        int[] tokens = model.Prompt(prompt);
        if (tokens.Length < 2)
            throw Refusal.Bad("The text has no token besides BOS.");
        float[] values = (await FeatureValues.ReadAsync(model, tokens, [source], cancellationToken))[0].Of(feature);
        for (int t = 0; t < tokens.Length; t++)
            values[t] = tokens[t] == model.BosId ? 0 : values[t];
        int[] rest = tokens[1..];
        (float max, int at) = Largest(values.AsSpan(1));
        DirectAttribution? from = PromptAttribution.IsFor(source)
            ? (await PromptAttribution.ReadAsync(model.Engine, source, tokens, cancellationToken)).Of(feature, at + 1, 1) : null;
        var activation = new ActivationValues(values[1..], max, at, from);
        return new SingleAnswer(activation, model.TokenTexts(rest), [.. rest.Select(model.IsSpecial)]);
    }

    private static async Task<SingleAnswer> AlongVectorAsync(Call call, string prompt)
    {
        ServedModel model = call.Model;
        float[] vector = call.Body.Vector("vector");
        HookPoint point = Point(call.Body.RequiredText("hook"));
        int[] tokens = model.Prompt(prompt);
        var request = new ActivationsRequest { Tokens = tokens, Points = [point] };
        float[] rows = (await model.Engine.ActivationsAsync(request, call.Cancellation))[0];
        int width = rows.Length / tokens.Length;
        if (vector.Length != width)
            throw Refusal.Bad($"The vector has {vector.Length} values; {point} has {width}.", "vector");
        float[] values = [.. Enumerable.Range(0, tokens.Length).Select(t => (float)Dot(rows.AsSpan(t * width, width), vector))];
        if (Array.FindIndex(values, v => !float.IsFinite(v)) is int bad and >= 0)
            throw Refusal.Bad($"The product of the vector with {point} at token {bad} is not a finite float32 number.", "vector");
        (float max, int at) = Largest(values);
        return new SingleAnswer(new ActivationValues(values, max, at, null), model.TokenTexts(tokens), [.. tokens.Select(model.IsSpecial)]);
    }

    /// <summary>Rows of attention SAEs with what each token gave them where they fire most.</summary>
    public static async Task<IReadOnlyList<AllFeature>> WithAttributionAsync(
        ServedModel model, string prompt, IReadOnlyList<AllFeature> rows, CancellationToken cancellationToken)
    {
        AllFeature[] all = [.. rows];
        foreach (ServedSource source in all.Select(r => r.Source).Distinct().Select(model.Source).Where(PromptAttribution.IsFor).ToArray())
        {
            SourceAttribution read = await PromptAttribution.ReadAsync(model.Engine, source, model.Prompt(prompt), cancellationToken);
            for (int i = 0; i < all.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (all[i].Source != source.Id)
                    continue;
                all[i] = all[i] with { Dfa = read.Of(all[i].Index, all[i].MaxValueIndex, 0) };
            }
        }

        return all;
    }

    private static async Task<AllAnswer> AllAsync(Call call, string prompt)
    {
        int results = call.Body.Whole("numResults") ?? DefaultResults;
        if (results is < 1 or > MaxResults)
            throw Refusal.Bad($"numResults is {results}; it must be 1 to {MaxResults}.", "numResults");
        IReadOnlyList<ServedSource> sources = call.Model.SourcesOf(call.Body.RequiredText("sourceSet"), call.Body.Texts("selectedSources"));
        int[] sortBy = [.. call.Body.Entries("sortByTokenIndexes").Select(e => (int)e.GetDouble())];
        AllAnswer all = await AllAsync(
            call.Model, prompt, sources, sortBy, call.Body.Flag("ignoreBos") ?? false, results, call.Cancellation);
        return all with { Activations = await WithAttributionAsync(call.Model, prompt, all.Activations, call.Cancellation) };
    }

    private static Task<TopkAnswer> TopkAsync(Call call, string prompt)
    {
        ServedSource source = call.Model.Source(call.Body.RequiredText("source"));
        int count = Math.Clamp(call.Body.Whole("topK") ?? DefaultTopK, 1, Math.Min(source.FeatureCount, MaxResults));
        return TopkAsync(call.Model, prompt, source, count, call.Body.Flag("ignoreBos") ?? false, call.Cancellation);
    }

    /// <summary>The strongest features of each token; features with value 0, the lowest first, where fewer fire.</summary>
    public static async Task<TopkAnswer> TopkAsync(
        ServedModel model, string prompt, ServedSource source, int count, bool ignoreBos, CancellationToken cancellationToken)
    {
        int[] tokens = model.Prompt(prompt);
        FeatureValues read = (await FeatureValues.ReadAsync(model, tokens, [source], cancellationToken))[0];
        int first = ignoreBos ? 1 : 0;
        TopkToken[] results = [.. Enumerable.Range(first, tokens.Length - first).Select(t => new TopkToken(
            t, model.TokenText(tokens[t]), model.IsSpecial(tokens[t]), Strongest(read.ByToken[t], count, source.FeatureCount)))];
        return new TopkAnswer(results, model.TokenTexts(tokens[first..]));
    }

    private static TopFeature[] Strongest(IReadOnlyList<FeatureActivation> active, int count, int features)
    {
        IEnumerable<TopFeature> found = active.Take(count).Select(a => new TopFeature(a.Feature, a.Activation));
        if (active.Count >= count)
            return [.. found];
        var fired = active.Select(a => a.Feature).ToHashSet();
        IEnumerable<TopFeature> zeros = Enumerable.Range(0, features).Where(f => !fired.Contains(f)).Select(f => new TopFeature(f, 0));
        return [.. found.Concat(zeros).Take(count)];
    }

    public static HookPoint Point(string name) => HookPoint.TryParse(name, out HookPoint point) ? point
        : throw Refusal.Bad($"There is no hook point of that name; names are such as blocks.3.hook_resid_post or resid_post.3.", "hook");

    private static (float Value, int At) Largest(ReadOnlySpan<float> values)
    {
        int at = 0;
        for (int t = 1; t < values.Length; t++)
        {
            if (values[t] > values[at])
                at = t;
        }

        return (values[at], at);
    }

    private static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int j = 0; j < a.Length; j++)
            sum += (double)a[j] * b[j];
        return sum;
    }
}

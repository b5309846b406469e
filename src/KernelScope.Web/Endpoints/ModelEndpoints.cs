using System.Globalization;
using System.Text.Json;
using KernelScope.Text;
using KernelScope.Web.Contract;
using KernelScope.Web.Serving;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>What is served, tokens, chat templates and vectors, in the shapes of Neuronpedia's inference server.</summary>
internal static class ModelEndpoints
{
    private const int MaxSimilar = 128;

    private static readonly (string Name, bool IsServed)[] Served =
    [
        ("tokenize", true), ("activation_single", true), ("activation_all", true), ("activation_source", true), ("activation_raw", true),
        ("activation_topk_by_token", true), ("activation_attention", false), ("dfa", true), ("steer_completion", true),
        ("steer_completion_chat", true), ("lens_logit", false), ("lens_jacobian", false), ("neurons", false),
    ];

    public static Task CapabilitiesAsync(Call call)
    {
        ServedModel model = call.Model;
        return call.AnswerAsync(new CapabilitiesAnswer
        {
            Model = model.Id,
            Device = model.Engine.Model.Device.Name,
            MaxConcurrentRequests = model.Engine.MaxRunning,
            MaxTokens = model.Options.MaxNewTokens,
            TokenLimit = model.MaxPromptTokens,
            CapturePoints = [.. model.Sources.Select(s => s.HookName).Distinct()],
            SaeSets = [.. model.Sources.Select(s => s.SourceSet).Distinct()],
            LayerCount = model.Config.LayerCount,
            Endpoints = new ServedCalls(
                Served.Select(e => (e.Name, e.IsServed && (e.Name != "dfa" || model.Sources.Any(PromptAttribution.IsFor))))),
        });
    }

    public static Task TokenizeAsync(Call call)
    {
        bool prepend = call.Body.Flag("prependBos") ?? true;
        int[] tokens = call.Model.Prompt(call.Body.RequiredText("text"), prepend);
        return call.AnswerAsync(new TokenizeAnswer(tokens, call.Model.TokenTexts(tokens), prepend));
    }

    public static Task ChatTemplateAsync(Call call)
    {
        ChatMessage[] messages = Messages(call.Body.Entries("messages"));
        bool addPrompt = call.Body.Flag("addGenerationPrompt") ?? true;
        var chat = RenderedChat.Create(call.Model, messages, addPrompt, call.Cancellation);
        return call.AnswerAsync(new ChatTemplateAnswer(chat.Text, chat.Tokens, chat.Spans()));
    }

    public static ChatMessage[] Messages(IEnumerable<JsonElement> entries) =>
        [.. entries.Select(m => new ChatMessage(m.RequiredText("role"), ContentOf(m)))];

    /// <summary>A text, or parts of one.</summary>
    private static string ContentOf(JsonElement message) =>
        message.TryField("content", out JsonElement content) && content.ValueKind == JsonValueKind.Array
            ? string.Concat(content.EnumerateArray().Select(part => part.RequiredText("text"))) : message.RequiredText("content");

    public static Task SteerHealthAsync(Call call)
    {
        long memory = Environment.WorkingSet, free = Math.Max(0, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes - memory);
        int running = call.Model.Engine.Running, waiting = call.Model.Engine.Waiting;
        string summary = string.Create(CultureInfo.InvariantCulture, $"{running} running, {waiting} queued, {memory >> 20} MiB in use");
        var stats = new SteerStats(call.Model.Engine.Model.Device.Name, memory, free, waiting, running);
        return call.AnswerAsync(new SteerHealthAnswer(stats, summary));
    }

    public static Task VectorAsync(Call call)
    {
        ServedSource source = call.Model.Source(call.Body.RequiredText("source"));
        int index = ServedModel.Feature(source, call.Body.RequiredWhole("index"));
        return call.AnswerAsync(new VectorAnswer(source.HookName, source.Sae.Sae.EncoderColumn(index), source.Sae.Sae.DecoderRow(index)));
    }

    public static Task SimilarAsync(Call call)
    {
        ServedSource source = call.Model.Source(call.Body.RequiredText("source"));
        int count = call.Body.RequiredWhole("numResults");
        if (count is < 1 or > MaxSimilar)
            throw Refusal.Bad($"numResults is {count}; it must be 1 to {MaxSimilar}.", "numResults");
        bool byFeature = call.Body.TryField("feature", out JsonElement feature), byVector = call.Body.TryField("vector", out _);
        if (byFeature == byVector)
            throw Refusal.Bad("Invalid request data: exactly one of feature or vector must be provided");
        NamedFeature? named = null;
        float[] direction;
        if (byFeature)
        {
            ServedSource of = call.Model.Source(feature.RequiredText("source"));
            int index = ServedModel.Feature(of, feature.RequiredWhole("index"));
            named = new NamedFeature(call.Model.Id, of.Id, index);
            direction = of.Sae.Sae.DecoderRow(index);
        }
        else
        {
            direction = call.Body.Vector("vector");
        }

        if (direction.Length != source.Sae.Sae.Config.OutputDim)
            throw Refusal.Bad($"The direction has {direction.Length} values; those of {source.Id} have {source.Sae.Sae.Config.OutputDim}.");
        SimilarFeature[] similar = [.. Nearest(source, direction, count, call.Cancellation)
            .Select(n => new SimilarFeature(new NamedFeature(call.Model.Id, source.Id, n.Feature), n.Cosine))];
        return call.AnswerAsync(new SimilarAnswer(named, similar));
    }

    /// <summary>
    /// The features whose decoder rows have the largest cosines with a direction, ties by lower feature; what is not a number is 0.
    /// </summary>
    public static IEnumerable<(int Feature, float Cosine)> Nearest(
        ServedSource source, float[] direction, int count, CancellationToken cancellationToken)
    {
        float[] norms = source.DecoderNorms;
        float own = ServedSource.Norm(direction);
        float[] cosines = new float[source.FeatureCount];
        for (int f = 0; f < cosines.Length; f++)
        {
            if ((f & 1023) == 0)
                cancellationToken.ThrowIfCancellationRequested();
            float[] row = source.Sae.Sae.DecoderRow(f);
            double dot = 0;
            for (int j = 0; j < row.Length; j++)
                dot += (double)row[j] * direction[j];
            float cosine = (float)(dot / ((double)norms[f] * own));
            cosines[f] = float.IsFinite(cosine) ? cosine : 0;
        }

        IEnumerable<int> nearest = Enumerable.Range(0, cosines.Length).OrderByDescending(f => cosines[f]).ThenBy(f => f).Take(count);
        return nearest.Select(f => (f, cosines[f]));
    }
}

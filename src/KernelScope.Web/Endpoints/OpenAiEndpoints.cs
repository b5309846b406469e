using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Runtime;
using KernelScope.Text;
using KernelScope.Web.Contract;
using KernelScope.Web.Serving;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>OpenAI's completions, with edits of features in the request and features in the answer.</summary>
internal static class OpenAiEndpoints
{
    private const int MaxEdits = 16, MaxTop = 100;

    private static readonly string[] Common =
    [
        "model", "max_tokens", "temperature", "top_p", "seed", "frequency_penalty", "stop", "stream", "stream_options", "n", "user",
        "logprobs", "kernelscope",
    ];

    // What clients send although it changes nothing.
    private static readonly Dictionary<string, JsonElement> Neutral = JsonDocument.Parse("""
        {"presence_penalty": 0, "best_of": 1, "response_format": {"type": "text"}, "tool_choice": "none", "store": false, "suffix": ""}
        """).RootElement.EnumerateObject().ToDictionary(p => p.Name, p => p.Value);

    public static Task ModelsAsync(Call call) => call.AnswerAsync(new OpenAiModels([new OpenAiModel(call.Model.Id, "kernelscope")]));

    public static Task ChatAsync(Call call)
    {
        RefuseUnknown(call.Body, [.. Common, "messages", "max_completion_tokens", "top_logprobs"]);
        ChatMessage[] messages = ModelEndpoints.Messages(call.Body.Entries("messages"));
        var chat = RenderedChat.Create(call.Model, messages, addGenerationPrompt: true, call.Cancellation);
        int? logprobs = call.Body.Flag("logprobs") is true ? call.Body.Whole("top_logprobs") ?? 0 : null;
        if (logprobs is null && call.Body.Whole("top_logprobs") is > 0)
            throw Refusal.Bad("top_logprobs needs logprobs: true.", "top_logprobs");
        GenerationOptions options = Options(call, logprobs) with { StopIds = chat.StopIds };
        return RunAsync(call, chat.Tokens, options, isChat: true);
    }

    public static Task CompletionAsync(Call call)
    {
        RefuseUnknown(call.Body, [.. Common, "prompt", "echo"]);
        if (call.Body.Flag("echo") is true)
            throw Refusal.Bad("echo is not supported.", "echo");
        return RunAsync(call, PromptOf(call), Options(call, call.Body.Whole("logprobs")), isChat: false);
    }

    private static int[] PromptOf(Call call)
    {
        call.Body.TryField("prompt", out JsonElement prompt);
        if (prompt.ValueKind == JsonValueKind.Array && prompt.GetArrayLength() == 0)
            throw Refusal.Bad("The prompt has no tokens.", "prompt");
        if (prompt.ValueKind == JsonValueKind.String)
            return call.Model.Prompt(prompt.GetString()!);
        if (prompt[0].ValueKind == JsonValueKind.String)
            return prompt.GetArrayLength() == 1 ? call.Model.Prompt(prompt[0].GetString()!)
                : throw Refusal.Bad($"There are {prompt.GetArrayLength()} prompts; one is taken.", "prompt");
        int[] ids = [.. prompt.EnumerateArray().Select(e => (int)Math.Clamp(e.GetDouble(), -1, int.MaxValue))];
        return call.Model.Fitting(ids);
    }

    private static void RefuseUnknown(JsonElement body, string[] known)
    {
        foreach (JsonProperty field in body.EnumerateObject())
        {
            bool saysNothing = SchemaCheck.IsEmpty(field.Value)
                || (Neutral.TryGetValue(field.Name, out JsonElement neutral) && Same(neutral, field.Value));
            if (!known.Contains(field.Name) && !saysNothing)
                throw Refusal.Bad($"{field.Name} is not supported.", field.Name);
        }

        if (body.Whole("n") is int n and not 1)
            throw Refusal.Bad($"n is {n}; only 1 is supported.", "n");
    }

    // DeepEquals throws at an exponent of ten digits.
    private static bool Same(JsonElement neutral, JsonElement value) => neutral.ValueKind == JsonValueKind.Number
        ? value.ValueKind == JsonValueKind.Number && value.GetDouble() == neutral.GetDouble() : JsonElement.DeepEquals(neutral, value);

    private static GenerationOptions Options(Call call, int? logprobs)
    {
        JsonElement body = call.Body;
        int most = call.Model.Options.MaxNewTokens;
        string limit = body.TryField("max_completion_tokens", out _) ? "max_completion_tokens" : "max_tokens";
        int tokens = body.Whole(limit) ?? Math.Min(16, most);
        if (tokens < 1 || tokens > most)
            throw Refusal.Bad($"{limit} must be 1 to {most}.", limit);
        if (logprobs is < 0 or > 20)
            throw Refusal.Bad($"{logprobs} log-probabilities were asked for; it must be 0 to 20.", "logprobs");
        double temperature = body.Number("temperature") ?? 1, topP = body.Number("top_p") ?? 1;
        if (topP is < 0 or > 1)
            throw Refusal.Bad($"top_p is {topP}; it must be 0 to 1.", "top_p");
        var sampling = new SamplingOptions { FrequencyPenalty = body.Number("frequency_penalty") ?? 0 };
        if (temperature > 0)
            sampling = sampling with { Temperature = temperature, TopP = topP, Seed = Seed(body) };
        else if (temperature < 0)
            throw Refusal.Bad($"temperature is {temperature}; it must be 0 or more.", "temperature");
        return new GenerationOptions { MaxNewTokens = tokens, Sampling = sampling, StopStrings = Stops(body), LogProbs = logprobs };
    }

    private static ulong? Seed(JsonElement body) => body.Number("seed") is double seed ? SteerPlan.Seed(seed) : null;

    private static string[] Stops(JsonElement body) =>
        !body.TryField("stop", out JsonElement stop) ? []
            : stop.ValueKind == JsonValueKind.String ? [stop.GetString()!] : body.Texts("stop");

    private static async Task RunAsync(Call call, int[] prompt, GenerationOptions options, bool isChat)
    {
        GenerationRequest request = WithExtension(call, new GenerationRequest { PromptTokens = prompt, Options = options });
        if (prompt.Length + options.MaxNewTokens > call.Model.Engine.ContextLength)
            throw Refusal.Bad(call.Model.TooLong(prompt.Length, options.MaxNewTokens));
        var writer = new OpenAiWriter(call.Model, prompt.Length, isChat, request);
        bool streams = call.Body.Flag("stream") ?? false;
        EventStream? events = null;
        try
        {
            IAsyncEnumerable<GeneratedToken> tokens = call.Model.Engine.GenerateAsync(request, call.Cancellation);
            await using IAsyncEnumerator<GeneratedToken> reader = tokens.GetAsyncEnumerator(call.Cancellation);
            while (true)
            {
                Task<bool> next = reader.MoveNextAsync().AsTask();
                if (streams && events is null && !next.IsFaulted)
                    await (events = new EventStream(call.Http)).StartAsync();
                if (!await (events?.WaitAsync(next) ?? next))
                    break;
                OpenAiCompletion chunk = writer.Add(reader.Current);
                if (events is not null)
                    await events.SendAsync(chunk);
            }
        }
        catch (Exception e) when (events is not null && ErrorAnswer.Of(e, call.Http) is (_, string sentence, _))
        {
            await events.SendAsync(new OpenAiError(sentence, "server_error", null));
            return;
        }

        if (events is null)
            await call.AnswerAsync(writer.Whole());
        else
            await events.SendTextAsync("[DONE]");
    }

    private static GenerationRequest WithExtension(Call call, GenerationRequest request)
    {
        if (!call.Body.TryField("kernelscope", out JsonElement extension))
            return request;
        JsonElement[] edits = [.. extension.Entries("edits")];
        if (edits.Length > MaxEdits)
            throw Refusal.Bad($"There are {edits.Length} edits; at most {MaxEdits} are taken.", "kernelscope.edits");
        request = request with { Edits = [.. edits.Select(e => Edit(call.Model, e))] };
        if (!extension.TryField("features", out JsonElement features))
            return request;
        int top = features.Whole("top") ?? 5;
        if (top is < 1 or > MaxTop)
            throw Refusal.Bad($"top is {top}; it must be 1 to {MaxTop}.", "kernelscope.features.top");
        string sae = call.Model.Source(features.RequiredText("sae")).Sae.Name;
        return request with { Features = [new FeatureReport { Sae = sae, Top = top }] };
    }

    private static SaeEdit Edit(ServedModel model, JsonElement edit)
    {
        ServedSource source = model.Source(edit.RequiredText("sae"));
        int feature = ServedModel.Feature(source, edit.RequiredWhole("feature"));
        string mode = edit.Text("mode") ?? "steer";
        if (mode != "ablate" && edit.Number("value") is null)
            throw Refusal.Bad($"An edit of mode {mode} needs a value.", "kernelscope.edits");
        float value = (float)(edit.Number("value") ?? 0);
        FeatureEdit change = mode switch
        {
            "steer" => FeatureEdit.Steer(feature, value),
            "clamp" => FeatureEdit.Clamp(feature, value),
            _ => FeatureEdit.Ablate(feature),
        };
        EditPlace place = edit.Text("at") switch { "all" => EditPlace.All, "from_last" => EditPlace.FromLast, _ => EditPlace.AllButBos };
        return new SaeEdit { Sae = source.Sae.Name, Features = [change], Place = place };
    }
}

/// <summary>A completion in OpenAI's shape: chunk by chunk, and whole.</summary>
internal sealed class OpenAiWriter(ServedModel model, int promptTokens, bool isChat, GenerationRequest request)
{
    private readonly string _id = $"{(isChat ? "chatcmpl" : "cmpl")}-{Guid.NewGuid():N}";
    private readonly long _created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
    private readonly GrowingText _text = new(model);
    private readonly List<OpenAiTokenFeatures> _features = [];
    private readonly List<GeneratedToken> _tokens = [];

    /// <summary>Takes a token; returns the chunk that says it.</summary>
    public OpenAiCompletion Add(GeneratedToken token)
    {
        bool isFirst = _tokens.Count == 0;
        _tokens.Add(token);
        _text.Add(token);
        OpenAiTokenFeatures? features = token.Features is [SaeFeatures one, ..] ? Features(token, one) : null;
        if (features is not null)
            _features.Add(features);
        var choice = new OpenAiChoice
        {
            Delta = isChat ? new OpenAiMessage(isFirst ? "assistant" : null, token.Text ?? "") : null,
            Text = isChat ? null : token.Text ?? "",
            FinishReason = Reason(token.Stop),
            Logprobs = Logprobs([token]),
            Kernelscope = features is null ? null : new OpenAiExtension([features]),
        };
        return Completion(choice, isChunk: true, token.Stop == StopReason.None ? null : Usage());
    }

    public OpenAiCompletion Whole()
    {
        var choice = new OpenAiChoice
        {
            Message = isChat ? new OpenAiMessage("assistant", _text.Text) : null,
            Text = isChat ? null : _text.Text,
            FinishReason = Reason(_text.Stop),
            Logprobs = Logprobs(_tokens),
            Kernelscope = request.Features.Count == 0 ? null : new OpenAiExtension(_features),
        };
        return Completion(choice, isChunk: false, Usage());
    }

    private OpenAiCompletion Completion(OpenAiChoice choice, bool isChunk, OpenAiUsage? usage) =>
        new(_id, isChat ? isChunk ? "chat.completion.chunk" : "chat.completion" : "text_completion", _created, model.Id, choice, usage);

    private OpenAiUsage Usage() => new(promptTokens, _tokens.Count);

    private OpenAiTokenFeatures Features(GeneratedToken token, SaeFeatures features)
    {
        string source = model.Sources.First(s => s.Sae.Name == features.Sae).Id;
        return new OpenAiTokenFeatures(model.TokenText(token.Id), [.. features.Top.Select(f => new OpenAiFeature(
            f.Feature, f.Activation, model.Labels.Of(model.Id, source, f.Feature) is [var first, ..] ? first.Description : null))]);
    }

    private IAnswer? Logprobs(IReadOnlyList<GeneratedToken> tokens)
    {
        if (request.Options.LogProbs is null)
            return null;
        if (isChat)
            return new OpenAiChatLogprobs([.. tokens.Select(Entry)]);
        return new OpenAiTextLogprobs(
            [.. tokens.Select(t => model.TokenText(t.Id))], [.. tokens.Select(t => t.LogProb ?? 0)], [.. tokens.Select(Likeliest)]);
    }

    private OpenAiTokenLogprob Entry(GeneratedToken token) =>
        Entry(token.Id, token.LogProb ?? 0, [.. (token.Top ?? []).Select(o => Entry(o.Id, o.LogProb, null))]);

    private OpenAiTokenLogprob Entry(int id, double logprob, IReadOnlyList<OpenAiTokenLogprob>? top) =>
        new(model.TokenText(id), logprob, [.. System.Text.Encoding.UTF8.GetBytes(model.TokenText(id)).Select(b => (int)b)], top);

    private OpenAiLikeliest Likeliest(GeneratedToken token)
    {
        var top = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (TokenLogProb other in token.Top ?? [])
            top.TryAdd(model.TokenText(other.Id), other.LogProb);
        return new OpenAiLikeliest(top);
    }

    private static string? Reason(StopReason stop) => stop switch
    {
        StopReason.None => null,
        StopReason.EndOfText or StopReason.StopString => "stop",
        _ => "length",
    };
}

using System.Text.Json;
using KernelScope.Generation;
using KernelScope.Sae;
using KernelScope.Text;
using KernelScope.Web.Contract;
using KernelScope.Web.Serving;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>Continues texts and conversations, steered and not, one type after the other from the same seed.</summary>
internal static class SteerEndpoints
{
    public static Task CompletionAsync(Call call)
    {
        int[] prompt = call.Model.Prompt(call.Body.RequiredText("prompt"));
        var plan = SteerPlan.OfInference(call.Model, call.Body, Positions.All, null);
        string[] types = [.. call.Body.Texts("types").Distinct()];
        return RunAsync(call, plan, [.. types.Select(t => (t, prompt))], call.Body.Flag("stream") ?? false, texts =>
            new SteerAnswer([.. types.Select((type, i) => new SteerOutput(type, texts[i].Text, texts[i].Logprobs))]));
    }

    public static Task ChatAsync(Call call)
    {
        ChatMessage[] messages = ModelEndpoints.Messages(call.Body.Entries("prompt"));
        var chat = RenderedChat.Create(call.Model, messages, addGenerationPrompt: true, call.Cancellation);
        var plan = SteerPlan.OfInference(call.Model, call.Body, Where(call, chat.Tokens, "steerSpecialTokens"), chat.StopIds);
        string[] types = [.. call.Body.Texts("types").Distinct()];
        bool streams = call.Body.Flag("stream") ?? false;
        return RunAsync(call, plan, [.. types.Select(t => (t, chat.Tokens))], streams, texts => new SteerChatAnswer(
            [.. types.Select((type, i) => Output(chat, messages, texts[i]) with { Type = type })],
            new SteerChatOutput(chat.Text, Turns(messages))));
    }

    public static Task PublicAsync(Call call)
    {
        call.Model.RequireModel(call.Body.RequiredText("modelId"));
        int[] prompt = call.Model.Prompt(call.Body.RequiredText("prompt"));
        var plan = SteerPlan.OfPublic(call.Model, call.Body, Positions.All, null);
        (string, int[])[] runs = [(SteerPlan.Steered, prompt), (SteerPlan.Default, prompt)];
        return RunAsync(call, plan, runs, call.Body.Flag("stream") ?? false, texts => new PublicSteerAnswer(texts[0].Text, texts[1].Text));
    }

    public static Task PublicChatAsync(Call call)
    {
        call.Model.RequireModel(call.Body.RequiredText("modelId"));
        ChatMessage[] steered = ModelEndpoints.Messages(call.Body.Entries("steeredChatMessages"));
        ChatMessage[] plain = ModelEndpoints.Messages(call.Body.Entries("defaultChatMessages"));
        var steeredChat = RenderedChat.Create(call.Model, steered, addGenerationPrompt: true, call.Cancellation);
        var plainChat = RenderedChat.Create(call.Model, plain, addGenerationPrompt: true, call.Cancellation);
        var plan = SteerPlan.OfPublic(call.Model, call.Body, Where(call, steeredChat.Tokens, "steer_special_tokens"), steeredChat.StopIds);
        (string, int[])[] runs = [(SteerPlan.Steered, steeredChat.Tokens), (SteerPlan.Default, plainChat.Tokens)];
        JsonElement body = call.Body;
        var settings = new SteerSettings(
            body.RequiredNumber("temperature"), body.RequiredWhole("n_tokens"), body.Number("freq_penalty") ?? 0,
            body.RequiredNumber("seed"), body.RequiredNumber("strength_multiplier"), body.Flag("steer_special_tokens") ?? false,
            plan.Method);
        return RunAsync(call, plan, runs, body.Flag("stream") ?? false, texts => new PublicSteerChatAnswer(
            Output(steeredChat, steered, texts[0]), Output(plainChat, plain, texts[1]), plain[^1].Content, settings));
    }

    /// <summary>
    /// Runs each type after the other; with <paramref name="streams"/> a frame for each token, the last of which is the whole answer.
    /// </summary>
    private static async Task RunAsync(
        Call call, SteerPlan plan, (string Type, int[] Prompt)[] runs, bool streams, Func<GrowingText[], IAnswer> answer)
    {
        GrowingText[] texts = [.. runs.Select(_ => new GrowingText(call.Model))];
        EventStream? events = null;
        try
        {
            for (int r = 0; r < runs.Length; r++)
            {
                bool steers = runs[r].Type == SteerPlan.Steered;
                IAsyncEnumerable<GeneratedToken> tokens = plan.Generate(runs[r].Prompt, steers, call.Cancellation);
                await using IAsyncEnumerator<GeneratedToken> reader = tokens.GetAsyncEnumerator(call.Cancellation);
                while (true)
                {
                    Task<bool> next = reader.MoveNextAsync().AsTask();
                    // A full queue refuses at once, while the answer still has a status.
                    if (streams && events is null && !next.IsFaulted)
                        await (events = new EventStream(call.Http)).StartAsync();
                    if (!await (events?.WaitAsync(next) ?? next))
                        break;
                    texts[r].Add(reader.Current);
                    if (events is not null)
                        await events.SendAsync(answer(texts));
                }
            }
        }
        catch (Exception e) when (events is not null && ErrorAnswer.Of(e, call.Http) is (_, string sentence, _))
        {
            await events.SendAsync(new InferenceError(sentence));
            return;
        }

        if (!streams)
            await call.AnswerAsync(answer(texts));
    }

    /// <summary>Where chats are steered: everywhere, or not at the marks of turns in the prompt.</summary>
    private static Positions Where(Call call, int[] prompt, string flag)
    {
        if (call.Body.Flag(flag) ?? false)
            return Positions.All;
        var runs = new List<(int, int)>();
        for (int t = 0; t < prompt.Length; t++)
        {
            if (!call.Model.IsSpecial(prompt[t]))
                runs.Add((t, t));
        }

        runs.Add((prompt.Length, int.MaxValue));
        return Positions.InRanges(runs);
    }

    private static SteerChatOutput Output(RenderedChat chat, ChatMessage[] messages, GrowingText text) =>
        new(chat.Text + text.Text, [.. Turns(messages), new SteerMessage(text.Text, "model")]) { Logprobs = text.Logprobs };

    private static SteerMessage[] Turns(ChatMessage[] messages) => [.. messages.Select(m => new SteerMessage(m.Content, m.Role))];
}

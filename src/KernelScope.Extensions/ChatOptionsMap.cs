using KernelScope.Generation;
using Microsoft.Extensions.AI;

namespace KernelScope.Extensions;

/// <summary>What options of a chat mean to the engine.</summary>
internal static class ChatOptionsMap
{
    /// <summary>The engine's options.</summary>
    /// <param name="chat">What the caller asks for; null: nothing.</param>
    /// <param name="given">What holds where <paramref name="chat"/> does not say.</param>
    /// <param name="stopIds">What ends an answer.</param>
    /// <param name="maxOutputTokens">Most new tokens where <paramref name="chat"/> does not say.</param>
    /// <exception cref="NotSupportedException">An option that nothing here can do.</exception>
    /// <exception cref="ArgumentOutOfRangeException">No new token is asked for.</exception>
    public static GenerationOptions Apply(
        ChatOptions? chat, GenerationOptions given, IReadOnlyCollection<int>? stopIds, int maxOutputTokens)
    {
        if (chat is null)
            return given with { MaxNewTokens = maxOutputTokens, StopIds = stopIds };
        RefuseUnsupported(chat);
        if (chat.MaxOutputTokens is < 1)
        {
            throw new ArgumentOutOfRangeException(
                nameof(chat), $"ChatOptions.MaxOutputTokens is {chat.MaxOutputTokens}; an answer has at least one token.");
        }

        return given with
        {
            MaxNewTokens = chat.MaxOutputTokens ?? maxOutputTokens,
            Sampling = Sampling(chat, given.Sampling),
            StopIds = stopIds,
            StopStrings = chat.StopSequences is { Count: > 0 } stops ? [.. stops] : given.StopStrings,
        };
    }

    private static SamplingOptions Sampling(ChatOptions chat, SamplingOptions given)
    {
        SamplingOptions sampling = given with { FrequencyPenalty = Exact(chat.FrequencyPenalty) ?? given.FrequencyPenalty };
        bool asksForChance = chat.TopK is > 0 || chat.TopP is < 1 || chat.Seed is not null;
        double temperature = Exact(chat.Temperature) ?? (given.Temperature == 0 && asksForChance ? 1 : given.Temperature);
        // At temperature 0 the largest logit is taken, which top-k, top-p and a seed leave as it is; a value that cannot
        // be meant stays, and is refused.
        return temperature == 0 ? sampling with
        {
            Temperature = 0,
            TopK = Math.Min(chat.TopK ?? 0, 0),
            TopP = chat.TopP is float p and not (> 0 and <= 1) ? p : 1,
            MinP = 0,
            Seed = null,
        } : sampling with
        {
            Temperature = temperature,
            TopK = chat.TopK ?? given.TopK,
            TopP = Exact(chat.TopP) ?? given.TopP,
            Seed = chat.Seed is long seed ? unchecked((ulong)seed) : given.Seed,
        };
    }

    /// <summary>0.9f as 0.9: what the caller wrote, not its nearest float32.</summary>
    private static double? Exact(float? value) => value is float f && MathF.Abs(f) is > 1e-20f and < 1e20f ? (double)(decimal)f : value;

    private static void RefuseUnsupported(ChatOptions chat)
    {
        Refuse(chat.Tools is { Count: > 0 }, "Tools");
        Refuse(chat.ResponseFormat is ChatResponseFormatJson, "A JSON response format");
        Refuse(chat.PresencePenalty is not (null or 0), "A presence penalty");
        Refuse(chat.ConversationId is not null, "A conversation id");
        Refuse(chat.ContinuationToken is not null, "A continuation token");
    }

    private static void Refuse(bool isAsked, string what)
    {
        if (isAsked)
            throw new NotSupportedException($"{what} is not supported by this chat client.");
    }
}

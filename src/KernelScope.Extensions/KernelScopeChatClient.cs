using System.Runtime.CompilerServices;
using System.Text;
using KernelScope.Chat;
using KernelScope.Generation;
using KernelScope.Runtime;
using Microsoft.Extensions.AI;
using ChatMessage = Microsoft.Extensions.AI.ChatMessage;

namespace KernelScope.Extensions;

/// <summary>An engine as an <see cref="IChatClient"/>.</summary>
/// <remarks>
/// <para>Safe for any number of threads. The engine belongs to whoever opened it.</para>
/// <para>
/// Messages are texts of the roles user, assistant and system, written by the chat template of the model's folder
/// (<see cref="KernelScopeEngine.Chat"/>). Where it refuses a system role, as Gemma's does, system messages and
/// <see cref="ChatOptions.Instructions"/> stand before the first user message.
/// </para>
/// <para>
/// Used of <see cref="ChatOptions"/>: MaxOutputTokens, Temperature, TopK, TopP, Seed, FrequencyPenalty, StopSequences, Instructions.
/// Without a temperature the answer is greedy, unless TopK, TopP or Seed ask for chance: then it is 1.
/// Tools, a JSON response format, a presence penalty, a conversation id and a continuation token are refused with a
/// <see cref="NotSupportedException"/>; ModelId is ignored.
/// </para>
/// <para>
/// <see cref="ChatOptions.RawRepresentationFactory"/> may give a <see cref="GenerationRequest"/>: its edits, features and sampling are
/// the beginning on which the other options are put. Each update's
/// <see cref="ChatResponseUpdate.RawRepresentation"/> is the engine's <see cref="GeneratedToken"/>.
/// </para>
/// </remarks>
/// <example>
/// <code>
/// IChatClient client = new KernelScopeChatClient(engine);
/// await foreach (ChatResponseUpdate update in client.GetStreamingResponseAsync("Why is the sky blue?"))
///     Console.Write(update.Text);
/// </code>
/// </example>
public sealed class KernelScopeChatClient : IChatClient
{
    private readonly KernelScopeEngine _engine;
    private readonly int _maxOutputTokens;
    private readonly ChatClientMetadata _metadata;

    /// <summary>Chats with an engine's model.</summary>
    /// <param name="engine">The engine; its model has a tokenizer.</param>
    /// <param name="maxOutputTokens">Most new tokens of an answer whose <see cref="ChatOptions.MaxOutputTokens"/> is null.</param>
    /// <exception cref="ArgumentException">The engine has no tokenizer.</exception>
    public KernelScopeChatClient(KernelScopeEngine engine, int maxOutputTokens = 512)
    {
        ArgumentNullException.ThrowIfNull(engine);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxOutputTokens);
        _engine = engine;
        if (engine.Tokenizer is null)
            throw new ArgumentException("The engine's model has no tokenizer, which a chat needs.", nameof(engine));
        _maxOutputTokens = maxOutputTokens;
        _metadata = new ChatClientMetadata("kernelscope", defaultModelId: engine.ModelName);
    }

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">A message or an option that this client does not know.</exception>
    /// <exception cref="ArgumentException">No messages, roles that do not alternate, or a conversation that is longer than the engine's
    /// context.</exception>
    /// <exception cref="EngineBusyException">The engine takes no more requests now.</exception>
    public Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        GetStreamingResponseAsync(messages, options, cancellationToken).ToChatResponseAsync(cancellationToken);

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">A message or an option that this client does not know.</exception>
    /// <exception cref="ArgumentException">No messages, roles that do not alternate, or a conversation that is longer than the engine's
    /// context.</exception>
    /// <exception cref="EngineBusyException">The engine takes no more requests now.</exception>
    public IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        int[] prompt = Encode(messages, options?.Instructions, cancellationToken);
        GenerationRequest given = options?.RawRepresentationFactory?.Invoke(this) as GenerationRequest ?? new GenerationRequest();
        GenerationRequest request = given with
        {
            Prompt = null,
            PromptTokens = prompt,
            Options = ChatOptionsMap.Apply(options, given.Options, StopIds(given.Options), _maxOutputTokens),
        };
        return UpdatesAsync(_engine.GenerateAsync(request, cancellationToken), prompt.Length, cancellationToken);
    }

    /// <inheritdoc/>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(ChatClientMetadata) ? _metadata
            : serviceType == typeof(KernelScopeEngine) ? _engine
            : serviceType.IsInstanceOfType(this) ? this
            : null;
    }

    /// <summary>Does nothing: the engine belongs to whoever opened it.</summary>
    public void Dispose()
    {
    }

    private static async IAsyncEnumerable<ChatResponseUpdate> UpdatesAsync(
        IAsyncEnumerable<GeneratedToken> tokens, int promptTokens, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        string id = Guid.NewGuid().ToString("N");
        int count = 0;
        await foreach (GeneratedToken token in tokens.WithCancellation(cancellationToken).ConfigureAwait(false))
        {
            count++;
            var update = new ChatResponseUpdate(ChatRole.Assistant, token.Text)
            {
                ResponseId = id,
                MessageId = id,
                CreatedAt = DateTimeOffset.UtcNow,
                RawRepresentation = token,
            };
            if (token.Stop != StopReason.None)
            {
                bool isWhole = token.Stop is StopReason.EndOfText or StopReason.StopString;
                update.FinishReason = isWhole ? ChatFinishReason.Stop : ChatFinishReason.Length;
                update.Contents.Add(new UsageContent(Usage(promptTokens, count)));
            }

            yield return update;
        }
    }

    private static UsageDetails Usage(int promptTokens, int newTokens) =>
        new() { InputTokenCount = promptTokens, OutputTokenCount = newTokens, TotalTokenCount = promptTokens + newTokens };

    /// <summary>The conversation up to the answer; what the system says before the first message where the template refuses it.</summary>
    private int[] Encode(IEnumerable<ChatMessage> messages, string? instructions, CancellationToken cancellationToken)
    {
        var system = new StringBuilder(instructions);
        var turns = new List<Text.ChatMessage>();
        foreach (ChatMessage message in messages)
        {
            if (message is null)
                throw new ArgumentException("The conversation has a message that is null.", nameof(messages));
            string text = TextOf(message);
            if (message.Role == ChatRole.System && turns.Count == 0)
                system.Append(system.Length > 0 ? "\n\n" : "").Append(text);
            else
                turns.Add(new Text.ChatMessage(RoleOf(message.Role), text));
        }

        if (system.Length > 0 && turns.Count == 0)
            throw new ArgumentException("The conversation has system messages only; it needs a user's.", nameof(messages));
        ChatFormat chat = _engine.Chat;
        if (system.Length > 0 && turns.Count > 0)
        {
            var first = new Text.ChatMessage("system", system.ToString());
            if (chat.TemplatePath is not null && TryEncode(chat, [first, .. turns], cancellationToken) is int[] ids)
                return ids;
            turns[0] = turns[0] with { Content = $"{system}\n\n{turns[0].Content}" };
        }

        return chat.Encode(turns, addGenerationPrompt: true, cancellationToken);
    }

    private static int[]? TryEncode(ChatFormat chat, List<Text.ChatMessage> turns, CancellationToken cancellationToken)
    {
        try
        {
            return chat.Encode(turns, addGenerationPrompt: true, cancellationToken);
        }
        catch (ArgumentException)
        {
            // The template refuses: most likely the system's turn, as Gemma's own does.
            return null;
        }
    }

    private static string RoleOf(ChatRole role) => role == ChatRole.User ? "user" : role == ChatRole.Assistant ? "assistant"
        : throw new NotSupportedException(
            $"A message of the role '{role}' is not supported here: system messages come first, then user and assistant in turn.");

    private static string TextOf(ChatMessage message)
    {
        foreach (AIContent content in message.Contents)
        {
            if (content is not (TextContent or TextReasoningContent or UsageContent))
                throw new NotSupportedException($"A message holds {content.GetType().Name}; the model reads texts only.");
        }

        return message.Text;
    }

    /// <summary>What ends an answer: what ends the model's texts, and the end of a turn, which base models do not count among them.</summary>
    private IReadOnlyCollection<int>? StopIds(GenerationOptions given) =>
        given.StopIds ?? (_engine.Chat.EndOfTurnId is int end ? [.. _engine.Model.Config.EosIds.Union([end])] : null);
}

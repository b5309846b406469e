using KernelScope.Text;
using KernelScope.Web.Contract;
using KernelScope.Web.Endpoints;

namespace KernelScope.Web.Sources;

/// <summary>A conversation as the model reads it: its text, its ids, and to which message each token belongs.</summary>
internal sealed class RenderedChat
{
    private const string NoTemplate = "This model has no chat template, so it cannot accept chat messages. "
        + "Use /v1/steer/completion with a raw `prompt` instead.";

    private readonly ServedModel _model;
    private readonly ChatMessage[] _messages;

    private RenderedChat(ServedModel model, ChatMessage[] messages, string text, int[] tokens)
    {
        _model = model;
        _messages = messages;
        Text = text;
        Tokens = tokens;
    }

    public string Text { get; }

    public int[] Tokens { get; }

    /// <summary>Ids that end an answer: the model's own, and the end of a turn.</summary>
    public IReadOnlyCollection<int>? StopIds =>
        _model.Engine.Chat.EndOfTurnId is int end ? [.. _model.Config.EosIds.Union([end])] : null;

    /// <exception cref="Refusal">There are no messages, they are too long, or the model is a base model.</exception>
    /// <exception cref="ArgumentException">The template refuses them.</exception>
    public static RenderedChat Create(
        ServedModel model, ChatMessage[] messages, bool addGenerationPrompt, CancellationToken cancellationToken)
    {
        if (messages.Length == 0)
            throw Refusal.Bad("There are no messages.", "messages");
        if (model.Engine.Chat.EndOfTurnId is null)
            throw Refusal.Bad(NoTemplate);
        string text = model.Engine.Chat.Render(messages, addGenerationPrompt, cancellationToken);
        int[] tokens = model.Fitting(model.Engine.Chat.Encode(messages, addGenerationPrompt, cancellationToken));
        return new RenderedChat(model, messages, text, tokens);
    }

    /// <summary>
    /// Each token with the message that it belongs to: a message's tokens are those by which the conversation grows with it. What comes
    /// before a message's own text, and its end, is its header and footer.
    /// </summary>
    public TokenSpan[] Spans()
    {
        int[] ends = [.. Enumerable.Range(1, _messages.Length).Select(EndOf)];
        var spans = new TokenSpan[Tokens.Length];
        for (int t = 0; t < spans.Length; t++)
        {
            int message = Array.FindIndex(ends, e => t < e);
            string role = message < 0 ? "assistant" : _messages[message].Role;
            string section = _model.IsSpecial(Tokens[t]) || message < 0 ? "template" : "content";
            spans[t] = new TokenSpan(t, Tokens[t], _model.TokenText(Tokens[t]), section, message < 0 ? null : message, role, null);
        }

        return spans;
    }

    private int EndOf(int messages)
    {
        if (messages == _messages.Length)
        {
            int[] without = _model.Engine.Chat.Encode(_messages, addGenerationPrompt: false);
            return Math.Min(without.Length, Tokens.Length);
        }

        try
        {
            return Math.Min(_model.Engine.Chat.Encode(_messages[..messages], addGenerationPrompt: false).Length, Tokens.Length);
        }
        catch (ArgumentException)
        {
            // A template that takes no part of a conversation alone: its messages go with the next.
            return 0;
        }
    }
}

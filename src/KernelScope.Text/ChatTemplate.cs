using System.Text;

namespace KernelScope.Text;

/// <summary>
/// The conversation format of Gemma 2 IT, equal to the jinja template that its repository ships (spec A.5).
/// </summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class ChatTemplate
{
    private const string Bos = "<bos>", StartOfTurn = "<start_of_turn>", EndOfTurn = "<end_of_turn>";

    /// <summary>The conversation as text, <c>&lt;bos&gt;</c> included.</summary>
    /// <param name="messages">Turns, alternating, the user first. Contents are trimmed as Python's <c>str.strip</c> does.</param>
    /// <param name="addGenerationPrompt">Whether to begin the model's next turn.</param>
    /// <exception cref="ArgumentException">No messages, a system message first, or roles that do not alternate.</exception>
    public static string Render(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt)
    {
        var text = new StringBuilder(Bos);
        AppendTurns(text, messages, addGenerationPrompt);
        return text.ToString();
    }

    /// <summary>
    /// The conversation as ids: BOS, then the ids of the rendered text after its <c>&lt;bos&gt;</c>. A <c>&lt;bos&gt;</c> inside a
    /// message is text; a turn marker inside a message is a turn marker, as in every implementation.
    /// </summary>
    /// <exception cref="ArgumentException">As <see cref="Render"/>; or the tokenizer has no BOS.</exception>
    public static int[] Encode(GemmaTokenizer tokenizer, IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (tokenizer.BosId < 0)
            throw new ArgumentException("This tokenizer has no BOS piece, with which every conversation begins.", nameof(tokenizer));
        var text = new StringBuilder();
        AppendTurns(text, messages, addGenerationPrompt);
        var ids = new List<int> { tokenizer.BosId };
        tokenizer.Encode(text.ToString(), ids);
        return [.. ids];
    }

    private static void AppendTurns(StringBuilder text, IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt)
    {
        ArgumentNullException.ThrowIfNull(messages);
        if (messages.Count == 0)
            throw new ArgumentException("A conversation needs at least one message.");
        // These two sentences are the template's own.
        if (messages[0].Role == "system")
            throw new ArgumentException("System role not supported");
        for (int i = 0; i < messages.Count; i++)
        {
            if ((messages[i].Role == "user") != (i % 2 == 0))
                throw new ArgumentException("Conversation roles must alternate user/assistant/user/assistant/...");
            string role = messages[i].Role == "assistant" ? "model" : messages[i].Role;
            text.Append(StartOfTurn).Append(role).Append('\n').Append(Trim(messages[i].Content)).Append(EndOfTurn).Append('\n');
        }

        if (addGenerationPrompt)
            text.Append(StartOfTurn).Append("model\n");
    }

    private static ReadOnlySpan<char> Trim(string content)
    {
        int start = 0, end = content.Length;
        while (start < end && IsPythonSpace(content[start]))
            start++;
        while (end > start && IsPythonSpace(content[end - 1]))
            end--;
        return content.AsSpan(start, end - start);
    }

    /// <summary>Python counts the four information separators as white space; .NET does not. Otherwise they agree.</summary>
    private static bool IsPythonSpace(char c) => char.IsWhiteSpace(c) || c is >= '\u001C' and <= '\u001F';
}

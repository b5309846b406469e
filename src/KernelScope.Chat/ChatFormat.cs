using KernelScope.Chat.Jinja;
using KernelScope.Files;
using KernelScope.Text;

namespace KernelScope.Chat;

/// <summary>
/// How a model's conversations are written: by the chat template of its folder, or, where the folder has none, in Gemma's turns.
/// Safe for use by many threads at once.
/// </summary>
/// <remarks>
/// Templates are run as transformers runs them (Jinja2 in a sandbox, with trim_blocks, lstrip_blocks and the loop controls), as far as the
/// templates of Gemma, ChatML, Llama, Mistral and Phi need; what is not supported is refused by its name when the folder is opened, and
/// what a template may compute and write is bounded.
/// </remarks>
/// <example>
/// <code>
/// ModelFolder folder = ModelFolder.Resolve("google/gemma-2-2b-it");
/// GemmaTokenizer tokenizer = GemmaTokenizer.Open(folder)!;
/// ChatFormat chat = ChatFormat.Open(folder, tokenizer);
/// int[] prompt = chat.Encode([new ChatMessage("user", "What is a harbour?")], addGenerationPrompt: true);
/// </code>
/// </example>
public sealed class ChatFormat
{
    // Noncharacters, which no text holds that anybody wrote; one of them marks what a message says.
    private const char FirstGuard = '\uFDD0', LastGuard = '\uFDEF';

    private readonly GemmaTokenizer _tokenizer;
    private readonly Template? _template;
    private readonly SpecialTexts _special;
    private readonly (string Text, int Id)[] _controls;

    private ChatFormat(GemmaTokenizer tokenizer, string? path, Template? template, SpecialTexts special)
    {
        _tokenizer = tokenizer;
        TemplatePath = path;
        _template = template;
        _special = special;
        _controls = [.. ((int[])[tokenizer.BosId, tokenizer.EosId, tokenizer.PadId]).Where(id => id >= 0 && tokenizer.IsControl(id))
            .Select(id => (tokenizer.Piece(id), id))];
        EndOfTurnId = FindEndOfTurn();
    }

    /// <summary>The file that the template comes from; null for Gemma's turns.</summary>
    public string? TemplatePath { get; }

    /// <summary>
    /// The token that the template puts after what the assistant said, such as <c>&lt;end_of_turn&gt;</c>; null if that is ordinary text.
    /// Generation of a turn ends with it.
    /// </summary>
    public int? EndOfTurnId { get; }

    /// <summary>
    /// The format of a folder: the template of <c>chat_template.jinja</c>, else of <c>tokenizer_config.json</c>, else of
    /// <c>chat_template.json</c>; of several named ones, "default"; Gemma's turns if there is none.
    /// </summary>
    /// <exception cref="InvalidDataException">A file is malformed, or the template uses what is not supported; the message names
    /// both.</exception>
    public static ChatFormat Open(ModelFolder folder, GemmaTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(tokenizer);
        SpecialTexts special = SpecialTexts.Read(folder, tokenizer);
        if (TemplateFiles.Find(folder) is not (string path, string source))
            return new ChatFormat(tokenizer, null, null, special);
        try
        {
            return new ChatFormat(tokenizer, path, Template.Parse(source), special);
        }
        catch (TemplateException e)
        {
            throw new InvalidDataException($"{path}: the chat template cannot be used: {Place(e)}{e.Message}.", e);
        }
    }

    /// <summary>Gemma's turns, whatever a folder says.</summary>
    public static ChatFormat Gemma(GemmaTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        return new ChatFormat(tokenizer, null, null, SpecialTexts.None);
    }

    /// <summary>The conversation as text.</summary>
    /// <param name="messages">Turns; which roles there may be, and in which order, is the template's business.</param>
    /// <param name="addGenerationPrompt">Whether to begin the assistant's next turn.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="ArgumentException">The template refuses the conversation; the message is the template's own.</exception>
    /// <exception cref="InvalidDataException">The template fails.</exception>
    public string Render(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        return _template is null ? ChatTemplate.Render(messages, addGenerationPrompt)
            : Run(messages, addGenerationPrompt, cancellationToken);
    }

    /// <summary>
    /// The conversation as ids, exactly as the template has it: it is the template that writes BOS. Where the template writes
    /// <c>&lt;bos&gt;</c> it is that token; the same text inside a message stays text. An added token or turn marker inside a message is
    /// that token, as in every implementation.
    /// </summary>
    /// <inheritdoc cref="Render" path="/param"/>
    /// <exception cref="ArgumentException">The template refuses the conversation; the message is the template's own.</exception>
    /// <exception cref="InvalidDataException">The template fails.</exception>
    public int[] Encode(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        if (_template is null)
            return ChatTemplate.Encode(_tokenizer, messages, addGenerationPrompt);
        char guard = FirstGuard;
        while (guard < LastGuard && messages.Any(m => m.Content.Contains(guard, StringComparison.Ordinal)))
            guard++;
        string text =
            Run([.. messages.Select(m => new ChatMessage(m.Role, Guarded(m.Content, guard)))], addGenerationPrompt, cancellationToken);
        var ids = new List<int>();
        Encode(text, guard.ToString(), ids);
        return [.. ids];
    }

    /// <summary>A message whose texts of control tokens are broken, so that only the template's own are found.</summary>
    private string Guarded(string content, char guard) =>
        _controls.Aggregate(content,
            (text, control) => text.Replace(control.Text, $"{control.Text[0]}{guard}{control.Text[1..]}", StringComparison.Ordinal));

    private void Encode(string text, string guard, List<int> ids)
    {
        for (int at = 0; at < text.Length;)
        {
            (int start, int length, int id) = (text.Length, 0, -1);
            foreach ((string control, int number) in _controls)
            {
                int found = text.IndexOf(control, at, start - at, StringComparison.Ordinal);
                if (found >= 0)
                    (start, length, id) = (found, control.Length, number);
            }

            _tokenizer.Encode(text[at..start].Replace(guard, "", StringComparison.Ordinal), ids);
            if (id >= 0)
                ids.Add(id);
            at = start + length;
        }
    }

    private string Run(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt, CancellationToken cancellationToken)
    {
        var turns = new List<object?>();
        foreach (ChatMessage message in messages)
        {
            var turn = new PyDict();
            turn.Set("role", message.Role);
            turn.Set("content", message.Content);
            turns.Add(turn);
        }

        try
        {
            return _template!.Render(
                [.. _special.Variables, new("messages", new PyList(turns)), new("add_generation_prompt", addGenerationPrompt),
                    new("tools", null), new("documents", null)], DateTime.Now, cancellationToken);
        }
        catch (TemplateException e) when (e.IsRefusal)
        {
            throw new ArgumentException(e.Message, e);
        }
        catch (TemplateException e)
        {
            throw new InvalidDataException($"{TemplatePath}: the chat template cannot be run: {Place(e)}{e.Message}.", e);
        }
    }

    /// <summary>What stands right after an answer, if that is a token of its own.</summary>
    private int? FindEndOfTurn()
    {
        const string Answer = "4114answer4114";
        try
        {
            string text = Render([new ChatMessage("user", "question"), new ChatMessage("assistant", Answer)], addGenerationPrompt: false);
            int end = text.IndexOf(Answer, StringComparison.Ordinal);
            if (end < 0)
                return null;
            var ids = new List<int>();
            Encode(text[(end + Answer.Length)..], FirstGuard.ToString(), ids);
            int first = ids.FirstOrDefault(id => !string.IsNullOrWhiteSpace(_tokenizer.Piece(id).Replace('\u2581', ' ')), -1);
            return first >= 0 && (_tokenizer.IsUserDefined(first) || _tokenizer.IsControl(first)) ? first : null;
        }
        catch (Exception e) when (e is ArgumentException or InvalidDataException)
        {
            // A template that refuses this conversation says nothing about how a turn ends.
            return null;
        }
    }

    private static string Place(TemplateException e) => e.Line > 0 ? $"line {e.Line}: " : "";
}

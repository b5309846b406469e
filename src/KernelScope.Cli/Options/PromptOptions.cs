using System.CommandLine;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>A prompt: a text, before which BOS is put, or token ids, taken as they are.</summary>
internal sealed class PromptOptions
{
    private const string StandardInput = "-";
    private readonly string? _default;
    private readonly Argument<string?> _text;
    private readonly Option<string?> _tokens = new("--tokens") { Description = "Token ids instead of a text, taken as they are: 2,5,7.", HelpName = "IDS" };

    /// <summary>Adds the prompt to a verb.</summary>
    /// <param name="verb">The verb.</param>
    /// <param name="name">What the help calls the text.</param>
    /// <param name="default">The text where none is given; null: one must be given.</param>
    public PromptOptions(Command verb, string name, string? @default)
    {
        _default = @default;
        string otherwise = @default is null ? "" : $" Default: \"{@default}\"";
        _text = new Argument<string?>(name) { Description = $"The text; '-' reads it from standard input.{otherwise}", Arity = ArgumentArity.ZeroOrOne };
        verb.Arguments.Add(_text);
        verb.Options.Add(_tokens);
    }

    /// <summary>Whether a text or tokens were given.</summary>
    public bool IsGiven(ParseResult parsed) => parsed.GetValue(_text) is not null || parsed.GetValue(_tokens) is not null;

    /// <summary>Reads what was given; no model is needed for that.</summary>
    /// <exception cref="UsageException">Both a text and tokens, or neither, or an empty one.</exception>
    public Prompt Of(ParseResult parsed, Streams streams)
    {
        string? text = parsed.GetValue(_text);
        if (parsed.GetValue(_tokens) is string tokens)
            return text is null ? new Prompt(null, Parsing.TokenIds(tokens, "--tokens")) : throw new UsageException("a text and --tokens were given; one of them is the prompt.");
        text = text == StandardInput ? StandardText.Read(streams) : text ?? _default ?? throw new UsageException("a text is missing (or --tokens).");
        return text.Length > 0 ? new Prompt(text, null) : throw new UsageException("the text is empty.");
    }
}

/// <summary>A prompt before there is a tokenizer.</summary>
/// <param name="Text">The text; null if ids were given.</param>
/// <param name="Ids">The ids; null if a text was given.</param>
internal sealed record Prompt(string? Text, long[]? Ids)
{
    /// <summary>The tokens for a model.</summary>
    /// <param name="model">The model's files.</param>
    /// <param name="chat">Whether the text is one turn of a user's, in the chat template.</param>
    /// <exception cref="WorkException">No tokenizer, an id outside the vocabulary, or more tokens than the context holds.</exception>
    public int[] Tokens(ModelFiles model, bool chat = false)
    {
        int[] tokens = Ids is not null ? Checked(Ids, model) : chat ? Chat(model.RequiredTokenizer) : WithBos(model);
        int context = model.Config.ContextLength;
        return tokens.Length <= context ? tokens : throw new WorkException($"the prompt has {tokens.Length} tokens; the context of {model.Name} holds {context}.");
    }

    private int[] Chat(GemmaTokenizer tokenizer) => ChatTemplate.Encode(tokenizer, [new ChatMessage("user", Text!)], addGenerationPrompt: true);

    private int[] WithBos(ModelFiles model)
    {
        var ids = new List<int> { model.BosId };
        model.RequiredTokenizer.Encode(Text, ids);
        return [.. ids];
    }

    private static int[] Checked(long[] ids, ModelFiles model)
    {
        int vocabulary = model.Config.VocabSize;
        foreach (long id in ids)
        {
            if (id < 0 || id >= vocabulary)
                throw new WorkException($"token id {id} is outside the vocabulary of {model.Name}, which has ids 0 to {vocabulary - 1}.");
        }

        return Array.ConvertAll(ids, id => (int)id);
    }
}

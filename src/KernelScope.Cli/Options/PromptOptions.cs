using System.CommandLine;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>A prompt: a text, before which BOS is put, or token ids, taken as they are.</summary>
internal sealed class PromptOptions
{
    private const string Dash = "-";
    private readonly string? _default;
    private readonly Argument<string?> _text;
    private readonly Option<string?> _tokens = new("--tokens")
    {
        Description = "Token ids instead of a text, taken as they are: 2,5,7.",
        HelpName = "IDS",
    };

    private readonly PromptFiles? _files;

    /// <summary>Adds the prompt to a verb.</summary>
    /// <param name="verb">The verb.</param>
    /// <param name="name">What the help calls the text.</param>
    /// <param name="default">The text where none is given; null: one must be given.</param>
    /// <param name="files">Whether it may also come from files, and be many.</param>
    public PromptOptions(Command verb, string name, string? @default, bool files = false)
    {
        _default = @default;
        string otherwise = @default is null ? "" : $"; on a terminal, with /dev/null or an empty pipe the example \"{@default}\"";
        _text = new Argument<string?>(name)
        {
            Description = "The text; '-' reads it from standard input. Without one: what a pipe or a file on standard input " +
                $"holds{otherwise}.",
            Arity = ArgumentArity.ZeroOrOne,
        };
        verb.Arguments.Add(_text);
        verb.Options.Add(_tokens);
        _files = files ? new PromptFiles(verb) : null;
    }

    /// <summary>Whether a text or tokens were given.</summary>
    public bool IsGiven(ParseResult parsed) =>
        parsed.GetValue(_text) is not null || parsed.GetValue(_tokens) is not null || _files?.Given(parsed) is not null;

    /// <summary>The file from which it comes; null: none was named.</summary>
    public string? PathOf(ParseResult parsed) => _files?.PathOf(parsed);

    /// <summary>Reads the one that was given; no model is needed for that.</summary>
    /// <exception cref="UsageException">Both a text and tokens, or neither, or an empty one.</exception>
    public Prompt Read(ParseResult parsed, Streams streams) => ReadAll(parsed, streams).Prompts[0];

    /// <summary>Reads what was given; no model is needed for that.</summary>
    /// <exception cref="UsageException">Both a text and tokens, or neither, or an empty one.</exception>
    public PromptList ReadAll(ParseResult parsed, Streams streams)
    {
        string? text = parsed.GetValue(_text), tokens = parsed.GetValue(_tokens), file = _files?.Given(parsed);
        string[] given = [.. new[] { text is null ? null : "a text", tokens is null ? null : "--tokens", file }.OfType<string>()];
        if (given.Length > 1)
            throw new UsageException($"{given[0]} and {given[1]} were given; one of them is the prompt.");
        if (file is not null)
            return _files!.Read(parsed, streams);
        if (tokens is not null)
            return PromptList.Single(new Prompt(null, Parsing.TokenIds(tokens, "--tokens")) { Warnings = streams });
        // Programs that start this one often leave it an empty pipe; a JSON document says which tokens were run.
        bool isJson = parsed.GetValue<bool>(CommonOptions.JsonName);
        text = text == Dash ? StandardText.Read(streams) : text ?? Piped(streams, isJson ? null : _default) ?? _default;
        if (text is null)
            throw new UsageException($"a text is missing (or --tokens{(_files is null ? "" : $", {PromptFiles.Names}")}).");
        return text.Length > 0 ? PromptList.Single(new Prompt(text, null) { Warnings = streams })
            : throw new UsageException("the text is empty.");
    }

    /// <summary>The text of a pipe, although nothing says '-'; null if there is none. Whoever pipes a text in means it.</summary>
    /// <param name="streams">Where it is said that nothing came.</param>
    /// <param name="otherwise">The text that is then used; null: what does without one says so itself.</param>
    /// <exception cref="UsageException">An empty file stands on standard input.</exception>
    public static string? Piped(Streams streams, string? otherwise = null)
    {
        string? text = StandardText.ReadWhatComes();
        if (text is { Length: > 0 })
            return text;
        if (text is null)
        {
            const string Sentence = "standard input is open, but nothing has come from it in two seconds: it is not read.";
            streams.Warn($"{Sentence} '-' for the text waits, '< /dev/null' says that there is none.");
        }
        else if (StandardInput.Kind == StandardInputKind.File)
        {
            throw new UsageException("the file on standard input holds no text ('< /dev/null' says that there is none).");
        }
        else if (StandardInput.Kind == StandardInputKind.Pipe && otherwise is not null)
        {
            streams.Warn($"standard input is empty, so the example is used: \"{otherwise}\"");
        }

        return null;
    }
}

/// <summary>What a command runs on.</summary>
/// <param name="Prompts">In their order; at least one.</param>
/// <param name="IsSeveral">Whether they are answered as a list, which may have one entry.</param>
internal sealed record PromptList(IReadOnlyList<Prompt> Prompts, bool IsSeveral)
{
    /// <summary>The usual one.</summary>
    public static PromptList Single(Prompt prompt) => new([prompt], IsSeveral: false);

    /// <summary>Of a corpus that looks wrong nobody reads more sentences than these.</summary>
    private const int MostWarnings = 3;

    /// <summary>The tokens of each for a model.</summary>
    /// <exception cref="WorkException">As of <see cref="Prompt.Tokens(ModelFiles, bool)"/>.</exception>
    public int[][] Tokens(ModelFiles model)
    {
        int[][] all = new int[Prompts.Count][];
        int doubtful = 0;
        for (int i = 0; i < all.Length; i++)
        {
            all[i] = Prompts[i].Tokens(model, out string? doubt);
            if (doubt is not null && doubtful++ < MostWarnings)
                Prompts[i].Warn(doubt);
        }

        if (doubtful > MostWarnings)
            Prompts[0].Warn($"{doubtful - MostWarnings} more of the {all.Length} texts look wrong in such a way.", isOfAll: true);
        return all;
    }
}

/// <summary>A prompt before there is a tokenizer.</summary>
/// <param name="Text">The text; null if ids were given.</param>
/// <param name="Ids">The ids; null if a text was given.</param>
internal sealed record Prompt(string? Text, long[]? Ids)
{
    /// <summary>Where it is said that something in it looks wrong; null: nowhere.</summary>
    public Streams? Warnings { get; init; }

    /// <summary>What messages call it if it comes from a file: <c>texts.jsonl, line 3</c>.</summary>
    public string? Place { get; init; }

    /// <summary>The tokens for a model.</summary>
    /// <param name="model">The model's files.</param>
    /// <param name="chat">Whether the text is one turn of a user's, in the chat template.</param>
    /// <exception cref="WorkException">No tokenizer, an id outside the vocabulary, or more tokens than the context holds.</exception>
    public int[] Tokens(ModelFiles model, bool chat = false)
    {
        int[] tokens = Tokens(model, out string? doubt, chat);
        if (doubt is not null)
            Warn(doubt);
        return tokens;
    }

    /// <summary>The same, and what looks wrong in them instead of a warning.</summary>
    public int[] Tokens(ModelFiles model, out string? doubt, bool chat = false)
    {
        int[] tokens = Ids is not null ? Checked(Ids, model) : chat ? ChatTokens(model, [new ChatMessage("user", Text!)]) : WithBos(model);
        int context = model.Config.ContextLength;
        if (tokens.Length > context)
            throw new WorkException($"{Before}the prompt has {tokens.Length} tokens; the context of {model.Name} holds {context}.");
        doubt = Text is null ? PromptDoubt.OfIds([tokens], model.BosId)
            : PromptDoubt.OfText(Text, model.RequiredTokenizer, chat)
                ?? (chat ? PromptDoubt.OfChat(tokens, model.BosId, model.Chat.TemplatePath) : null);
        return tokens;
    }

    /// <summary>Says that something looks wrong.</summary>
    public void Warn(string doubt, bool isOfAll = false)
    {
        if (Warnings is not null)
            Warnings.Warn($"{(isOfAll ? "" : Before)}{doubt}");
    }

    /// <summary>A conversation up to the model's next turn.</summary>
    /// <exception cref="WorkException">The template refuses it.</exception>
    public static int[] ChatTokens(ModelFiles model, IReadOnlyList<ChatMessage> messages)
    {
        try
        {
            return model.Chat.Encode(messages, addGenerationPrompt: true);
        }
        catch (ArgumentException e)
        {
            string template = model.Chat.TemplatePath ?? model.Name;
            throw new WorkException($"{template}: the chat template refuses this conversation: {e.Message.TrimEnd('.')}.");
        }
    }

    private string Before => Place is null ? "" : $"{Place}: ";

    private int[] WithBos(ModelFiles model)
    {
        var ids = new List<int> { model.BosId };
        model.RequiredTokenizer.Encode(Text, ids);
        return [.. ids];
    }

    private int[] Checked(long[] ids, ModelFiles model)
    {
        int vocabulary = model.Config.VocabSize;
        foreach (long id in ids)
        {
            if (id < 0 || id >= vocabulary)
            {
                string outside = $"outside the vocabulary of {model.Name}, which has ids 0 to {vocabulary - 1}";
                throw new WorkException($"{Before}token id {id} is {outside}.");
            }
        }

        return Array.ConvertAll(ids, id => (int)id);
    }
}

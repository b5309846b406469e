using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Text.Json;
using KernelScope.Evaluation;

namespace KernelScope.Cli;

/// <summary>Prompts from files: one text, token ids, or a text or ids on each line.</summary>
internal sealed class PromptFiles
{
    /// <summary>The options, for complaints.</summary>
    public const string Names = "--text-file, --tokens-file, --jsonl";

    /// <summary>How a line of JSON is read: of a name that is there twice one value would go unseen.</summary>
    public static readonly JsonDocumentOptions JsonLine = new() { AllowDuplicateProperties = false };

    private readonly Option<string?> _textFile = new("--text-file")
    {
        Description = "The text is all of this UTF-8 file; '-' is standard input.",
        HelpName = "F",
    };

    private readonly Option<string?> _tokensFile = new("--tokens-file")
    {
        Description = "Token ids, taken as they are: a JSON list of lists, or {\"sequences\": [...]}. " +
            "With more than one list the answer is a list of texts.",
        HelpName = "F.json",
    };

    private readonly Option<string?> _jsonl = new("--jsonl")
    {
        Description = "Many texts: on each line a JSON string, a list of token ids, {\"text\": ...} or {\"ids\": [...]}. " +
            "The answer is a list of texts.",
        HelpName = "F",
    };

    public PromptFiles(Command verb)
    {
        foreach (Option option in (Option[])[_textFile, _tokensFile, _jsonl])
            verb.Options.Add(option);
    }

    /// <summary>The option that was given; null: none.</summary>
    /// <exception cref="UsageException">Two were.</exception>
    public string? Given(ParseResult parsed)
    {
        string[] given = [.. new[] { _textFile, _tokensFile, _jsonl }.Where(o => parsed.GetValue(o) is not null).Select(o => o.Name)];
        return given.Length <= 1 ? given.FirstOrDefault()
            : throw new UsageException($"{given[0]} and {given[1]} were given; one of them is the prompt.");
    }

    /// <summary>The file that was named; null: none.</summary>
    public string? PathOf(ParseResult parsed) => parsed.GetValue(_textFile) ?? parsed.GetValue(_tokensFile) ?? parsed.GetValue(_jsonl);

    /// <summary>Reads it.</summary>
    /// <exception cref="WorkException">It holds nothing, or something else.</exception>
    public PromptList Read(ParseResult parsed, Streams streams)
    {
        if (parsed.GetValue(_textFile) is string textFile)
        {
            string text = StandardText.ReadFile(textFile);
            return text.Length > 0 ? PromptList.Single(new Prompt(text, null) { Warnings = streams })
                : throw new WorkException($"{InputFile.NameOf(textFile)}: the text is empty.");
        }

        string? tokensFile = parsed.GetValue(_tokensFile);
        Prompt[] prompts = tokensFile is not null ? OfTokens(tokensFile, streams) : [.. OfLines(parsed.GetValue(_jsonl)!, streams)];
        return new PromptList(prompts, prompts.Length > 1 || tokensFile is null);
    }

    private static Prompt[] OfTokens(string path, Streams streams)
    {
        string name = InputFile.NameOf(path);
        int[][] sequences = TokenFiles.ReadJson(InputFile.ReadAll(path), name);
        if (sequences.Length == 0)
            throw new WorkException($"{name}: it holds no sequence of token ids.");
        if (Array.FindIndex(sequences, s => s.Length == 0) is int empty and >= 0)
            throw new WorkException($"{name}: sequence {empty} is empty.");
        return [.. sequences.Select(Of)];

        Prompt Of(int[] ids, int b)
        {
            string place = sequences.Length == 1 ? name : string.Create(CultureInfo.InvariantCulture, $"{name}, sequence {b}");
            return new Prompt(null, Array.ConvertAll(ids, id => (long)id)) { Warnings = streams, Place = place };
        }
    }

    private static List<Prompt> OfLines(string path, Streams streams)
    {
        ReadOnlyMemory<byte> rest = StandardText.WithoutMark(InputFile.ReadAll(path));
        string name = InputFile.NameOf(path);
        var prompts = new List<Prompt>();
        bool isText = InputFile.IsDemo(path);
        for (int number = 1; !rest.IsEmpty; number++)
        {
            int end = rest.Span.IndexOf((byte)'\n');
            ReadOnlyMemory<byte> line = end < 0 ? rest : rest[..end];
            rest = end < 0 ? default : rest[(end + 1)..];
            string place = string.Create(CultureInfo.InvariantCulture, $"{name}, line {number}");
            StandardText.Check(line.Span, place);
            if (line.Span.Trim(" \t\r"u8).IsEmpty)
                continue;
            Prompt prompt = isText ? new Prompt(Encoding.UTF8.GetString(line.Span), null) : OfLine(line, place);
            prompts.Add(prompt with { Warnings = streams, Place = place });
        }

        return prompts.Count > 0 ? prompts : throw new WorkException($"{name}: there is no line with a text or token ids in it.");
    }

    private static Prompt OfLine(ReadOnlyMemory<byte> line, string place)
    {
        try
        {
            using var document = JsonDocument.Parse(line, JsonLine);
            JsonElement value = document.RootElement;
            if (value.ValueKind == JsonValueKind.Object)
            {
                bool hasText = value.TryGetProperty("text", out JsonElement text);
                if (hasText == value.TryGetProperty("ids", out JsonElement ids))
                {
                    string wrong = hasText ? "both \"text\" and \"ids\" are there; one was expected"
                        : "neither \"text\" nor \"ids\" is there";
                    throw new WorkException($"{place}: {wrong}.");
                }

                value = hasText ? text : ids;
            }

            return value.ValueKind switch
            {
                JsonValueKind.String => Text(value, place),
                JsonValueKind.Array => Ids(value, place),
                _ => throw new WorkException($"{place}: a text, a list of token ids, or an object with \"text\" or \"ids\" was expected."),
            };
        }
        catch (JsonException)
        {
            const string Expected = "a text in double quotes, a list of token ids, or an object with \"text\" or \"ids\"";
            throw new WorkException($"{place}: this is not JSON, or has a name twice; {Expected} was expected.");
        }
    }

    private static Prompt Text(JsonElement value, string place)
    {
        try
        {
            return value.GetString() is { Length: > 0 } text ? new Prompt(text, null)
                : throw new WorkException($"{place}: the text is empty.");
        }
        catch (InvalidOperationException)
        {
            // What System.Text.Json says of an escaped half of a surrogate pair.
            throw new WorkException($"{place}: the text is not valid Unicode: it has half of a surrogate pair.");
        }
    }

    private static Prompt Ids(JsonElement list, string place)
    {
        long[] ids = new long[list.GetArrayLength()];
        if (ids.Length == 0)
            throw new WorkException($"{place}: the list of token ids is empty.");
        int count = 0;
        foreach (JsonElement item in list.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt64(out ids[count++]))
                throw new WorkException($"{place}: the list holds something that is not a token id.");
        }

        return new Prompt(null, ids);
    }
}

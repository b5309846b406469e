using System.CommandLine;
using System.Globalization;
using KernelScope.Files;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary><c>tokenize</c>: a text to ids and pieces, or ids to a text; one, or a file of many.</summary>
internal sealed class TokenizeCommand : Verb
{
    private readonly Argument<string?> _text = new("TEXT")
    {
        Description = "The text; '-' reads it from standard input, and so does no " +
        "text at all where something is piped in. Nothing is put before it: no <bos>.",
        Arity = ArgumentArity.ZeroOrOne
    };
    private readonly Option<string?> _file = new("--file") { Description = "The text is all of this file.", HelpName = "F" };
    private readonly Option<string?> _decode = new("--decode") { Description = "Ids whose text is printed: 2,5,7.", HelpName = "IDS" };
    private readonly Option<string?> _jsonl = new("--jsonl")
    {
        Description = "A file with a JSON object on each line, {\"text\": ...} " +
        "or {\"ids\": [...]}; a line with ids and pieces, or with the text, comes out for each.",
        HelpName = "F"
    };

    public TokenizeCommand(CommonOptions common, VerbEnvironment environment) : base(
        "tokenize",
        "Shows the ids and pieces of a text, exactly as sentencepiece cuts it, or the text of some ids. --model may also be a " +
        "tokenizer.model or tokenizer.json.",
        "  kernelscope tokenize \"Let there be light.\"\n  kernelscope tokenize --decode 1715,476,872",
        common,
        environment)
    {
        Arguments.Add(_text);
        Options.Add(_file);
        Options.Add(_decode);
        Options.Add(_jsonl);
    }

    public override CommonUse Uses => CommonUse.Json | CommonUse.Model;

    protected override int Run(ParseResult parsed)
    {
        string? text = parsed.GetValue(_text), file = parsed.GetValue(_file), decode = parsed.GetValue(_decode),
            jsonl = parsed.GetValue(_jsonl);
        if (text is null && file is null && decode is null && jsonl is null)
            text = PromptOptions.Piped(Streams);
        int sources = new[] { text, file, decode, jsonl }.Count(s => s is not null);
        if (sources != 1)
            throw new UsageException(sources == 0 ? "a text is missing (or --file, --decode or --jsonl)."
                : "a text, --file, --decode and --jsonl exclude each other.");
        long[] ids = decode is null ? [] : Parsing.TokenIds(decode, "--decode");
        GemmaTokenizer tokenizer = Open(Common.ModelOf(parsed));
        if (jsonl is not null)
            new TokenizeLines(tokenizer, Streams, Cancellation).Run(jsonl);
        else if (decode is not null)
            Decode(parsed, tokenizer, ids);
        else
            Encode(parsed, tokenizer, file is not null ? StandardText.ReadFile(file) : text == "-" ? StandardText.Read(Streams) : text!);
        return ExitCode.Done;
    }

    private static GemmaTokenizer Open(string model)
    {
        if (model == Demo.ModelName)
            return Demo.OpenTokenizer();
        if (File.Exists(model))
            return GemmaTokenizer.Open(model);
        ModelFolder folder = ModelFolder.Resolve(ModelName.Resolve(model));
        return GemmaTokenizer.Open(folder) ?? throw new WorkException($"{model}: the folder has no tokenizer.model and no tokenizer.json.");
    }

    private void Encode(ParseResult parsed, GemmaTokenizer tokenizer, string text)
    {
        int[] ids = tokenizer.Encode(text);
        if (PromptDoubt.OfText(text, tokenizer) is string doubt)
            Streams.Warn(doubt);
        if (Common.JsonOf(parsed))
        {
            JsonOutput.Write(Streams, new TokenizeResult(ids, [.. ids.Select(tokenizer.Piece)]));
            return;
        }

        foreach (int id in ids)
            Streams.Output.WriteLine($"{id.ToString(CultureInfo.InvariantCulture),7}  {Printable.Escape(tokenizer.Piece(id))}");
    }

    private void Decode(ParseResult parsed, GemmaTokenizer tokenizer, long[] ids)
    {
        string text = tokenizer.Decode(Narrow(ids, tokenizer));
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, new TextResult(text));
        else
            Streams.Output.WriteLine(Streams.OutputIsTerminal ? Printable.EscapeKeepingLines(text) : text);
    }

    private static int[] Narrow(long[] ids, GemmaTokenizer tokenizer)
    {
        foreach (long id in ids)
        {
            if (id is < 0 or > int.MaxValue || !tokenizer.Contains((int)id))
                throw new WorkException(TokenText.Missing(tokenizer, id));
        }

        return Array.ConvertAll(ids, id => (int)id);
    }
}

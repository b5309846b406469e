using System.CommandLine;
using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary><c>generate</c>: continues a text, with or without edits of features.</summary>
internal sealed class GenerateCommand : Verb
{
    private const string DefaultPrompt = "Once upon a time";
    private readonly PromptOptions _prompt;
    private readonly SamplingChoices _sampling;
    private readonly Option<bool> _chat = new("--chat") { Description = "The text is what a user says; the model answers (chat template)." };
    private readonly Option<bool> _features = new("--features") { Description = "Show the features of each new token as it appears, after the edits." };
    private readonly SaeOptions _sae;
    private readonly EditOptions _edits;
    private readonly TopOptions _top;
    private readonly PackOption _pack;
    private readonly ProfileOption _profile;

    public GenerateCommand(CommonOptions common, Surroundings surroundings) : base(
        "generate",
        "Continues a text. Edits act at the SAE's site in the prompt and in every generated token.",
        "  kernelscope generate \"Once upon a time there lived a miller who had a child called\" --steer 69=+10",
        common,
        surroundings)
    {
        _prompt = new PromptOptions(this, "PROMPT", DefaultPrompt);
        Options.Add(_chat);
        _sampling = new SamplingChoices(this);
        _sae = new SaeOptions(this);
        _edits = new EditOptions(this);
        Options.Add(_features);
        _top = new TopOptions(this);
        _pack = new PackOption(this);
        _profile = new ProfileOption(this);
    }

    protected override int Run(ParseResult parsed)
    {
        Prompt prompt = _prompt.Of(parsed, Streams);
        if (parsed.GetValue(_chat) && prompt.Text is null)
            throw new UsageException("--chat needs a text; with --tokens the ids of the turns are taken as they are.");
        GenerationOptions options = _sampling.Of(parsed);
        Edits? edits = _edits.Of(parsed);
        bool showFeatures = parsed.GetValue(_features);
        using ModelFiles files = ModelFiles.Open(Common.ModelOf(parsed));
        int[] tokens = prompt.Tokens(files, parsed.GetValue(_chat));
        using SaeFiles? saeFiles = edits is not null || showFeatures ? _sae.Open(parsed, files) : null;
        edits?.Check(saeFiles!);
        int context = (int)Math.Min(files.Config.ContextLength, (long)tokens.Length + options.MaxNewTokens);
        using Device opened = Common.OpenDevice(parsed, Streams, ("weights", files.WeightBytes), ("SAE", saeFiles?.Bytes ?? 0), ("context", Session.BytesFor(files.Config, context)));
        Device device = _profile.Watch(parsed, opened);
        using Gemma2Model model = files.Load(device, Streams, Cancellation, _pack.IsGiven(parsed));
        using JumpReluSae? sae = saeFiles?.Load(device);
        using Session session = model.NewSession(context);
        using SaeSplice? splice = edits?.Arm(session.Hooks, sae!, saeFiles!, files.BosId, tokens.Length);
        using FeatureCapture? capture = showFeatures ? new FeatureCapture(session.Hooks, sae!, saeFiles!.Site) : null;

        var generator = new Generator(session, options);
        if (Common.JsonOf(parsed))
            WriteJson(parsed, generator, tokens, files, saeFiles, capture, session);
        else if (capture is not null)
            ShowFeatures(parsed, generator, tokens, files, sae!.FeatureCount, capture, session);
        else
            Stream(generator, tokens, prompt, files);
        ProfileOption.Print(device, Streams);
        return ExitCode.Done;
    }

    private void Stream(Generator generator, int[] tokens, Prompt prompt, ModelFiles files)
    {
        if (Streams.OutputIsTerminal && prompt.Text is string text)
            Streams.Output.Write(Printable.EscapeKeepingLines(text));
        var stream = new TextStream(Streams, files.Tokenizer);
        try
        {
            foreach (int id in generator.Generate(tokens, Cancellation))
            {
                // The token that ends a text is no text: <end_of_turn> would be printed.
                if (generator.Stop != StopReason.EndOfText)
                    stream.Append(id);
            }
        }
        finally
        {
            stream.End();
        }
    }

    private void WriteJson(ParseResult parsed, Generator generator, int[] prompt, ModelFiles files, SaeFiles? sae, FeatureCapture? capture, Session session)
    {
        var tokens = new List<int>();
        var features = new List<TokenFeatures>();
        foreach ((int id, CodeList? codes) in Run(generator, prompt, capture, session))
        {
            tokens.Add(id);
            if (capture is not null)
                features.Add(Row(parsed, files, id, codes));
        }

        string stop = generator.Stop switch { StopReason.EndOfText => "end_of_text", StopReason.ContextFull => "context_full", _ => "max_new_tokens" };
        JsonOutput.Write(Streams, new GenerateResult(prompt, tokens, TokenText.OfAll(files.Tokenizer, tokens), stop)
        {
            Sae = capture is null ? null : sae!.Name,
            Site = capture is null ? null : sae!.Site.ToString(),
            Features = capture is null ? null : features,
        });
    }

    private void ShowFeatures(ParseResult parsed, Generator generator, int[] prompt, ModelFiles files, int featureCount, FeatureCapture capture, Session session)
    {
        var view = new TokenLines(Streams, featureCount);
        foreach ((int id, CodeList? codes) in Run(generator, prompt, capture, session))
            view.Print(Row(parsed, files, id, codes));
    }

    private TokenFeatures Row(ParseResult parsed, ModelFiles files, int id, CodeList? codes) =>
        new(id, TokenText.Of(files.Tokenizer, id), codes is null ? [] : _top.Choose(parsed, codes, 0));

    /// <summary>
    /// The new tokens, each with its codes where features are asked for. A token's features exist once it has been fed, which is when the next one is chosen;
    /// the last one is fed for them alone, unless the context is full (then there are none).
    /// </summary>
    private IEnumerable<(int Id, CodeList? Codes)> Run(Generator generator, int[] prompt, FeatureCapture? capture, Session session)
    {
        int? pending = null;
        foreach (int id in generator.Generate(prompt, Cancellation))
        {
            if (pending is int fed)
                yield return (fed, capture?.Codes);
            pending = id;
        }

        if (pending is not int last)
            yield break;
        bool room = capture is not null && session.Position < session.ContextLength;
        if (room)
            session.Model.Forward([last], session, LogitRows.None, Cancellation);
        yield return (last, room ? capture!.Codes : null);
    }
}

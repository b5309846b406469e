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
    private readonly SaeUseOptions _saes;
    private readonly TopOptions _top;
    private readonly PackOption _pack;
    private readonly ProfileOption _profile;

    public GenerateCommand(CommonOptions common, Surroundings surroundings) : base(
        "generate",
        "Continues a text. Edits act at the SAE's site in the prompt and in every generated token.",
        "  kernelscope generate \"Once upon a time there lived a miller who had a child called\" --steer 69=+10\n" +
        "  kernelscope generate \"There was once a\" --sae res.3.2k.l0_19 --steer 1652=+10 --sae res.5.1k.l0_37 --splice sae --edit-at from_last",
        common,
        surroundings)
    {
        _prompt = new PromptOptions(this, "PROMPT", DefaultPrompt);
        Options.Add(_chat);
        _sampling = new SamplingChoices(this);
        _saes = new SaeUseOptions(this);
        Options.Add(_features);
        _top = new TopOptions(this);
        _pack = new PackOption(this, " SAE encoders, which have a row to encode for every token, are packed in memory.");
        _profile = new ProfileOption(this);
    }

    protected override void CheckOptions(ParseResult parsed) => Belongs(parsed, parsed.GetValue(_features), "--features", _top.Options);

    protected override int Run(ParseResult parsed)
    {
        Prompt prompt = _prompt.Of(parsed, Streams);
        if (parsed.GetValue(_chat) && prompt.Text is null)
            throw new UsageException("--chat needs a text; with --tokens the ids of the turns are taken as they are.");
        GenerationOptions options = _sampling.Of(parsed);
        IReadOnlyList<SaeUse> uses = _saes.Of(parsed);
        bool showFeatures = parsed.GetValue(_features);
        if (!showFeatures)
            SaeUseOptions.WarnIdle(uses, Streams, ", and --features is not given");
        using ModelFiles files = ModelFiles.Open(Common.ModelOf(parsed), Common.NoMapOf(parsed));
        int[] tokens = prompt.Tokens(files, parsed.GetValue(_chat));
        int context = (int)Math.Min(files.Config.ContextLength, (long)tokens.Length + options.MaxNewTokens);
        using var stack = SaeStack.Open(uses.Where(u => u.IsMeant || showFeatures), files);
        stack.CheckPositions(context);
        bool pack = _pack.IsGiven(parsed);
        using Device opened = Common.OpenDevice(parsed, Streams, ("weights", files.WeightBytes), ("SAE", stack.Bytes), ("packed encoders", pack ? stack.PackedBytes : 0), ("context", Session.BytesFor(files.Config, context)));
        Device device = _profile.Watch(parsed, opened);
        using Gemma2Model model = files.Load(device, Streams, Cancellation, pack);
        using IDisposable loaded = stack.Load(device, pack);
        ProfileOption.WarmUp(device, model, stack.Saes, tokens, generates: true, Cancellation);
        using Session session = model.NewSession(context);
        using var watch = UseWatch.Arm(session, stack, files, tokens);
        stack.Arm(session, tokens.Length, Streams, Cancellation);
        using var captures = new Captures(showFeatures ? stack.Saes : [], session);

        var generator = new Generator(session, options);
        if (Common.JsonOf(parsed))
            WriteJson(parsed, generator, tokens, files, captures, session);
        else if (showFeatures)
            ShowFeatures(parsed, generator, tokens, files, captures, session);
        else
            Stream(generator, tokens, prompt, files);
        watch.Report(model, generates: options.MaxNewTokens > 0, Streams, Cancellation);
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

    private void WriteJson(ParseResult parsed, Generator generator, int[] prompt, ModelFiles files, Captures captures, Session session)
    {
        var tokens = new List<int>();
        List<TokenFeatures>[] features = [.. captures.All.Select(_ => new List<TokenFeatures>())];
        foreach ((int id, bool fed) in Run(generator, prompt, captures, session))
        {
            tokens.Add(id);
            for (int s = 0; s < features.Length; s++)
                features[s].Add(Row(parsed, files, id, fed ? captures.All[s].Capture.Codes : null));
        }

        string stop = generator.Stop switch { StopReason.EndOfText => "end_of_text", StopReason.ContextFull => "context_full", _ => "max_new_tokens" };
        NewTokenFeatures[] saes = [.. captures.All.Select((c, s) => new NewTokenFeatures(c.Sae.Files.Name, c.Sae.Files.Site.ToString(), features[s]))];
        NewTokenFeatures? only = saes.Length == 1 ? saes[0] : null;
        JsonOutput.Write(Streams, new GenerateResult(prompt, tokens, TokenText.OfAll(files.Tokenizer, tokens), stop)
        {
            Sae = only?.Sae,
            Site = only?.Site,
            Features = only?.Features,
            Saes = saes.Length > 1 ? saes : null,
        });
    }

    private void ShowFeatures(ParseResult parsed, Generator generator, int[] prompt, ModelFiles files, Captures captures, Session session)
    {
        var view = new TokenLines(Streams, captures.All.Max(c => c.Sae.Sae.FeatureCount));
        foreach ((int id, bool fed) in Run(generator, prompt, captures, session))
        {
            string text = Printable.Escape(TokenText.Of(files.Tokenizer, id) ?? $"id {id}");
            for (int s = 0; s < captures.All.Count; s++)
            {
                // Below the token, one line for each further SAE, by its site.
                string head = s == 0 ? text : $"  {captures.All[s].Sae.Files.Site}";
                view.Print(Row(parsed, files, id, fed ? captures.All[s].Capture.Codes : null), head);
            }
        }
    }

    private TokenFeatures Row(ParseResult parsed, ModelFiles files, int id, CodeList? codes) =>
        new(id, TokenText.Of(files.Tokenizer, id), codes is null ? [] : _top.Choose(parsed, codes, 0));

    /// <summary>
    /// The new tokens, and whether their codes are there where features are asked for. A token's features exist once it has been fed, which is when the next one is chosen;
    /// the last one is fed for them alone, unless the context is full (then there are none).
    /// </summary>
    private IEnumerable<(int Id, bool Fed)> Run(Generator generator, int[] prompt, Captures captures, Session session)
    {
        int? pending = null;
        foreach (int id in generator.Generate(prompt, Cancellation))
        {
            if (pending is int fed)
                yield return (fed, true);
            pending = id;
        }

        if (pending is not int last)
            yield break;
        bool room = captures.All.Count > 0 && session.Position < session.ContextLength;
        if (room)
            session.Model.Forward([last], session, LogitRows.None, Cancellation);
        yield return (last, room);
    }

    /// <summary>The features that are shown.</summary>
    private sealed class Captures(IEnumerable<SaeStack.LoadedSae> saes, Session session) : IDisposable
    {
        public IReadOnlyList<(SaeStack.LoadedSae Sae, FeatureCapture Capture)> All { get; } = [.. saes.Select(s => (s, new FeatureCapture(session.Hooks, s.Sae, s.Files.Site)))];

        public void Dispose()
        {
            foreach ((_, FeatureCapture capture) in All)
                capture.Dispose();
        }
    }
}

using System.CommandLine;
using System.Globalization;
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
    private readonly Option<bool> _chat = new("--chat")
    {
        Description = "The text is what a user says; the model answers, in the turns of the folder's chat template (else " +
            "Gemma's). On a terminal a conversation: Ctrl+C ends an answer, /quit, Ctrl+D or Ctrl+C between answers the conversation.",
    };
    private readonly Option<bool> _features = new("--features")
    {
        Description = "Show the features of each new token as it appears, after the edits.",
    };
    private readonly SaeUseOptions _saes;
    private readonly SweepOptions _sweep;
    private readonly TopOptions _top;
    private readonly PackOption _pack;
    private readonly ProfileOption _profile;

    public GenerateCommand(CommonOptions common, VerbEnvironment environment) : base(
        "generate",
        "Continues a text. Edits act at the SAE's site in the prompt and in every generated token.",
        "  kernelscope generate \"Once upon a time there lived a miller who had a child called\" --steer 69=+10\n" +
        "  kernelscope generate \"Once upon a time there lived a miller\" --steer 69 --strengths -20:20:10 --baseline " +
        "--max-new-tokens 20\n" +
        "  kernelscope generate \"There was once a\" --sae res.3.2k.l0_19 --steer 1652=+10 --sae res.5.1k.l0_37 --splice sae " +
        "--edit-at from_last",
        common,
        environment)
    {
        _prompt = new PromptOptions(this, "PROMPT", DefaultPrompt);
        Options.Add(_chat);
        _sampling = new SamplingChoices(this);
        _saes = new SaeUseOptions(this);
        _sweep = new SweepOptions(this);
        Options.Add(_features);
        _top = new TopOptions(this);
        _pack = new PackOption(this, " SAE encoders, which have a row to encode for every token, are packed in memory.");
        _profile = new ProfileOption(this);
    }

    public override CommonUse Uses => CommonUse.All | CommonUse.Kv;

    protected override void CheckOptions(ParseResult parsed) => Belongs(parsed, parsed.GetValue(_features), "--features", _top.Options);

    protected override int Run(ParseResult parsed)
    {
        Prompt prompt = _prompt.Read(parsed, Streams);
        if (parsed.GetValue(_chat) && prompt.Text is null)
            throw new UsageException("--chat needs a text; with --tokens the ids of the turns are taken as they are.");
        GenerationOptions options = _sampling.Read(parsed);
        float[]? strengths = _sweep.Strengths(parsed);
        IReadOnlyList<SaeUse> uses = _saes.Read(parsed, withoutStrength: strengths is not null);
        _sweep.Check(parsed, uses);
        RefuseTogether(parsed, strengths);
        bool showFeatures = parsed.GetValue(_features);
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        if (options.StopStrings!.Count > 0)
            _ = files.RequiredTokenizer;
        options = CheckIds(options, files);
        bool chat = parsed.GetValue(_chat);
        if (chat)
            options = options with { EndOfTurnId = files.Chat.EndOfTurnId };
        bool more = showFeatures || strengths is not null || _sweep.WantsBaseline(parsed) || options.LogProbs is not null;
        bool talks = chat && !more && !Common.JsonOf(parsed) && Conversation.IsPossible(Streams);
        int[] tokens = talks && !_prompt.IsGiven(parsed) ? Conversation.Opening(files) : prompt.Tokens(files, chat);
        // A conversation goes on where a turn ends, also where the model counts that among no ends.
        if (talks && options is { StopIds: null, EndOfTurnId: int end })
            options = options with { StopIds = [.. files.Config.EosIds, end] };
        long wanted = talks ? Conversation.MostTokens : (long)tokens.Length + options.MaxNewTokens;
        int context = (int)Math.Min(files.Config.ContextLength, wanted);
        bench.AddSaes(uses.Where(u => u.IsMeant || showFeatures));
        bench.CheckPositions(context);
        if (!showFeatures)
            SaeUseOptions.WarnIdle(uses, Streams, ", and --features is not given");
        (bench.Panels, bench.PacksSaes, bench.IsProfiled) = (_pack.UseOf(parsed), _pack.IsGiven(parsed), _profile.IsGiven(parsed));
        bench.Load(
            bench.Weights,
            ("SAE", bench.SaeBytes),
            ("packed encoders", bench.PacksSaes ? bench.Saes.Sum(s => s.PackedBytes) : 0),
            ("context", bench.ContextBytes(context)));
        ProfileOption.WarmUp(bench, tokens, generates: true);
        using Session session = bench.Model.NewSession(context);
        var runs = new GenerationRuns(session, tokens, files.Tokenizer, Cancellation);
        // Before anything is armed.
        GeneratedText? baseline = _sweep.WantsBaseline(parsed) ? runs.Complete(ref options) : null;
        using var watch = UsageWarnings.Arm(session, bench, tokens);
        if (strengths is not null)
        {
            Sweep(parsed, strengths, runs, options, bench, baseline, session, tokens);
        }
        else
        {
            bench.Arm(session, tokens.Length);
            using var captures = new Captures(showFeatures ? bench.Saes : [], session);
            if (talks)
            {
                var conversation = new Conversation(Streams, files, session, runs.Begin(options), Interruption, Cancellation);
                conversation.Run(_prompt.IsGiven(parsed) ? prompt.Text : null);
            }
            else
            {
                Show(parsed, runs, options, prompt, tokens, files, captures, baseline);
            }
        }

        watch.Report(generates: options.MaxNewTokens > 0);
        ProfileOption.Print(bench);
        return ExitCode.Done;
    }

    private void RefuseTogether(ParseResult parsed, float[]? strengths)
    {
        bool features = parsed.GetValue(_features), logProbs = _sampling.ShowsLogProbs(parsed);
        if (strengths is not null && (features || logProbs))
            throw new UsageException($"--strengths gives texts; {(features ? "--features" : "--logprobs")} belongs to a single one.");
        if (features && logProbs && !Common.JsonOf(parsed))
            throw new UsageException("--features and --logprobs each give a token's line; take one of them, or --json.");
    }

    /// <summary>Ids and counts are known to fit once there is a vocabulary.</summary>
    private static GenerationOptions CheckIds(GenerationOptions options, ModelFiles files)
    {
        int vocabulary = files.Config.VocabSize;
        foreach (int id in options.Sampling.LogitBias?.Keys ?? [])
        {
            if (id >= vocabulary)
            {
                string outside = $"which is outside the vocabulary of {files.Name}: it has ids 0 to {vocabulary - 1}";
                throw new WorkException($"--logit-bias names token id {id}, {outside}.");
            }
        }

        return options with { LogProbs = options.LogProbs is int count ? Math.Min(count, vocabulary) : null };
    }

    private void Show(
        ParseResult parsed,
        GenerationRuns runs,
        GenerationOptions options,
        Prompt prompt,
        int[] tokens,
        ModelFiles files,
        Captures captures,
        GeneratedText? baseline)
    {
        Generator generator = runs.Begin(options);
        if (Common.JsonOf(parsed))
        {
            WriteJson(parsed, generator, tokens, files, captures, baseline);
            return;
        }

        if (baseline is not null)
        {
            Titled("without edits", TextOf(baseline));
            Streams.Output.WriteLine("with edits:");
        }

        if (captures.All.Count > 0)
            ShowFeatures(parsed, generator, tokens, files, captures);
        else if (options.LogProbs is not null)
            ShowLogProbs(generator, tokens, files);
        else
            Stream(generator, tokens, baseline is null ? prompt.Text : null, files);
        TellSeed(parsed, generator.Seed);
    }

    private void Sweep(
        ParseResult parsed,
        float[] strengths,
        GenerationRuns runs,
        GenerationOptions options,
        Workbench bench,
        GeneratedText? baseline,
        Session session,
        int[] tokens)
    {
        var results = new List<SweepRun>();
        bool json = Common.JsonOf(parsed);
        if (baseline is not null && !json)
            Titled("without edits", TextOf(baseline));
        foreach (float strength in strengths)
        {
            bench.Arm(session, tokens.Length, strength);
            GeneratedText text = runs.Complete(ref options);
            bench.Disarm();
            results.Add(new SweepRun(strength, text.Tokens, text.Text, text.Stop));
            if (!json)
                Titled(string.Create(CultureInfo.InvariantCulture, $"strength {strength}"), TextOf(text));
        }

        if (json)
            JsonOutput.Write(Streams, new SweepResult(tokens, results) { Seed = options.Sampling.Seed, Baseline = baseline });
        else
            TellSeed(parsed, options.Sampling.Seed);
    }

    private static string TextOf(GeneratedText text) => text.Text ?? string.Join(' ', text.Tokens.Select(id => $"[{id}]"));

    private void Titled(string title, string text)
    {
        Streams.Output.WriteLine($"{title}:");
        Streams.Output.WriteLine(Streams.OutputIsTerminal ? Printable.EscapeKeepingLines(text) : text);
        Streams.Output.WriteLine();
        Streams.Output.Flush();
    }

    private void TellSeed(ParseResult parsed, ulong? seed)
    {
        if (seed is ulong drawn && !_sampling.HasSeed(parsed))
            Streams.Error.WriteLine($"The seed was {drawn}: --seed {drawn} gives this text again.");
    }

    private void Stream(Generator generator, int[] tokens, string? prompt, ModelFiles files)
    {
        if (Streams.OutputIsTerminal && prompt is not null)
            Streams.Output.Write(Printable.EscapeKeepingLines(prompt));
        var stream = new TextStream(Streams, files.Tokenizer);
        try
        {
            foreach (GeneratedToken token in generator.GenerateTokens(tokens, Cancellation))
            {
                // The token that ends a text is not text: [1] would be printed where there is no tokenizer.
                if (generator.Stop != StopReason.EndOfText || files.Tokenizer is not null)
                    stream.Append(token);
            }
        }
        finally
        {
            stream.End();
        }
    }

    private void WriteJson(
        ParseResult parsed, Generator generator, int[] prompt, ModelFiles files, Captures captures, GeneratedText? baseline)
    {
        var tokens = new List<GeneratedToken>();
        List<TokenFeatures>[] features = [.. captures.All.Select(_ => new List<TokenFeatures>())];
        foreach ((GeneratedToken token, int row) in Run(generator, prompt))
        {
            tokens.Add(token);
            for (int s = 0; s < features.Length; s++)
                features[s].Add(Row(parsed, files, token.Id, captures.All[s].Capture.Codes, row));
        }

        IEnumerable<SaeFiles> used = captures.All.Select(c => c.Sae);
        NewTokenFeatures[] saes = [.. used.Select((sae, s) => new NewTokenFeatures(sae.Name, sae.Site.ToString(), features[s]))];
        NewTokenFeatures? only = saes.Length == 1 ? saes[0] : null;
        GeneratedText text = GenerationRuns.Text(tokens, generator, files.Tokenizer);
        JsonOutput.Write(Streams, new GenerateResult(prompt, text.Tokens, text.Text, text.Stop)
        {
            Seed = generator.Seed,
            Logprobs = _sampling.ShowsLogProbs(parsed) ? [.. tokens.Select(t => LogProbsOf(t, files))] : null,
            Baseline = baseline,
            Sae = only?.Sae,
            Site = only?.Site,
            Features = only?.Features,
            Saes = saes.Length > 1 ? saes : null,
        });
    }

    private void ShowFeatures(ParseResult parsed, Generator generator, int[] prompt, ModelFiles files, Captures captures)
    {
        var view = new TokenLines(Streams, captures.All.Max(c => c.Sae.Sae.FeatureCount));
        foreach ((GeneratedToken token, int row) in Run(generator, prompt))
        {
            string text = Printable.Escape(TokenText.Of(files.Tokenizer, token.Id) ?? $"id {token.Id}");
            for (int s = 0; s < captures.All.Count; s++)
            {
                // Below the token, one line for each further SAE, by its site.
                string head = s == 0 ? text : $"  {captures.All[s].Sae.Site}";
                view.Print(Row(parsed, files, token.Id, captures.All[s].Capture.Codes, row), head);
            }
        }
    }

    private void ShowLogProbs(Generator generator, int[] prompt, ModelFiles files)
    {
        foreach (GeneratedToken token in generator.GenerateTokens(prompt, Cancellation))
        {
            TokenLogProbs shown = LogProbsOf(token, files);
            IEnumerable<string> top = shown.Top.Select(t => string.Create(CultureInfo.InvariantCulture, $"{Name(t.Id)} {t.Logprob:0.000}"));
            string logProb = string.Create(CultureInfo.InvariantCulture, $"{token.LogProb:0.000}");
            string line = $"{Name(token.Id),-16} {logProb}   {string.Join("  ", top)}";
            Streams.Output.WriteLine(line.TrimEnd());
            Streams.Output.Flush();
        }

        string Name(int id) => Printable.Escape(TokenText.Of(files.Tokenizer, id) ?? $"id {id}");
    }

    private static TokenLogProbs LogProbsOf(GeneratedToken token, ModelFiles files)
    {
        IReadOnlyList<TokenLogProb> top = token.Top ?? [];
        return new(token.Id, token.LogProb, [.. top.Select(t => new TopLogProb(t.Id, TokenText.Of(files.Tokenizer, t.Id), t.LogProb))]);
    }

    private TokenFeatures Row(ParseResult parsed, ModelFiles files, int id, CodeList codes, int row) =>
        new(id, TokenText.Of(files.Tokenizer, id), row < codes.Rows ? _top.Choose(parsed, codes, row) : []);

    /// <summary>
    /// The new tokens, each once it has been fed and so has features, with its row in the captures: that is when the next one is chosen, and for the last one when the generation is over.
    /// The last one has no row where the context is full.
    /// </summary>
    private IEnumerable<(GeneratedToken Token, int Row)> Run(Generator generator, int[] prompt)
    {
        GeneratedToken? pending = null;
        int row = prompt.Length;
        foreach (GeneratedToken token in generator.GenerateTokens(prompt, Cancellation))
        {
            if (pending is not null)
                yield return (pending, row++);
            pending = token;
        }

        if (pending is not null)
            yield return (pending, row);
    }

    /// <summary>The features that are shown.</summary>
    private sealed class Captures(IEnumerable<SaeFiles> saes, Session session) : IDisposable
    {
        public IReadOnlyList<(SaeFiles Sae, FeatureCapture Capture)> All { get; } =
            [.. saes.Select(s => (s, new FeatureCapture(session.Hooks, s.Sae, s.Site)))];

        public void Dispose()
        {
            foreach ((_, FeatureCapture capture) in All)
                capture.Dispose();
        }
    }
}

using System.CommandLine;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary><c>run</c>: one forward pass, with the activations at any hook points.</summary>
internal sealed partial class RunCommand : Verb
{
    private readonly PromptOptions _prompt;
    private readonly Option<string?> _capture = new("--capture")
    {
        Description = "Hook points whose activations are written, with commas between them: resid_post.3,z.1,logits; " +
            "resid_post.0-5, resid_post.* (every layer); or all.",
        HelpName = "POINTS",
    };
    private readonly Option<string?> _out = new("--out")
    {
        Description = "Where the activations go: an npz with one f32 array for each hook point [tokens, width], and tokens; of " +
            "many texts the rows one after the other, and text_start, where each begins. Captures see what edits at the same point " +
            "made.",
        HelpName = "F.npz",
    };
    private readonly Option<int> _chunk = new("--chunk")
    {
        Description = "Feed the prompt in pieces of at most N tokens. The results do not depend on it.",
        HelpName = "N",
    };
    private readonly Option<int> _top = new("--top")
    {
        Description = "How many of the likeliest next tokens are shown.",
        HelpName = "K",
        DefaultValueFactory = _ => 10,
    };
    private readonly Option<string?> _against = new("--against")
    {
        Description = "Stored activations, usually another program's: names the first hook point, position and element where this " +
            "run parts from them. Its hook points are captured for that; without a text its tokens are run.",
        HelpName = "F.npz",
    };
    private readonly Option<double> _tolerance = DiffCommand.Tolerance();
    private readonly Option<bool> _fail = DiffCommand.Fail();
    private readonly SaeUseOptions _saes;
    private readonly PackOption _pack;
    private readonly ProfileOption _profile;

    public RunCommand(CommonOptions common, VerbEnvironment environment) : base(
        "run",
        "Runs the model once over a text: the loss of each token, the likeliest next tokens, and the activations at hook points.",
        "  kernelscope run \"And the king said\" --capture resid_post.3,logits --out acts.npz\n" +
        "  kernelscope run --against acts.npz --tolerance 1e-4 --device reference\n" +
        "  kernelscope run --jsonl demo --capture resid_post.3 --out demo.npz",
        common,
        environment)
    {
        _prompt = new PromptOptions(this, "TEXT", @default: null, files: true);
        _chunk.Validators.Add(r => Parsing.Require(r, _chunk, v => v >= 1, "--chunk is {0}; it must be 1 or more."));
        _top.Validators.Add(r => Parsing.Require(r, _top, v => v >= 1, "--top is {0}; it must be 1 or more."));
        Options.Add(_capture);
        Options.Add(_out);
        Options.Add(_chunk);
        Options.Add(_top);
        Options.Add(_against);
        Options.Add(_tolerance);
        Options.Add(_fail);
        _saes = new SaeUseOptions(this);
        _pack = new PackOption(this);
        _profile = new ProfileOption(this);
    }

    public override CommonUse Uses => CommonUse.All | CommonUse.Kv;

    protected override int Run(ParseResult parsed)
    {
        string? capture = parsed.GetValue(_capture), path = parsed.GetValue(_out), stored = parsed.GetValue(_against);
        PromptList? prompts = stored is null || _prompt.IsGiven(parsed) ? _prompt.ReadAll(parsed, Streams)
            : PromptOptions.Piped(Streams) is string piped ? PromptList.Single(new Prompt(piped, null) { Warnings = Streams })
            : null;
        IReadOnlyList<SaeUse> uses = _saes.Read(parsed);
        if (capture is null != path is null)
        {
            throw new UsageException(
                capture is null ? "--out needs --capture: which hook points?" : "--capture needs --out: where do the activations go?");
        }

        if (stored is null && (parsed.GetResult(_tolerance) is { Implicit: false } || parsed.GetValue(_fail)))
            throw new UsageException("--tolerance and --fail belong to --against.");
        if (prompts is { IsSeveral: true })
        {
            return stored is null ? RunMany(parsed, prompts, uses, capture, path)
                : throw new UsageException("--against holds one text against stored activations; these are many.");
        }

        return RunOne(parsed, prompts?.Prompts[0], uses, capture, path, stored);
    }

    /// <summary>One forward pass over a text, or over the tokens of the stored activations that it is held against.</summary>
    private int RunOne(ParseResult parsed, Prompt? prompt, IReadOnlyList<SaeUse> uses, string? capture, string? path, string? stored)
    {
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        StoredActivations? against = stored is null ? null : StoredActivations.Open(stored, files);
        if (prompt is null)
        {
            long[] storedTokens = against!.Tokens
                ?? throw new UsageException($"a text is missing (or --tokens): {stored} has no array 'tokens' to run instead.");
            prompt = new Prompt(null, storedTokens) { Warnings = Streams };
        }

        int[] tokens = prompt.Tokens(files);
        HookPoint[] points = capture is null ? [] : Points(capture, files);
        bench.AddSaes(uses.Where(u => u.IsMeant));
        OutputPlaces.Require([("--out", path)], [.. bench.InputPaths, stored, _prompt.PathOf(parsed)]);
        bench.CheckPositions(tokens.Length);
        SaeUseOptions.WarnIdle(uses, Streams, "");
        int chunk = parsed.GetValue(_chunk);
        long captured = Bytes(points, files, tokens.Length) + Bytes(against?.Points ?? [], files, tokens.Length);
        (bench.Panels, bench.IsProfiled) = (_pack.UseOf(parsed), _profile.IsGiven(parsed));
        bench.OpenDevice(
            bench.Weights,
            ("SAE", bench.SaeBytes),
            ("context", bench.ContextBytes(tokens.Length, chunk)),
            ("activations", captured));

        // Before the long part: an output that cannot be written is known at once.
        using NpzWriter? writer = path is null ? null : new NpzWriter(path);
        bench.LoadWeights();
        ProfileOption.WarmUp(bench, tokens, generates: false);
        using Session session = bench.Model.NewSession(tokens.Length, chunk);
        using var watch = UsageWarnings.Arm(session, bench, tokens);
        bench.Arm(session, tokens.Length);
        using var cache = new ActivationCache(session.Hooks, points, tokens.Length);
        using var compared = new ActivationCache(session.Hooks, against?.Points ?? [], tokens.Length);

        double[] losses = new double[tokens.Length - 1];
        Mat logits = Forward(bench.Model, session, tokens, losses, cache, files.Config);
        var result = new RunResult(tokens, losses, Top(bench.Device, logits, parsed.GetValue(_top), files));
        FiniteCheck.Require(result.NextTokenLoss, result.Top);
        watch.Report(generates: false);
        if (against is not null)
        {
            double tolerance = parsed.GetValue(_tolerance);
            result = result with { Against = against.Compare(compared, tokens, files.Config.HeadDim, tolerance, Cancellation) };
        }

        if (writer is not null)
            Write(writer, cache, tokens, files);
        Written.Say(Streams, path);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            RunView.Print(Streams, result, files.Tokenizer);
        ProfileOption.Print(bench);
        return result.Against is { Parts: true } && parsed.GetValue(_fail) ? ExitCode.Failed : ExitCode.Done;
    }

    /// <exception cref="NotFiniteException">Something captured, or the final norm, is not a finite number.</exception>
    private Mat Forward(Gemma2Model model, Session session, int[] tokens, double[] losses, ActivationCache captured, Gemma2Config config)
    {
        using var progress = new Progress(Streams, "Running");
        NotFiniteException? bad = null;
        Mat logits = session.Prefill(tokens, AddLosses, Cancellation);
        // What was captured comes before the final norm, and shows better where it went wrong.
        FiniteCheck.Require(captured, config);
        return bad is null ? logits : throw FirstNotFinite.Find(model, tokens, bad);

        void AddLosses(int end)
        {
            int start = end - session.FinalNorm.Rows, targets = Math.Min(end, tokens.Length - 1) - start;
            model.NextTokenLoss(tokens.AsSpan(start + 1, targets), session, losses.AsSpan(start, targets));
            bad ??= FiniteCheck.Find(model.Device, session.FinalNorm, start);
            progress.Report(end / (double)tokens.Length);
        }
    }

    private static TokenLogit[] Top(Device device, Mat logits, int count, ModelFiles files)
    {
        var probabilities = new LogProbabilities(device, logits.Columns);
        probabilities.Read(logits);
        float[] row = new float[logits.Columns];
        device.Read(logits, row);
        IReadOnlyList<TokenLogProb> top = probabilities.Top(Math.Min(count, logits.Columns));
        return [.. top.Select(t => new TokenLogit(t.Id, TokenText.Of(files.Tokenizer, t.Id), row[t.Id], Math.Exp(t.LogProb)))];
    }

    private static void Write(NpzWriter writer, ActivationCache cache, int[] tokens, ModelFiles files)
    {
        cache.AddTo(writer, files.Config.HeadDim);
        writer.Add<long>("tokens", Array.ConvertAll(tokens, id => (long)id), tokens.Length);
        writer.Commit();
    }

    private static HookPoint[] Points(string list, ModelFiles files)
    {
        if (list.Trim() == "all")
            return [.. HookPoint.All(files.Config.LayerCount)];
        var points = new List<HookPoint>();
        foreach (string name in list.Split(',').SelectMany(word => LayerRange.Expand(word.Trim(), files.Config.LayerCount)))
        {
            HookPoint point = Parsing.Point(name, "--capture");
            if (point.Layer >= files.Config.LayerCount)
                throw new WorkException($"there is no {point} in {files.Name}: it has layers 0 to {files.Config.LayerCount - 1}.");
            points.Add(point);
        }

        return [.. points];
    }

    private static long Bytes(HookPoint[] points, ModelFiles files, int tokens)
    {
        long bytes = 0;
        foreach (HookPoint point in points)
        {
            long width = HookPoint.IsOverKeys(point.Site) ? (long)files.Config.HeadCount * tokens : Sites.WidthOf(files.Config, point);
            long values = width * tokens;
            if (values > Array.MaxLength)
            {
                throw new WorkException(
                    $"{point} of {tokens} tokens has {values} values, more than can be captured at once; use a shorter text.");
            }

            // Logits are on the device once more, for a whole chunk; scores and patterns are put together from their rows.
            bytes += (point.Site == Site.Logits || HookPoint.IsOverKeys(point.Site) ? 2 : 1) * values * sizeof(float);
        }

        return bytes;
    }
}

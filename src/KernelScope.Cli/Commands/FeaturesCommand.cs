using System.CommandLine;
using System.Globalization;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary><c>features</c>: which features fire on which token.</summary>
internal sealed class FeaturesCommand : Verb
{
    private const string DefaultText = "She loved the river more than anything. And I said unto thee, Fear the LORD thy God.";
    private readonly PromptOptions _prompt;
    private readonly SaeUseOptions _saes;
    private readonly TopOptions _top;
    private readonly Option<string[]> _labels = LabelOption.Create();
    private readonly Option<bool> _dense = new("--dense")
    {
        Description = "Show features of the demo's SAEs that fire on more than a fifth of all tokens, too. JSON always has them.",
    };
    private readonly PackOption _pack;
    private readonly ProfileOption _profile;

    public FeaturesCommand(CommonOptions common, VerbEnvironment environment) : base(
        "features",
        "Shows which features of sparse autoencoders fire on each token of a text, after the edits, if there are any.",
        "  kernelscope features \"She loved the river more than anything.\" --top 3\n" +
        "  kernelscope features \"She loved the river\" --sae res.1.1k.l0_26 --ablate 447 --sae res.3.2k.l0_19\n" +
        "  echo \"The harbour was quiet\" | kernelscope features\n" +
        "  kernelscope features --jsonl demo --top 3 --json",
        common,
        environment)
    {
        _prompt = new PromptOptions(this, "TEXT", DefaultText, files: true);
        _saes = new SaeUseOptions(this);
        _top = new TopOptions(this);
        Options.Add(_labels);
        Options.Add(_dense);
        _pack = new PackOption(this);
        _profile = new ProfileOption(this);
    }

    public override CommonUse Uses => CommonUse.All | CommonUse.Kv;

    protected override int Run(ParseResult parsed)
    {
        PromptList prompts = _prompt.ReadAll(parsed, Streams);
        IReadOnlyList<SaeUse> uses = _saes.Read(parsed);
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        int[][] texts = prompts.Tokens(files);
        int longest = texts.Max(t => t.Length);
        bench.AddSaes(uses);
        LabelOption.Give(parsed.GetValue(_labels), files, bench.Saes, Streams, Cancellation);
        bench.CheckPositions(texts.Min(t => t.Length));
        (bench.Panels, bench.IsProfiled) = (_pack.UseOf(parsed), _profile.IsGiven(parsed));
        bench.Load(bench.Weights, ("SAE", bench.SaeBytes),
            ("context", bench.ContextBytes(longest)));

        ProfileOption.WarmUp(bench, texts[0], generates: false);
        var results = new List<List<FeatureRows>>();
        for (int i = 0; i < texts.Length; i++)
        {
            List<FeatureRows> shown = Run(parsed, texts[i], bench, watched: i == 0);
            results.Add(shown);
            if (!Common.JsonOf(parsed))
                Print(shown, files, prompts.IsSeveral ? i : null, texts.Length);
        }

        if (Common.JsonOf(parsed))
            WriteJson(results, prompts.IsSeveral, files);
        ProfileOption.Print(bench);
        return ExitCode.Done;
    }

    private void Print(List<FeatureRows> shown, ModelFiles files, int? text, int texts)
    {
        if (text is int index)
        {
            string gap = index == 0 ? "" : Environment.NewLine;
            Streams.Output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{gap}text {index + 1} of {texts}"));
        }

        foreach (FeatureRows one in shown)
        {
            if (one != shown[0])
                Streams.Output.WriteLine();
            FeatureView.Print(Streams, one.Result(files), one.Sae.Sae.FeatureCount, one.Known, one.Hidden, files.BosId);
        }
    }

    private List<FeatureRows> Run(ParseResult parsed, int[] tokens, Workbench bench, bool watched)
    {
        using Session session = bench.Model.NewSession(tokens.Length);
        // Of a corpus the first text is looked at: what is wrong with the SAE shows there, and would be said for each.
        using UsageWarnings? watch = watched ? UsageWarnings.Arm(session, bench, tokens) : null;
        bench.Arm(session, tokens.Length);
        bool showsDense = Common.JsonOf(parsed) || parsed.GetValue(_dense);
        // After all edits, so that what is shown is what the model goes on with.
        List<FeatureRows> shown = [.. bench.Saes.Select(s => new FeatureRows(s, session, _top.MinimumOf(parsed), showsDense))];
        try
        {
            using var progress = new Progress(Streams, "Running");
            for (int start = 0; start < tokens.Length; start += session.ChunkLength)
            {
                int count = Math.Min(session.ChunkLength, tokens.Length - start);
                bench.Model.Forward(tokens.AsSpan(start, count), session, LogitRows.None, Cancellation);
                foreach (FeatureRows one in shown)
                    one.Add(tokens, start, count, bench.Files, row => _top.Choose(parsed, one.Capture.Codes, row, one.Hidden));
                progress.Report((start + count) / (double)tokens.Length);
            }
        }
        finally
        {
            shown.ForEach(s => s.Dispose());
        }

        watch?.Report(generates: false);
        return shown;
    }

    private void WriteJson(List<List<FeatureRows>> texts, bool isSeveral, ModelFiles files)
    {
        bool single = texts[0].Count == 1;
        string? sae = single ? texts[0][0].Sae.Name : null;
        if (isSeveral && single)
            JsonOutput.Write(Streams, new TextsResult<FeaturesResult>(files.Name, sae, [.. texts.Select(t => t[0].Result(files))]));
        else if (isSeveral)
            JsonOutput.Write(Streams, new TextsResult<SeveralFeaturesResult>(files.Name, sae, [.. texts.Select(Several)]));
        else if (single)
            JsonOutput.Write(Streams, texts[0][0].Result(files));
        else
            JsonOutput.Write(Streams, Several(texts[0]));

        SeveralFeaturesResult Several(List<FeatureRows> shown) =>
            new(files.Name, [.. shown.Select(s => new SaeFeatures(s.Sae.Name, s.Sae.Site.ToString(), s.Rows))]);
    }

    /// <summary>The features of one SAE.</summary>
    private sealed class FeatureRows(SaeFiles sae, Session session, double minimum, bool showsDense) : IDisposable
    {
        public SaeFiles Sae { get; } = sae;

        public FeatureCapture Capture { get; } = new(session.Hooks, sae.Sae, sae.Site);

        /// <summary>Features that the picture leaves out; null: none.</summary>
        public IReadOnlySet<int>? Hidden { get; } = showsDense || sae.Dense.Count == 0 ? null : sae.Dense;

        public KnownFeatures Known { get; } = new(sae.Meanings, minimum);

        public List<TokenFeatures> Rows { get; } = [];

        public void Add(int[] tokens, int start, int count, ModelFiles files, Func<int, FeatureActivation[]> choose)
        {
            for (int t = start; t < start + count; t++)
            {
                Rows.Add(new TokenFeatures(tokens[t], TokenText.Of(files.Tokenizer, tokens[t]), Known.Named(choose(t))));
                if (tokens[t] != files.BosId)
                    Known.See(Capture.Codes, t, t);
            }
        }

        public void Dispose() => Capture.Dispose();

        public FeaturesResult Result(ModelFiles files) => new(files.Name, Sae.Name, Sae.Site.ToString(), Rows);
    }
}

using System.CommandLine;
using KernelScope.Devices;
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
    private readonly PackOption _pack;
    private readonly ProfileOption _profile;

    public FeaturesCommand(CommonOptions common, Surroundings surroundings) : base(
        "features",
        "Shows which features of sparse autoencoders fire on each token of a text, after the edits, if there are any.",
        "  kernelscope features \"She loved the river more than anything.\" --top 3\n" +
        "  kernelscope features \"She loved the river\" --sae res.1.1k.l0_26 --ablate 7 --sae res.3.2k.l0_19",
        common,
        surroundings)
    {
        _prompt = new PromptOptions(this, "TEXT", DefaultText);
        _saes = new SaeUseOptions(this);
        _top = new TopOptions(this);
        _pack = new PackOption(this);
        _profile = new ProfileOption(this);
    }

    protected override int Run(ParseResult parsed)
    {
        Prompt prompt = _prompt.Of(parsed, Streams);
        IReadOnlyList<SaeUse> uses = _saes.Of(parsed);
        using ModelFiles files = ModelFiles.Open(Common.ModelOf(parsed));
        int[] tokens = prompt.Tokens(files);
        using var stack = SaeStack.Open(uses, files);
        stack.CheckPositions(tokens.Length);
        using Device opened = Common.OpenDevice(parsed, Streams, ("weights", files.WeightBytes), ("SAE", stack.Bytes), ("context", Session.BytesFor(files.Config, tokens.Length)));
        Device device = _profile.Watch(parsed, opened);
        using Gemma2Model model = files.Load(device, Streams, Cancellation, _pack.IsGiven(parsed));
        using IDisposable loaded = stack.Load(device);

        List<Shown> shown = Run(parsed, tokens, model, stack, files);
        if (Common.JsonOf(parsed))
            WriteJson(shown, files);
        else
        {
            foreach (Shown one in shown)
            {
                if (one != shown[0])
                    Streams.Output.WriteLine();
                FeatureView.Print(Streams, one.Result(files), one.Sae.Sae.FeatureCount, one.Known, files.BosId);
            }
        }

        ProfileOption.Print(device, Streams);
        return ExitCode.Done;
    }

    private List<Shown> Run(ParseResult parsed, int[] tokens, Gemma2Model model, SaeStack stack, ModelFiles files)
    {
        using Session session = model.NewSession(tokens.Length);
        using var watch = UseWatch.Arm(session, stack, files, tokens);
        stack.Arm(session, tokens.Length, Streams, Cancellation);
        // After all edits, so that what is shown is what the model goes on with.
        List<Shown> shown = [.. stack.Saes.Select(s => new Shown(s, session, _top.MinimumOf(parsed)))];
        try
        {
            using var progress = new Progress(Streams, "Running");
            for (int start = 0; start < tokens.Length; start += session.ChunkLength)
            {
                int count = Math.Min(session.ChunkLength, tokens.Length - start);
                model.Forward(tokens.AsSpan(start, count), session, LogitRows.None, Cancellation);
                foreach (Shown one in shown)
                    one.Add(tokens, start, count, files, row => _top.Choose(parsed, one.Capture.Codes, row));
                progress.Report((start + count) / (double)tokens.Length);
            }
        }
        finally
        {
            shown.ForEach(s => s.Dispose());
        }

        watch.Report(model, generates: false, Streams, Cancellation);
        return shown;
    }

    private void WriteJson(List<Shown> shown, ModelFiles files)
    {
        if (shown.Count == 1)
            JsonOutput.Write(Streams, shown[0].Result(files));
        else
            JsonOutput.Write(Streams, new SeveralFeaturesResult(files.Name, [.. shown.Select(s => new SaeFeatures(s.Sae.Files.Name, s.Sae.Files.Site.ToString(), s.Rows))]));
    }

    /// <summary>The features of one SAE.</summary>
    private sealed class Shown(SaeStack.LoadedSae sae, Session session, double minimum) : IDisposable
    {
        private readonly IDisposable _check = FiniteCheck.At(session.Hooks, sae.Files.Site);

        public SaeStack.LoadedSae Sae { get; } = sae;

        public FeatureCapture Capture { get; } = new(session.Hooks, sae.Sae, sae.Files.Site);

        public KnownFeatures Known { get; } = new(sae.Files.Meanings, minimum);

        public List<TokenFeatures> Rows { get; } = [];

        public void Add(int[] tokens, int start, int count, ModelFiles files, Func<int, FeatureActivation[]> choose)
        {
            for (int t = start; t < start + count; t++)
            {
                Rows.Add(new TokenFeatures(tokens[t], TokenText.Of(files.Tokenizer, tokens[t]), choose(t)));
                if (tokens[t] != files.BosId)
                    Known.See(Capture.Codes, t, t);
            }
        }

        public void Dispose()
        {
            _check.Dispose();
            Capture.Dispose();
        }

        public FeaturesResult Result(ModelFiles files) => new(files.Name, Sae.Files.Name, Sae.Files.Site.ToString(), Rows);
    }
}

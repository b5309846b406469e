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
    private readonly SaeOptions _sae;
    private readonly TopOptions _top;
    private readonly PackOption _pack;
    private readonly ProfileOption _profile;

    public FeaturesCommand(CommonOptions common, Surroundings surroundings) : base(
        "features",
        "Shows which features of a sparse autoencoder fire on each token of a text.",
        "  kernelscope features \"She loved the river more than anything.\" --top 3",
        common,
        surroundings)
    {
        _prompt = new PromptOptions(this, "TEXT", DefaultText);
        _sae = new SaeOptions(this);
        _top = new TopOptions(this);
        _pack = new PackOption(this);
        _profile = new ProfileOption(this);
    }

    protected override int Run(ParseResult parsed)
    {
        Prompt prompt = _prompt.Of(parsed, Streams);
        using ModelFiles files = ModelFiles.Open(Common.ModelOf(parsed));
        int[] tokens = prompt.Tokens(files);
        using SaeFiles saeFiles = _sae.Open(parsed, files);
        using Device opened = Common.OpenDevice(parsed, Streams, ("weights", files.WeightBytes), ("SAE", saeFiles.Bytes), ("context", Session.BytesFor(files.Config, tokens.Length)));
        Device device = _profile.Watch(parsed, opened);
        using Gemma2Model model = files.Load(device, Streams, Cancellation, _pack.IsGiven(parsed));
        using JumpReluSae sae = saeFiles.Load(device);

        bool json = Common.JsonOf(parsed);
        var known = new KnownFeatures(json ? new Dictionary<int, string>() : saeFiles.Meanings);
        var result = new FeaturesResult(files.Name, saeFiles.Name, saeFiles.Site.ToString(), Features(parsed, tokens, model, sae, saeFiles, files, known));
        if (json)
            JsonOutput.Write(Streams, result);
        else
            FeatureView.Print(Streams, result, sae.FeatureCount, known, files.BosId);
        ProfileOption.Print(device, Streams);
        return ExitCode.Done;
    }

    private List<TokenFeatures> Features(ParseResult parsed, int[] tokens, Gemma2Model model, JumpReluSae sae, SaeFiles saeFiles, ModelFiles files, KnownFeatures known)
    {
        var rows = new List<TokenFeatures>(tokens.Length);
        using Session session = model.NewSession(tokens.Length);
        using var capture = new FeatureCapture(session.Hooks, sae, saeFiles.Site);
        using var progress = new Progress(Streams, "Running");
        for (int start = 0; start < tokens.Length; start += session.ChunkLength)
        {
            int count = Math.Min(session.ChunkLength, tokens.Length - start);
            model.Forward(tokens.AsSpan(start, count), session, LogitRows.None, Cancellation);
            for (int r = 0; r < count; r++)
            {
                int token = tokens[start + r];
                rows.Add(new TokenFeatures(token, TokenText.Of(files.Tokenizer, token), _top.Choose(parsed, capture.Codes, r)));
                if (token != files.BosId)
                    known.See(capture.Codes, r, start + r);
            }

            progress.Report((start + count) / (double)tokens.Length);
        }

        return rows;
    }
}

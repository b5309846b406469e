using System.CommandLine;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Cli;

/// <summary><c>run</c>: one forward pass, with the activations at any hook points.</summary>
internal sealed class RunCommand : Verb
{
    private readonly PromptOptions _prompt;
    private readonly Option<string?> _capture = new("--capture") { Description = "Hook points whose activations are written, with commas between them: resid_post.3,z.1,logits; or all.", HelpName = "POINTS" };
    private readonly Option<string?> _out = new("--out") { Description = "Where the activations go: an npz with one f32 array for each hook point [tokens, width], and tokens. Captures see what edits at the same point made.", HelpName = "F.npz" };
    private readonly Option<int> _chunk = new("--chunk") { Description = "Feed the prompt in pieces of at most N tokens. The results do not depend on it.", HelpName = "N" };
    private readonly Option<int> _top = new("--top") { Description = "How many of the likeliest next tokens are shown.", HelpName = "K", DefaultValueFactory = _ => 10 };
    private readonly SaeOptions _sae;
    private readonly EditOptions _edits;
    private readonly PackOption _pack;
    private readonly ProfileOption _profile;

    public RunCommand(CommonOptions common, Surroundings surroundings) : base(
        "run",
        "Runs the model once over a text: the loss of each token, the likeliest next tokens, and the activations at hook points.",
        "  kernelscope run \"And the king said\" --capture resid_post.3,logits --out acts.npz",
        common,
        surroundings)
    {
        _prompt = new PromptOptions(this, "TEXT", @default: null);
        _chunk.Validators.Add(r => Parsing.Require(r, _chunk, v => v >= 1, "--chunk is {0}; it must be 1 or more."));
        _top.Validators.Add(r => Parsing.Require(r, _top, v => v >= 1, "--top is {0}; it must be 1 or more."));
        Options.Add(_capture);
        Options.Add(_out);
        Options.Add(_chunk);
        Options.Add(_top);
        _sae = new SaeOptions(this);
        _edits = new EditOptions(this);
        _pack = new PackOption(this);
        _profile = new ProfileOption(this);
    }

    protected override int Run(ParseResult parsed)
    {
        Prompt prompt = _prompt.Of(parsed, Streams);
        Edits? edits = _edits.Of(parsed);
        string? capture = parsed.GetValue(_capture), path = parsed.GetValue(_out);
        if (capture is null != path is null)
            throw new UsageException(capture is null ? "--out needs --capture: which hook points?" : "--capture needs --out: where do the activations go?");
        using ModelFiles files = ModelFiles.Open(Common.ModelOf(parsed));
        int[] tokens = prompt.Tokens(files);
        HookPoint[] points = capture is null ? [] : Points(capture, files);
        using SaeFiles? saeFiles = edits is not null ? _sae.Open(parsed, files) : null;
        edits?.Check(saeFiles!);
        int chunk = parsed.GetValue(_chunk);
        using Device opened = Common.OpenDevice(
            parsed, Streams, ("weights", files.WeightBytes), ("SAE", saeFiles?.Bytes ?? 0), ("context", Session.BytesFor(files.Config, tokens.Length, chunk)), ("activations", Bytes(points, files, tokens.Length)));

        // Before the long part: an output that cannot be written is known at once.
        using NpzWriter? writer = path is null ? null : new NpzWriter(path);
        Device device = _profile.Watch(parsed, opened);
        using Gemma2Model model = files.Load(device, Streams, Cancellation, _pack.IsGiven(parsed));
        using JumpReluSae? sae = saeFiles?.Load(device);
        using Session session = model.NewSession(tokens.Length, chunk);
        using SaeSplice? splice = edits?.Arm(session.Hooks, sae!, saeFiles!, files.BosId, tokens.Length);
        using var cache = new ActivationCache(session.Hooks, points, tokens.Length);

        double[] losses = new double[tokens.Length - 1];
        Mat logits = Forward(model, session, tokens, losses);
        var result = new RunResult(tokens, losses, Top(device, logits, parsed.GetValue(_top), files));
        if (writer is not null)
            Write(writer, cache, tokens, files);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
            RunView.Print(Streams, result, files.Tokenizer, path);
        ProfileOption.Print(device, Streams);
        return ExitCode.Done;
    }

    private Mat Forward(Gemma2Model model, Session session, int[] tokens, double[] losses)
    {
        using var progress = new Progress(Streams, "Running");
        return session.Prefill(tokens, AddLosses, Cancellation);

        void AddLosses(int end)
        {
            int start = end - session.FinalNorm.Rows, targets = Math.Min(end, tokens.Length - 1) - start;
            model.NextTokenLoss(tokens.AsSpan(start + 1, targets), session, losses.AsSpan(start, targets));
            progress.Report(end / (double)tokens.Length);
        }
    }

    private static TokenLogit[] Top(Device device, Mat logits, int count, ModelFiles files)
    {
        using SparseCodes codes = device.CreateCodes(logits.Columns, "top");
        device.TopK(logits, Math.Min(count, logits.Columns), codes);
        var list = new CodeList();
        device.Read(codes, list);
        return [.. Enumerable.Range(0, list.Count).Select(i => new TokenLogit(list.Feature[i], TokenText.Of(files.Tokenizer, list.Feature[i]), list.Value[i]))];
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
        foreach (string name in list.Split(','))
        {
            HookPoint point = Parsing.Point(name.Trim(), "--capture");
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
            long values = (long)Sites.WidthOf(files.Config, point) * tokens;
            if (values > Array.MaxLength)
                throw new WorkException($"{point} of {tokens} tokens has {values} values, more than can be captured at once; use a shorter text.");
            // Logits are on the device once more, for a whole chunk.
            bytes += (point.Site == Site.Logits ? 2 : 1) * values * sizeof(float);
        }

        return bytes;
    }
}

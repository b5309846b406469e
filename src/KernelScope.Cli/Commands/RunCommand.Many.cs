using System.CommandLine;
using System.Globalization;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Cli;

// Many texts in one run: a document for each, and activations one text after the other, as encode reads them.
internal sealed partial class RunCommand
{
    private const string TextStarts = "text_start";

    private int RunMany(ParseResult parsed, PromptList prompts, IReadOnlyList<SaeUse> uses, string? capture, string? path)
    {
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        int[][] texts = prompts.Tokens(files);
        HookPoint[] points = capture is null ? [] : Points(capture, files);
        bench.AddSaes(uses.Where(u => u.IsMeant));
        OutputPlaces.Require([("--out", path)], [.. bench.InputPaths, _prompt.PathOf(parsed)]);
        bench.CheckPositions(texts.Min(t => t.Length));
        SaeUseOptions.WarnIdle(uses, Streams, "");
        int chunk = parsed.GetValue(_chunk), longest = texts.Max(t => t.Length);
        long all = texts.Sum(t => (long)t.Length);
        if (points.Length > 0 && all > Array.MaxLength)
            throw new WorkException($"the texts have {all} tokens, more than can be captured at once; use a part of them.");
        long captured = points.Length == 0 ? 0 : Bytes(points, files, (int)all) + Bytes(points, files, longest);
        long context = bench.ContextBytes(longest, chunk);
        (bench.Panels, bench.IsProfiled) = (_pack.UseOf(parsed), _profile.IsGiven(parsed));
        bench.OpenDevice(bench.Weights, ("SAE", bench.SaeBytes), ("context", context), ("activations", captured));

        // Before the long part: an output that cannot be written is known at once.
        using NpzWriter? writer = path is null ? null : new NpzWriter(path);
        bench.LoadWeights();
        ProfileOption.WarmUp(bench, texts[0], generates: false);
        var rows = points.ToDictionary(p => p, p => new float[(int)all * Sites.WidthOf(files.Config, p)]);
        var results = new List<RunResult>();
        int done = 0;
        for (int number = 1; number <= texts.Length; number++)
        {
            int[] tokens = texts[number - 1];
            using Session session = bench.Model.NewSession(tokens.Length, chunk);
            // Of a corpus the first text is looked at: what is wrong with the SAE shows there, and would be said for each.
            using UsageWarnings? watch = done == 0 ? UsageWarnings.Arm(session, bench, tokens) : null;
            bench.Arm(session, tokens.Length);
            using var cache = new ActivationCache(session.Hooks, points, tokens.Length);
            double[] losses = new double[tokens.Length - 1];
            try
            {
                Mat logits = Forward(bench.Model, session, tokens, losses, cache, files.Config);
                results.Add(new RunResult(tokens, losses, Top(bench.Device, logits, parsed.GetValue(_top), files)));
                FiniteCheck.Require(losses, results[^1].Top);
            }
            catch (NotFiniteException e) when (texts.Length > 1)
            {
                throw new NotFiniteException($"text {number}: {e.What}");
            }

            watch?.Report(generates: false);
            foreach (HookPoint point in points)
                Append(cache, point, tokens.Length, rows[point], done);
            done += tokens.Length;
        }

        if (writer is not null)
            Write(writer, rows, texts, files.Config.HeadDim);
        Written.Say(Streams, path);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, new TextsResult<RunResult>(files.Name, bench.Saes is [var only] ? only.Name : null, results));
        else
            Print(results, files);
        ProfileOption.Print(bench);
        return ExitCode.Done;
    }

    private void Print(List<RunResult> results, ModelFiles files)
    {
        for (int i = 0; i < results.Count; i++)
        {
            string gap = i == 0 ? "" : Environment.NewLine;
            Streams.Output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{gap}text {i + 1} of {results.Count}"));
            RunView.Print(Streams, results[i], files.Tokenizer);
        }
    }

    /// <summary>Puts the rows of a text behind those of the texts before it.</summary>
    private static void Append(ActivationCache cache, HookPoint point, int count, float[] rows, int before)
    {
        ReadOnlySpan<float> values = cache.Values(point);
        int width = cache.Width(point);
        if (values.Length != count * width || (long)(before + count) * width > rows.Length)
        {
            const string Advice = "so that those of several texts cannot stand one after the other; capture it of one text at a time.";
            throw new WorkException($"{point} does not have a row for each token, {Advice}");
        }

        values.CopyTo(rows.AsSpan(before * width));
    }

    private static void Write(NpzWriter writer, Dictionary<HookPoint, float[]> rows, int[][] texts, int headDim)
    {
        long all = texts.Sum(t => (long)t.Length);
        foreach ((HookPoint point, float[] values) in rows)
        {
            long width = values.Length / all;
            long[] shape = point.Site is Site.Q or Site.K or Site.V ? [all, width / headDim, headDim] : [all, width];
            writer.Add<float>(point.ToString(), values, shape);
        }

        writer.Add<long>("tokens", [.. texts.SelectMany(t => t).Select(id => (long)id)], all);
        long[] starts = new long[texts.Length + 1];
        for (int i = 0; i < texts.Length; i++)
            starts[i + 1] = starts[i] + texts[i].Length;
        writer.Add<long>(TextStarts, starts, starts.Length);
        writer.Commit();
    }
}

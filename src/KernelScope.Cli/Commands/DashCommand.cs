using System.CommandLine;
using System.Globalization;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Training.Runs;
using KernelScope.Web.Dashboards;

namespace KernelScope.Cli;

/// <summary><c>dash</c>: what features do over a corpus, as a page.</summary>
internal sealed class DashCommand : Verb
{
    private const int MostFeatures = 4096;
    private readonly Option<string?> _features = new("--features")
    {
        Description = "Which: indices and ranges, such as 1738,1620 or 0-127,900. With --out the default is all.",
        HelpName = "LIST",
    };

    private readonly Option<string?> _out = new("--out")
    {
        Description = "With --run: pages of all features in a folder, which serve --dashboards reads, with a site for a browser " +
            "(index.html) that needs no server.",
        HelpName = "DIR",
    };

    private readonly Option<string[]> _export = new("--export")
    {
        Description = "With --out, repeatable: also the files that Neuronpedia's import reads (neuronpedia), or a JSON file a feature " +
            "for viewers of attribution graphs (graph).",
        HelpName = "neuronpedia|graph",
    };

    private readonly Option<string?> _textFile = new("--text-file")
    {
        Description = "The corpus, UTF-8, cut into windows; '-' is standard input.",
        HelpName = "F",
    };

    private readonly Option<string?> _tokensFile = new("--tokens-file")
    {
        Description = "The corpus as token ids: a JSON list of lists; '-' is standard input.",
        HelpName = "F.json",
    };

    private readonly Option<string?> _run = new("--run")
    {
        Description = "A run on disk with the codes of an SAE (harvest --sae) instead of a text; --sae is not needed if it has only one.",
        HelpName = "RUN",
    };

    private readonly Option<int?> _length = new("--length")
    {
        Description = "Tokens of a window that a text is cut into, BOS with them. Default: 128.",
        HelpName = "N",
    };

    private readonly Option<string[]> _texts = new("--text")
    {
        Description = "A text of your own to show the features on, repeatable.",
        HelpName = "TEXT",
    };

    private readonly Option<string?> _html = new("--html")
    {
        Description = "Where the page goes: one HTML file that needs nothing else.",
        HelpName = "F.html",
    };

    private readonly Option<int> _top = new("--top") { Description = "Strongest examples.", HelpName = "N", DefaultValueFactory = _ => 20 };
    private readonly Option<int> _examples = new("--examples")
    {
        Description = "Examples of each range of activations.",
        HelpName = "N",
        DefaultValueFactory = _ => 5,
    };

    private readonly Option<string> _binning = new("--binning")
    {
        Description = "How ranges are made: quantile (by rank where it fires), or saedashboard (five equal intervals from 0).",
        HelpName = "quantile|saedashboard",
        DefaultValueFactory = _ => "quantile",
    };

    private readonly Option<int> _seed = new("--seed")
    {
        Description = "Of the choice of examples in a range. Default: 0.",
        HelpName = "N",
    };

    private readonly Option<string[]> _labels = LabelOption.Create();
    private readonly SaeOptions _sae;

    public DashCommand(CommonOptions common, VerbEnvironment environment) : base(
        "dash",
        "Shows what features do over a corpus: density, histograms, the strongest examples and examples by quantiles, the logits of " +
        "their directions, their neighbours. One offline page with --html, one JSON document with --json; all features of an SAE, from " +
        "the codes of a run, in a folder with --out. For an attention SAE (at z) examples say which tokens the activation comes from: " +
        "the model runs once more over the windows that are shown, at most over the whole run for every 16,384 features.",
        "kernelscope dash --features 1738,320 --text-file demo --html page.html\n  kernelscope dash --features 1738 --text-file demo " +
        "--top 3 --examples 1 --json\n  kernelscope harvest --out run --text-file demo --sae res.3.2k.l0_19 --codes-only --context " +
        "128\n  " +
        "kernelscope dash --run run --features 0-63 --out pages",
        common,
        environment)
    {
        Option[] all =
        [
            _features, _textFile, _tokensFile, _run, _length, _texts, _html, _out, _export, _top, _examples, _binning, _seed, _labels,
        ];
        foreach (Option option in all)
            Options.Add(option);
        _length.Validators.Add(r => Parsing.Require(
            r, _length, v => v >= 2, "--length is {0}; a window has at least 2 tokens, BOS and one more."));
        _top.Validators.Add(r => Parsing.Require(r, _top, v => v is >= 1 and <= 10_000, "--top is {0}; it must be between 1 and 10000."));
        _examples.Validators.Add(r => Parsing.Require(
            r, _examples, v => v is >= 0 and <= 1000, "--examples is {0}; it must be between 0 and 1000."));
        _binning.Validators.Add(r => Parsing.Require(
            r, _binning, v => v is "quantile" or "saedashboard",
            "'{0}' is not a way to make ranges: there are quantile and saedashboard."));
        _sae = new SaeOptions(this);
    }

    protected override void CheckOptions(ParseResult parsed)
    {
        bool isFolder = parsed.GetValue(_out) is not null;
        Belongs(parsed, parsed.GetValue(_run) is null, "a text: a run has its own windows", _textFile, _tokensFile, _length);
        Belongs(parsed, isFolder, "--out", _export);
        Belongs(parsed, !isFolder, "a single page: --out writes a folder", _html, _texts);
        _ = ExportsOf(parsed);
        if (isFolder && parsed.GetValue(_run) is null)
            throw new UsageException("--out needs a run with codes: harvest --sae makes one, and --run names it.");
        if (!isFolder && parsed.GetValue(_features) is null)
            throw new UsageException("--features is missing: which features the page shows, such as 1738,1620 or 0-127.");
    }

    protected override int Run(ParseResult parsed)
    {
        string? html = parsed.GetValue(_html), path = parsed.GetValue(_out);
        if (html is null && path is null && !Common.JsonOf(parsed))
            throw new UsageException("there is nowhere for the result to go: --html F.html, --out DIR, or --json.");
        OutputPlaces.Require([("--html", html)], parsed.GetValue(_textFile), parsed.GetValue(_tokensFile));
        (RunFolder Folder, RunPlan Plan)? run = parsed.GetValue(_run) is string folder ? RunSteps.Open(folder) : null;
        if (run is not null)
            RunSteps.RequireApart(run.Value.Folder, ("--html", html), ("--out", path));
        // Whether the page can be written is known now, not after an hour.
        if (html is not null)
            AtomicFile.Create(html).Dispose();
        using Workbench bench = run is null ? Workbench.Open(parsed, this) : RunParts.OpenModel(parsed, this, run.Value.Plan);
        ModelFiles files = bench.Files;
        if (run is not null)
            RunParts.RequireModel(files, run.Value.Plan, Cancellation);
        SaeFiles saeFiles = run is null || _sae.IsGiven(parsed) ? _sae.Open(parsed, bench) : OnlyOf(run.Value.Plan, bench);
        SaeRecord? record = run is null ? null : RecordOf(run.Value.Plan, saeFiles);
        int[] features = FeaturesOf(parsed.GetValue(_features), saeFiles, isFolder: path is not null);
        FeatureLabels labels = LabelOption.Read(parsed.GetValue(_labels), files, Streams, Cancellation);
        if (path is not null)
        {
            FeatureStatisticsOptions options = OptionsOf(parsed, FolderDashboards.Window, run!.Value.Plan.SkipFirst);
            var inputs = new DashboardInputs(files, saeFiles, run!.Value.Folder, run.Value.Plan, record!, labels, options);
            return WriteFolder(parsed, path, inputs, features, bench);
        }

        string? doubt = null, textFile = parsed.GetValue(_textFile), tokensFile = parsed.GetValue(_tokensFile);
        TokenSet tokens = run is null
            ? EvalTokens.Read(textFile, tokensFile, parsed.GetValue(_length), null, files, out doubt)
            : RunEvaluation.TokensOf(run.Value.Folder, run.Value.Plan, files.Config);
        long context = bench.ContextBytes(tokens.Length);
        bench.Load(bench.Weights, ("SAE", saeFiles.Bytes), ("context", context));
        (Gemma2Model model, JumpReluSae sae) = (bench.Model, saeFiles.Sae);
        if (doubt is not null)
            Streams.Warn(doubt);
        FeatureFirings firings;
        using (var progress = new Progress(Streams, "Reading the corpus"))
        {
            firings = run is null
                ? FeatureStatistics.Collect(model, sae, saeFiles.Site, features, tokens, progress, Cancellation)
                : RunFirings.Collect(run.Value.Folder, run.Value.Plan, record!, features, progress, Cancellation);
        }

        FeaturePage[] pages = Pages(parsed, model, sae, saeFiles, files, firings, tokens, labels);
        string corpus = run is null ? InputFile.NameOf(textFile ?? tokensFile!) : $"run {run.Value.Plan.Id[..12]}";
        FeaturePageSource source = Source(parsed, files, saeFiles, tokens, corpus);
        if (html is not null)
            FeaturePages.Write(html, source, pages);
        Written.Say(Streams, html);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, DashResult.Create(source, pages));
        else
            Print(pages);
        return ExitCode.Done;
    }

    private void Print(FeaturePage[] pages)
    {
        foreach (FeaturePage page in pages)
        {
            FeatureStatistics s = page.Statistics;
            string label = page.Labels is [string first, ..] ? $": {Printable.Escape(first)}" : "";
            string fires = s.Firing == 0 ? $"did not fire in {s.Counted:N0} tokens"
                : $"fires on {s.Firing:N0} of {s.Counted:N0} tokens, at most {s.Max:0.##}";
            Streams.Output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"feature {s.Feature}{label}: {fires}"));
        }
    }

    private FeaturePage[] Pages(
        ParseResult parsed, Gemma2Model model, JumpReluSae sae, SaeFiles saeFiles, ModelFiles files, FeatureFirings firings,
        TokenSet tokens, FeatureLabels labels)
    {
        const int Nearest = 10;
        FeatureStatisticsOptions options = OptionsOf(parsed, parsed.GetValue(_run) is null ? int.MaxValue : FolderDashboards.Window);
        string modelId = LabelOption.ModelId(files), sourceId = SourceName.Of(saeFiles);
        FeatureExample[][] own = [.. (parsed.GetValue(_texts) ?? [])
            .Select(t => OwnText(t, model, sae, saeFiles.Site, files, firings.Features))];
        using var progress = new Progress(Streams, "Reading attention");
        IReadOnlyList<FeatureStatistics> all = ExampleSources.AddTo(
            FeatureStatistics.Create(firings, tokens, options), model, sae, saeFiles.Site, tokens, Common.ThreadCountOf(parsed), progress,
            Cancellation);
        return [.. all.Select((s, i) => new FeaturePage
        {
            Statistics = s,
            Logits = saeFiles.HasSiteOut ? FeatureLogits.Create(model, sae, saeFiles.SiteOut, s.Feature) : null,
            Nearest = FeatureStatistics.Nearest(sae, s.Feature, Nearest, Cancellation),
            Labels = [.. labels.Of(modelId, sourceId, s.Feature).Select(l => l.Description)],
            Link = SourceName.PageOf(saeFiles) is string page ? string.Create(CultureInfo.InvariantCulture, $"{page}/{s.Feature}") : null,
            OwnTexts = [.. own.Select(texts => texts[i])],
        })];
    }

    private FeatureStatisticsOptions OptionsOf(ParseResult parsed, int window, int skipFirst = 0) => new()
    {
        SkipFirst = skipFirst,
        Top = parsed.GetValue(_top),
        Examples = parsed.GetValue(_examples),
        Binning = parsed.GetValue(_binning) == "quantile" ? ExampleBinning.Quantile : ExampleBinning.SaeDashboard,
        Seed = unchecked((ulong)parsed.GetValue(_seed)),
        Window = window,
    };

    private DashboardExports ExportsOf(ParseResult parsed)
    {
        var exports = DashboardExports.None;
        foreach (string name in parsed.GetValue(_export) ?? [])
        {
            exports |= name switch
            {
                "neuronpedia" => DashboardExports.Neuronpedia,
                "graph" => DashboardExports.Graph,
                _ => throw new UsageException($"--export is '{Printable.Escape(name)}'; there are neuronpedia and graph."),
            };
        }

        return exports;
    }

    private int WriteFolder(ParseResult parsed, string path, DashboardInputs inputs, int[] features, Workbench bench)
    {
        long context = SourceAttribution.IsFor(inputs.Sae.Site) ? bench.ContextBytes(inputs.Plan.Context) : 0;
        bench.Load(bench.Weights, ("SAE", inputs.Sae.Bytes), ("context", context));
        DashFolderResult result = new FolderDashboards(inputs, Common.ThreadCountOf(parsed), Cancellation)
            .Write(path, features, bench.Model, inputs.Sae.Sae, ExportsOf(parsed), Streams);
        Streams.Error.WriteLine(
            $"Wrote {Printable.Escape(path)} ({ByteText.Of(result.Bytes)}): open index.html in it, or kernelscope serve --dashboards.");
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, result);
        else
        {
            Streams.Output.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{result.Features} features of {result.Source} over {result.CountedPositions:N0} positions; {result.Dead} never fire, " +
                $"{result.Dense} fire on more than a tenth"));
        }

        return ExitCode.Done;
    }

    /// <summary>A text of one's own, as an example of each feature.</summary>
    private FeatureExample[] OwnText(
        string text, Gemma2Model model, JumpReluSae sae, HookPoint site, ModelFiles files, IReadOnlyList<int> features)
    {
        int[] ids = [files.BosId, .. files.RequiredTokenizer.Encode(text)];
        if (ids.Length < 2)
            throw new UsageException("--text is empty.");
        var tokens = TokenSet.Create([ids], files.Config);
        FeatureFirings firings = FeatureStatistics.Collect(model, sae, site, features, tokens, null, Cancellation);
        var options = new FeatureStatisticsOptions { Top = 1, Examples = 0 };
        return [.. ExampleSources.AddTo(
            FeatureStatistics.Create(firings, tokens, options), model, sae, site, tokens, 1, null, Cancellation)
            .Select(s => s.Top.Count > 0 ? s.Top[0]
            : new FeatureExample { Sequence = 0, Position = 0, Activation = 0, Tokens = ids, Values = new float[ids.Length] })];
    }

    private FeaturePageSource Source(ParseResult parsed, ModelFiles files, SaeFiles saeFiles, TokenSet tokens, string corpus) => new()
    {
        Model = files.Name,
        Sae = saeFiles.Name,
        Site = saeFiles.Site.ToString(),
        SiteOut = saeFiles.HasSiteOut ? saeFiles.SiteOut.ToString() : null,
        Corpus = corpus,
        Tokens = tokens,
        Seed = unchecked((ulong)parsed.GetValue(_seed)),
        Text = id => TokenText.Of(files.Tokenizer, id) ?? $"<{id}>",
        Piece = id => files.Tokenizer is { } tokenizer && tokenizer.Contains(id) ? tokenizer.Piece(id) : $"<{id}>",
    };

    /// <summary>The one SAE whose codes a run holds.</summary>
    private static SaeFiles OnlyOf(RunPlan plan, Workbench bench)
    {
        if (plan.Saes.Count == 0)
            throw new UsageException("the run holds no codes; harvest --sae writes them.");
        if (plan.Saes.Count > 1)
            throw new UsageException($"the run holds codes of several SAEs, {NamesOf(plan)}; --sae PATH says of which, and where it is.");
        try
        {
            return bench.AddSae(plan.Saes[0].Name, plan.Saes[0].Site);
        }
        catch (Exception e) when (e is WorkException or InvalidDataException)
        {
            throw new UsageException($"the run's SAE {NamesOf(plan)} is not found under that name; --sae PATH says where it is.");
        }
    }

    /// <summary>What the run calls its SAEs: names, which need not be paths.</summary>
    private static string NamesOf(RunPlan plan) => string.Join(", ", plan.Saes.Select(s => $"'{Printable.Escape(s.Name)}'"));

    /// <summary>The run's codes of an SAE, which are told by what it computes with, not by its name.</summary>
    private static SaeRecord RecordOf(RunPlan plan, SaeFiles sae)
    {
        string hash = RunIdentity.Of(sae.Checkpoint);
        SaeRecord[] same = [.. plan.Saes.Where(s => s.Sha256 == hash)];
        if (same.Length == 0)
            throw new UsageException($"the run holds no codes of {sae.Name}; it has " +
                $"{(plan.Saes.Count == 0 ? "none" : $"those of {NamesOf(plan)}")}.");
        return same.FirstOrDefault(s => s.Site == sae.Site)
            ?? throw new UsageException($"the run's codes of {sae.Name} are of {same[0].Site}, not of {sae.Site}.");
    }

    /// <summary>Indices and ranges, each feature once.</summary>
    private static int[] FeaturesOf(string? list, SaeFiles sae, bool isFolder)
    {
        if (list is null)
            return [.. Enumerable.Range(0, sae.Config.FeatureCount)];
        var features = new List<int>();
        foreach (string part in list.Split(',', StringSplitOptions.TrimEntries))
        {
            string[] ends = part.Split('-', StringSplitOptions.TrimEntries);
            int first = Parsing.Feature(ends[0], "--features"), last = ends.Length == 2 ? Parsing.Feature(ends[1], "--features") : first;
            if (ends.Length > 2 || first < 0 || last < first)
                throw new UsageException($"'{Printable.Escape(part)}' is neither a feature nor a range; write 1738 or 0-127.");
            if (last >= sae.Config.FeatureCount)
            {
                throw new WorkException(
                    $"feature {last} is outside the width of {sae.Name}, which has features 0 to {sae.Config.FeatureCount - 1}.");
            }

            features.AddRange(Enumerable.Range(first, last - first + 1));
        }

        if (isFolder)
            return [.. features.Distinct().Order()];
        int[] distinct = [.. features.Distinct()];
        return distinct.Length <= MostFeatures ? distinct
            : throw new UsageException($"--features names {distinct.Length} features; a page takes at most {MostFeatures}.");
    }
}

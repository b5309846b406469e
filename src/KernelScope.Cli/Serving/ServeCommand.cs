using System.CommandLine;
using System.Net.Sockets;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Runtime;
using KernelScope.Training.Runs;
using KernelScope.Web;
using KernelScope.Web.Copy;
using KernelScope.Web.Dashboards;

namespace KernelScope.Cli;

/// <summary><c>serve</c>: model and SAEs over HTTP.</summary>
internal sealed class ServeCommand : Verb
{
    private readonly Option<string[]> _saes = new("--sae")
    {
        Description = "SAE or transcoder, repeatable: as in the other verbs; PATH=ID gives it another source id, such as " +
            "20-gemmascope-res-16k. Default with the demo model: all of the demo's.",
        HelpName = "PATH[=ID]",
    };

    private readonly Option<string?> _site = new("--site")
    {
        Description = "Where SAEs read whose path or cfg.json does not say so: resid_post.3.",
        HelpName = "POINT",
    };

    private readonly Option<string?> _siteOut = new("--site-out")
    {
        Description = "Where transcoders write of which nothing says so: mlp_out_post.3.",
        HelpName = "POINT",
    };

    private readonly Option<string[]> _dashboards = new("--dashboards")
    {
        Description = "A folder that dash --out wrote, repeatable: feature pages of its source come from there.",
        HelpName = "DIR",
    };

    private readonly Option<string[]> _labels = LabelOption.Create();
    private readonly Option<string?> _textFile = new("--text-file")
    {
        Description = "A text over which feature pages count and from which they take examples; its codes are kept in memory. Default " +
            "with the demo model: a small text inside.",
        HelpName = "F",
    };

    private readonly Option<string?> _export = new("--export")
    {
        Description = "Write the demo page and feature pages to a folder, with recorded answers to the exercises, and end: they work " +
            "from a disk or any host of files, without a server. The demo model only.",
        HelpName = "DIR",
    };

    private readonly ServeOptions _options;

    public ServeCommand(CommonOptions common, VerbEnvironment environment) : base(
        "serve",
        "Serves the model and its SAEs to this machine: the calls of Neuronpedia's Python client and web app, OpenAI-compatible ones " +
        "with edits of features, a demo page, health and metrics.\n" +
        "Ctrl+C ends it. Prompts are not logged, and nothing is fetched from elsewhere.",
        "  kernelscope serve --urls http://127.0.0.1:0\n  kernelscope serve --export tutorial",
        common,
        environment)
    {
        Options.Add(_saes);
        Options.Add(_site);
        Options.Add(_siteOut);
        Options.Add(_labels);
        Options.Add(_dashboards);
        Options.Add(_textFile);
        Options.Add(_export);
        _options = new ServeOptions(this);
    }

    public override CommonUse Uses => CommonUse.All | CommonUse.Kv;

    protected override void CheckOptions(ParseResult parsed)
    {
        bool isServer = parsed.GetValue(_export) is null;
        Belongs(parsed, isServer, "a server: --export writes files", _options.OfServer);
        Belongs(parsed, isServer, "a server: --export writes the demo's own", _saes, _site, _siteOut);
    }

    protected override int Run(ParseResult parsed)
    {
        string? export = parsed.GetValue(_export);
        string[] urls = export is null ? _options.UrlsOf(parsed) : ["http://127.0.0.1:0"];
        using var bench = Workbench.Open(parsed, this);
        ModelFiles files = bench.Files;
        if (export is not null && !files.IsDemo)
            throw new UsageException("--export is for the demo model: the exercises are about its features.");
        if (export is not null && !RecordedCopy.MayReplace(export))
        {
            throw new WorkException(
                $"{Printable.Escape(export)} holds other files; --export writes into a new folder, or one that it wrote.");
        }

        // Before anything is read: whether it may be written.
        using FolderInProgress? target = export is null ? null : FolderInProgress.Create(export, RecordedCopy.MayReplace);
        _ = files.RequiredTokenizer;
        string modelId = LabelOption.ModelId(files);
        FeatureLabels labels = LabelOption.Read(parsed.GetValue(_labels), files, Streams, Cancellation);
        KernelScopeWebOptions web = export is null ? _options.WebOptionsOf(parsed, modelId)
            : new KernelScopeWebOptions { ModelId = modelId };
        web.Labels = labels;
        if ((parsed.GetValue(_textFile) ?? (files.IsDemo ? Demo.ModelName : null)) is string corpus)
        {
            web.Corpus = EvalTokens.Read(corpus, null, null, null, files, out _);
            web.CorpusName = InputFile.NameOf(corpus);
        }

        List<(string Id, SaeFiles Files)> saes = [.. Names(parsed, files).Select(n => Open(parsed, n, bench))];
        if (saes.GroupBy(s => s.Id, StringComparer.OrdinalIgnoreCase).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new UsageException($"two SAEs have the source id {twice.Key}; give one another: --sae PATH=ID.");
        foreach (string folder in parsed.GetValue(_dashboards) ?? [])
        {
            RequireOwn(folder, saes);
            web.Dashboards.Add(folder);
        }

        return Serve(parsed, urls, bench, saes, web, target);
    }

    /// <summary>Names and shapes are looked at by the server; whether it is the very SAE, here.</summary>
    private static void RequireOwn(string folder, List<(string Id, SaeFiles Files)> saes)
    {
        using var dashboard = DashboardFolder.Open(folder);
        foreach ((string id, SaeFiles files) in saes)
        {
            bool isNamed = string.Equals(id, dashboard.Info.Source, StringComparison.OrdinalIgnoreCase);
            if (isNamed && RunIdentity.Of(files.Checkpoint) != dashboard.Info.SaeSha256)
            {
                throw new WorkException(
                    $"{Printable.Escape(folder)}: its pages are of another SAE than {files.Name}, which has the same id ({id}).");
            }
        }
    }

    private int Serve(
        ParseResult parsed, string[] urls, Workbench bench, List<(string Id, SaeFiles Files)> saes, KernelScopeWebOptions web,
        FolderInProgress? target)
    {
        ModelFiles files = bench.Files;
        int context = Math.Min(_options.ContextOf(parsed), files.Config.ContextLength), batch = _options.BatchOf(parsed);
        // The engine disposes it, and what is handed over to it.
        Device device = Common.OpenDevice(
            parsed, Streams, bench.DeviceName, bench.Precision, bench.SaePrecision, bench.Threads, bench.Weights,
            ("SAEs", saes.Sum(s => s.Files.Bytes + s.Files.PackedBytes)),
            ("contexts", batch * bench.ContextBytes(context)));
        var options = new EngineOptions
        {
            Checkpoint = files.HandOver,
            Tokenizer = () => files.RequiredTokenizer,
            Device = () => device,
            ContextLength = context,
            CacheType = Common.KvOf(parsed),
            MaxRunning = batch,
            MaxWaiting = _options.QueueOf(parsed),
        };
        foreach ((string id, SaeFiles sae) in saes)
        {
            options.Saes.Add(new SaeSource
            {
                Name = id,
                Checkpoint = sae.HandOver,
                Site = sae.Site,
                SiteOut = sae.HasSiteOut ? sae.SiteOut : null,
            });
        }

        return ServeAsync(parsed, urls, options, web, [.. saes.Select(s => s.Id)], target).GetAwaiter().GetResult();
    }

    private async Task<int> ServeAsync(
        ParseResult parsed, string[] urls, EngineOptions options, KernelScopeWebOptions web, string[] sources, FolderInProgress? target)
    {
        await using KernelScopeEngine engine = await OpenAsync(options);
        await using KernelScopeServer server = await StartAsync(engine, urls, web, log: target is null);
        if (target is not null)
            return await ExportAsync(parsed, server, target, web, sources);
        string addresses = string.Join(", ", server.Addresses);
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, new ServeResult(server.Addresses, web.ModelId!, sources, web.Labels?.All.Count ?? 0,
                [.. web.Dashboards]));
        Failure.WriteLine(Streams.Error, $"{web.ModelId} with {sources.Length} sources at {addresses}; Ctrl+C ends it.");
        if (urls.Any(u => !KernelScopeServer.IsLoopback(new Uri(u))) && web.AllowedHosts.Count == 0)
            Failure.WriteLine(Streams.Error, "requests from other machines are refused until --allowed-host says by which name they ask.");
        await Task.Delay(Timeout.Infinite, Cancellation).ContinueWith(_ => { }, TaskScheduler.Default);
        Failure.WriteLine(Streams.Error, "ending; requests that run have five seconds.");
        await server.StopAsync();
        return ExitCode.Done;
    }

    private async Task<int> ExportAsync(
        ParseResult parsed, KernelScopeServer server, FolderInProgress target, KernelScopeWebOptions web, string[] sources)
    {
        string folder = parsed.GetRequiredValue(_export)!;
        using var copy = new RecordedCopy(new Uri(server.Addresses[0]), web.ModelId!, sources[0]);
        int features;
        using (var progress = new Progress(Streams, "Writing pages"))
            features = await copy.WriteAsync(target.Path, web.Labels!, progress, Cancellation);
        target.Commit();
        Failure.WriteLine(Streams.Error, $"wrote {Printable.Escape(folder)}: open index.html in it.");
        if (Common.JsonOf(parsed))
            JsonOutput.Write(Streams, new ServeExportResult(folder, web.ModelId!, sources[0], features));
        return ExitCode.Done;
    }

    private async Task<KernelScopeEngine> OpenAsync(EngineOptions options)
    {
        using var progress = new Progress(Streams, "Loading");
        return await KernelScopeEngine.OpenAsync(options, progress, Cancellation);
    }

    private async Task<KernelScopeServer> StartAsync(KernelScopeEngine engine, string[] urls, KernelScopeWebOptions web, bool log)
    {
        var gate = new Lock();
        try
        {
            return await KernelScopeServer.StartAsync(engine, web, urls, log ? Log : null, Cancellation);
        }
        catch (IOException e)
        {
            throw new WorkException($"{e.Message.TrimEnd('.')}; --urls names other addresses.");
        }
        catch (SocketException e)
        {
            throw new WorkException($"{string.Join(", ", urls)}: {e.Message.TrimEnd('.')}; --urls names other addresses.");
        }

        void Log(string line)
        {
            lock (gate)
                Streams.Error.WriteLine(Printable.OneLine(line));
        }
    }

    private IEnumerable<string> Names(ParseResult parsed, ModelFiles files)
    {
        if (parsed.GetValue(_saes) is { Length: > 0 } given)
            return given;
        return files.IsDemo ? Demo.SaeNames.OrderBy(n => n != Demo.DefaultSae)
            : throw new UsageException("an SAE is missing: --sae PATH (only the demo model has some by default).");
    }

    private (string Id, SaeFiles Files) Open(ParseResult parsed, string name, Workbench bench)
    {
        int equals = name.LastIndexOf('=');
        string? id = equals > 0 && IsId(name.AsSpan(equals + 1)) ? name[(equals + 1)..] : null;
        SaeFiles files = bench.Add(SaeFiles.Open(id is null ? name : name[..equals], bench.Files.IntoMemory));
        bool isSaid = files.Config.Site is not null;
        files.Place(bench.Files, isSaid ? null : PointOf(parsed, _site), isSaid ? null : PointOf(parsed, _siteOut));
        return (id ?? SourceName.Of(files), files);
    }

    private static HookPoint? PointOf(ParseResult parsed, Option<string?> option) =>
        parsed.GetValue(option) is string text ? Parsing.Point(text, option.Name) : null;

    /// <summary>A layer, a dash, a name.</summary>
    private static bool IsId(ReadOnlySpan<char> text)
    {
        int dash = text.IndexOf('-');
        return dash > 0 && text[..dash].IndexOfAnyExceptInRange('0', '9') < 0 && dash + 1 < text.Length && text.IndexOfAny('/', '\\') < 0;
    }
}

using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Cpu;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Runtime;

namespace KernelScope.Web.Tests;

/// <summary>A server of the demo on a free port, asked over a real socket.</summary>
public sealed class DemoServer : IAsyncLifetime
{
    public const string Source = "3-demo-res-2k__l0-19", Transcoder = "3-demo-transcoder-1k__l0-20", Dense = "3-demo-res-2k__l0-57";
    public const string Attention = "3-demo-att-1k__l0-42";

    /// <summary>The attention SAE at a layer whose attention reaches 64 tokens back.</summary>
    public const string Windowed = "2-demo-window-1k";
    public const string Text = "More than anything she wished for a golden ring, and said, Thou shalt find it.";

    private KernelScopeServer? _server;

    internal KernelScopeEngine Engine { get; private set; } = null!;

    /// <summary>Another server's engine, to serve it in another way; null: one of its own.</summary>
    internal KernelScopeEngine? Shared { get; init; }

    public HttpClient Client { get; private set; } = null!;

    public Uri Url { get; private set; } = null!;

    /// <summary>Lines of the server's log.</summary>
    public List<string> Log { get; } = [];

    internal bool HasCorpus { get; init; } = true;

    internal Action<EngineOptions> Change { get; init; } = _ => { };

    internal KernelScopeWebOptions Options { get; init; } = new() { ModelId = "demo", MaxPromptTokens = 256, MaxNewTokens = 64 };

    public async Task InitializeAsync()
    {
        Engine = Shared ?? await OpenAsync();
        if (HasCorpus)
        {
            (Options.Corpus, Options.CorpusName) = (DemoCorpus(), "demo");
        }

        Options.Labels ??= FeatureLabels.Create(Demo.Meanings("res.3.2k.l0_19")
            .Select(m => new FeatureLabel { ModelId = "demo", Source = Source, Index = m.Key, Description = m.Value }));
        _server = await KernelScopeServer.StartAsync(
            Engine, Options, ["http://127.0.0.1:0"], line => { lock (Log) Log.Add(line); }, default);
        Url = new Uri(_server.Addresses[0]);
        Client = new HttpClient { BaseAddress = Url, Timeout = TimeSpan.FromMinutes(2) };
    }

    private async Task<KernelScopeEngine> OpenAsync()
    {
        var options = new EngineOptions
        {
            Checkpoint = Demo.OpenCheckpoint,
            Tokenizer = Demo.OpenTokenizer,
            Device = () => new CpuDevice(2),
            MaxRunning = 8,
            MaxWaiting = 16,
        };
        options.Saes.Add(new SaeSource { Name = Source, Checkpoint = () => Demo.OpenSae("res.3.2k.l0_19") });
        options.Saes.Add(new SaeSource { Name = Dense, Checkpoint = () => Demo.OpenSae("res.3.2k.l0_57") });
        options.Saes.Add(new SaeSource { Name = Transcoder, Checkpoint = () => Demo.OpenSae("transcoder.3.1k.l0_20") });
        options.Saes.Add(new SaeSource { Name = Attention, Checkpoint = () => Demo.OpenSae("att.3.1k.l0_42") });
        options.Saes.Add(new SaeSource
        {
            Name = Windowed,
            Checkpoint = () => Demo.OpenSae("att.3.1k.l0_42"),
            Site = new HookPoint(Site.Z, 2),
            SiteOut = new HookPoint(Site.Z, 2),
        });
        Change(options);
        return await KernelScopeEngine.OpenAsync(options);
    }

    public async Task DisposeAsync()
    {
        Client.Dispose();
        await _server!.StopAsync();
        await _server.DisposeAsync();
        if (Shared is null)
            await Engine.DisposeAsync();
    }

    /// <summary>The demo's text in windows, as the command line cuts it.</summary>
    internal static TokenSet DemoCorpus()
    {
        using KernelScope.Model.Gemma2Checkpoint checkpoint = Demo.OpenCheckpoint();
        return TokenSet.Create(TokenFiles.ReadText(Demo.Corpus.ToArray(), "demo", Demo.OpenTokenizer(), 128, checkpoint.Config),
            checkpoint.Config);
    }

    internal async Task<JsonNode> PostAsync(string path, JsonNode body, int status = 200)
    {
        using HttpResponseMessage response = await SendAsync(path, body.ToJsonString());
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(status == (int)response.StatusCode, $"{path} gave {(int)response.StatusCode}: {text}");
        return JsonNode.Parse(text)!;
    }

    internal Task<HttpResponseMessage> SendAsync(string path, string body, Action<HttpRequestMessage>? change = null) =>
        SendAsync(path, Encoding.UTF8.GetBytes(body), change);

    internal Task<HttpResponseMessage> SendAsync(string path, byte[] body, Action<HttpRequestMessage>? change = null)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new ByteArrayContent(body) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        change?.Invoke(request);
        return Client.SendAsync(request);
    }

    /// <summary>The data of each event of a stream, and its bytes as they came.</summary>
    internal async Task<(List<string> Frames, string Raw)> StreamAsync(string path, JsonNode body)
    {
        using HttpResponseMessage response = await SendAsync(path, body.ToJsonString());
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.ToString());
        string raw = await response.Content.ReadAsStringAsync();
        return ([.. raw.Split("\n\n").Where(f => f.StartsWith("data: ", StringComparison.Ordinal)).Select(f => f["data: ".Length..])], raw);
    }
}

[CollectionDefinition(nameof(DemoServer))]
public sealed class DemoServerGroup : ICollectionFixture<DemoServer>;

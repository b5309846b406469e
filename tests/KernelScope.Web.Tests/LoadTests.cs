using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Generation;
using KernelScope.Runtime;
using Xunit.Abstractions;

namespace KernelScope.Web.Tests;

/// <summary>A crowd for a while: right answers or 429, and nothing that stays behind.</summary>
public sealed class LoadTests(ITestOutputHelper output)
{
    // The server takes 256 connections.
    private const int Clients = 64, Connections = 200;
    private const long MayGrow = 16L << 20;
    private const string Golden = """{"model":"demo","prompt":"There was once a","max_tokens":16,"temperature":0,"logprobs":2}""";

    /// <summary>Calls whose answer never changes.</summary>
    private static readonly (string Path, string? Body)[] Calls =
    [
        ("/health", null),
        ("/", null),
        ($"/demo/{DemoServer.Source}/1738", null),
        ("/v1/capabilities", null),
        ("/api/source-set/demo/demo-res-2k", null),
        ("/v1/tokenize", """{"model":"demo","text":"She loved the river."}"""),
        ("/api/explanation/search", """{"modelId":"demo","layers":[],"query":"girl"}"""),
        ("/v1/util/sae-vector", $$"""{"model":"demo","source":"{{DemoServer.Source}}","index":69}"""),
        ("/v1/activation/topk-by-token",
            $$"""{"model":"demo","prompt":"{{DemoServer.Text}}","source":"{{DemoServer.Source}}","ignoreBos":true}"""),
        ("/v1/activation/single",
            $$"""{"model":"demo","prompt":"{{DemoServer.Text}}","source":"{{DemoServer.Source}}","index":"1738"}"""),
        ("/v1/activation/all",
            """{"model":"demo","prompt":"She","sourceSet":"demo-res-2k","selectedSources":[],"sortByTokenIndexes":[],"ignoreBos":true}"""),
        ("/v1/completions", """{"model":"demo","prompt":"Once upon a time","max_tokens":6,"temperature":0}"""),
        ("/v1/steer/completion", InferenceTests.Steer()),
    ];

    [Fact]
    public Task A_crowd_of_a_few_seconds_leaves_the_server_as_it_was() => CrowdAsync(TimeSpan.FromSeconds(2));

    [Fact]
    [Trait("Category", "Slow")]
    public Task A_crowd_of_a_minute_leaves_the_server_as_it_was() => CrowdAsync(TimeSpan.FromMinutes(1));

    /// <summary>A queue of 16 behind a reader who keeps the only place: 16 wait and are answered, 984 are told to come again.</summary>
    [Fact]
    public async Task A_thousand_at_once_are_queued_or_refused()
    {
        const int Asked = 1000, Queue = 16;
        var server = new DemoServer
        {
            Change = o => (o.MaxRunning, o.MaxWaiting, o.BufferedTokens, o.ReaderTimeout) = (1, Queue, 1, Timeout.InfiniteTimeSpan),
            Options = new KernelScopeWebOptions { ModelId = "demo", MaxNewTokens = 400 },
            HasCorpus = false,
        };
        await server.InitializeAsync();
        try
        {
            string expected = Answer(await server.PostAsync("/v1/completions", JsonNode.Parse(Golden)!));
            var busy = new GenerationRequest { Prompt = "There was once a", Options = new GenerationOptions { MaxNewTokens = 400 } };
            IAsyncEnumerator<GeneratedToken> reader = server.Engine.GenerateAsync(busy).GetAsyncEnumerator();
            Assert.True(await reader.MoveNextAsync());
            using HttpClient client = ClientOf(server);
            int refused = 0;
            Task<(int Status, string Text)>[] asked = [.. Enumerable.Range(0, Asked).Select(async _ =>
            {
                using HttpResponseMessage response = await PostAsync(client, "/v1/completions", Golden, default);
                string text = await response.Content.ReadAsStringAsync();
                if (response.StatusCode == HttpStatusCode.TooManyRequests)
                {
                    RequireRetry(response, text);
                    Interlocked.Increment(ref refused);
                }

                return ((int)response.StatusCode, text);
            })];
            for (int n = 0; n < 6000 && Volatile.Read(ref refused) < Asked - Queue; n++)
                await Task.Delay(10);
            Assert.Equal((Asked - Queue, Queue), (Volatile.Read(ref refused), server.Engine.Waiting));
            await reader.DisposeAsync();
            (int Status, string Text)[] answers = await Task.WhenAll(asked);
            (int Status, string Text)[] served = [.. answers.Where(a => a.Status != 429)];
            Assert.Equal(Queue, served.Length);
            Assert.All(served, a => Assert.Equal((200, expected), (a.Status, Answer(JsonNode.Parse(a.Text)!))));
        }
        finally
        {
            await server.DisposeAsync();
        }
    }

    private async Task CrowdAsync(TimeSpan time)
    {
        // Of its own, so that what other tests leave in memory does not count.
        var server = new DemoServer { HasCorpus = false };
        await server.InitializeAsync();
        try
        {
            string golden = Answer(await server.PostAsync("/v1/completions", JsonNode.Parse(Golden)!));
            var crowd = new Crowd(server);
            await crowd.LearnAsync();
            // Pools of buffers, connections and sessions fill up first.
            await crowd.RunAsync(TimeSpan.FromSeconds(1));
            long before = await RestAsync(server);
            crowd.Forget();
            await crowd.RunAsync(time);
            long after = await RestAsync(server);
            output.WriteLine(
                $"{time.TotalSeconds:0} s: {crowd.Right} right, {crowd.Refused} told to wait, {crowd.Left} left; managed memory " +
                $"{before >> 10} KiB before, {after >> 10} KiB after; process {Environment.WorkingSet >> 20} MiB; median of the " +
                $"microscope {Median(crowd.Microscope):0} ms");
            Assert.Empty(crowd.Faults);
            Assert.True(crowd.Right > Clients && crowd.Left > 0, "the crowd did too little");
            Assert.True(after - before < MayGrow, $"managed memory grew from {before} to {after} bytes");
            Assert.Equal(golden, Answer(await server.PostAsync("/v1/completions", JsonNode.Parse(Golden)!)));
        }
        finally
        {
            await server.DisposeAsync();
        }
    }

    private static double Median(IEnumerable<double> milliseconds) =>
        milliseconds.Order().ToArray() is { Length: > 0 } sorted ? sorted[sorted.Length / 2] : double.NaN;

    /// <summary>Managed memory when all work has ended.</summary>
    private static async Task<long> RestAsync(DemoServer server)
    {
        for (int n = 0; n < 3000 && (server.Engine.Running > 0 || server.Engine.Waiting > 0); n++)
            await Task.Delay(10);
        Assert.Equal((0, 0), (server.Engine.Running, server.Engine.Waiting));
        lock (server.Log)
            server.Log.Clear();
        return GC.GetTotalMemory(forceFullCollection: true);
    }

    private static HttpClient ClientOf(DemoServer server) =>
        new(new SocketsHttpHandler { MaxConnectionsPerServer = Connections })
        {
            BaseAddress = server.Url,
            Timeout = TimeSpan.FromMinutes(2),
        };

    private static Task<HttpResponseMessage> PostAsync(HttpClient client, string path, string body, CancellationToken cancellation) =>
        client.SendAsync(
            new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(body, Encoding.UTF8, "application/json") },
            HttpCompletionOption.ResponseHeadersRead, cancellation);

    private static void RequireRetry(HttpResponseMessage response, string text)
    {
        Assert.Equal("1", response.Headers.GetValues("Retry-After").Single());
        Assert.NotNull(JsonNode.Parse(text)!["error"]);
    }

    /// <summary>What of a completion does not tell when it was made.</summary>
    private static string Answer(JsonNode completion) => completion["choices"]!.ToJsonString() + completion["usage"]!.ToJsonString();

    /// <summary>Clients that ask for anything, one call after the other; one call in eight leaves in the middle.</summary>
    private sealed class Crowd(DemoServer server)
    {
        private readonly string[] _expected = new string[Calls.Length];
        private readonly List<string> _faults = [];
        private int _right;
        private int _refused;
        private int _left;

        public int Right => _right;

        public int Refused => _refused;

        public int Left => _left;

        public IReadOnlyList<string> Faults => _faults;

        /// <summary>How long its answers took, in ms, those not counted that were refused.</summary>
        public ConcurrentBag<double> Microscope { get; } = [];

        public void Forget()
        {
            (_right, _refused, _left) = (0, 0, 0);
            Microscope.Clear();
        }

        public async Task LearnAsync()
        {
            for (int i = 0; i < Calls.Length; i++)
            {
                using HttpResponseMessage response = await SendAsync(server.Client, Calls[i]);
                _expected[i] = Stable(Calls[i].Path, await response.EnsureSuccessStatusCode().Content.ReadAsStringAsync());
            }
        }

        public async Task RunAsync(TimeSpan time)
        {
            using HttpClient client = ClientOf(server);
            using var end = new CancellationTokenSource(time);
            await Task.WhenAll(Enumerable.Range(0, Clients).Select(n => Task.Run(() => ActAsync(client, new Random(n), end.Token))));
        }

        private async Task ActAsync(HttpClient client, Random random, CancellationToken end)
        {
            while (!end.IsCancellationRequested)
            {
                try
                {
                    if (random.Next(8) == 0)
                        await LeaveAsync(client, random);
                    else
                        await AskAsync(client, random.Next(Calls.Length));
                }
                catch (Exception e)
                {
                    Add(e.ToString());
                }
            }
        }

        private async Task AskAsync(HttpClient client, int which)
        {
            long started = Stopwatch.GetTimestamp();
            using HttpResponseMessage response = await SendAsync(client, Calls[which]);
            string text = await response.Content.ReadAsStringAsync();
            if (response.StatusCode == HttpStatusCode.TooManyRequests)
            {
                RequireRetry(response, text);
                Interlocked.Increment(ref _refused);
            }
            else if (response.StatusCode == HttpStatusCode.OK && Stable(Calls[which].Path, text) == _expected[which])
            {
                Interlocked.Increment(ref _right);
                if (Calls[which].Path.EndsWith("topk-by-token", StringComparison.Ordinal))
                    Microscope.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
            }
            else
                Add($"{Calls[which].Path}: {(int)response.StatusCode} {text}");
        }

        /// <summary>Leaves before the answer, or in the middle of a stream.</summary>
        private async Task LeaveAsync(HttpClient client, Random random)
        {
            const string Long = """{"model":"demo","prompt":"There was once a","max_tokens":64,"temperature":1,"stream":true}""";
            using var leave = new CancellationTokenSource(random.Next(1, 60));
            try
            {
                using HttpResponseMessage response = await PostAsync(client, "/v1/completions", Long, leave.Token);
                if (response.StatusCode is not (HttpStatusCode.OK or HttpStatusCode.TooManyRequests))
                    Add($"a stream: {(int)response.StatusCode}");
                await using Stream stream = await response.Content.ReadAsStreamAsync(leave.Token);
                await stream.ReadAtLeastAsync(new byte[16], 16, throwOnEndOfStream: false, leave.Token);
            }
            catch (OperationCanceledException)
            {
            }

            Interlocked.Increment(ref _left);
        }

        private void Add(string fault)
        {
            lock (_faults)
                _faults.Add(fault);
        }

        private static Task<HttpResponseMessage> SendAsync(HttpClient client, (string Path, string? Body) call) =>
            call.Body is null ? client.GetAsync(new Uri(call.Path, UriKind.Relative)) : PostAsync(client, call.Path, call.Body, default);

        private static string Stable(string path, string text) =>
            path == "/v1/completions" ? Answer(JsonNode.Parse(text)!) : text;
    }
}

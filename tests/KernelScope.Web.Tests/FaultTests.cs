using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using KernelScope.Generation;
using KernelScope.Runtime;

namespace KernelScope.Web.Tests;

/// <summary>Bad bodies, clients that leave, clients that crowd.</summary>
[Collection(nameof(DemoServer))]
public sealed class FaultTests(DemoServer server)
{
    private static readonly string[] Paths =
        ["/v1/tokenize", "/v1/activation/all", "/v1/steer/completion", "/api/search-all", "/api/steer", "/v1/chat/completions"];

    [Fact]
    public async Task Random_bodies_get_json_and_leave_the_server_as_it_was()
    {
        const string Golden = """{"model":"demo","prompt":"There was once a","max_tokens":8,"temperature":0}""";
        JsonNode before = await server.PostAsync("/v1/completions", JsonNode.Parse(Golden)!);
        var random = new Random(20261130);
        for (int i = 0; i < 500; i++)
        {
            string path = Paths[random.Next(Paths.Length)];
            using HttpResponseMessage response = await server.SendAsync(path, RandomBody(random, i));
            string text = await response.Content.ReadAsStringAsync();
            Assert.True((int)response.StatusCode is 200 or 400 or 404 or 413 or 422,
                $"request {i} to {path}: {(int)response.StatusCode} {text}");
            if (response.Content.Headers.ContentType?.MediaType != "text/event-stream")
                Assert.NotNull(JsonNode.Parse(text));
        }

        JsonNode after = await server.PostAsync("/v1/completions", JsonNode.Parse(Golden)!);
        Assert.Equal(before["choices"]!.ToJsonString(), after["choices"]!.ToJsonString());
        Assert.Equal(0, server.Engine.Running);
    }

    [Fact]
    public async Task A_large_body_is_refused()
    {
        using HttpResponseMessage response =
            await server.SendAsync("/v1/tokenize", $$"""{"model":"demo","text":"{{new string('a', 10 << 20)}}"}""");
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, response.StatusCode);
        Assert.NotNull(JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]);
    }

    [Theory]
    [InlineData("/v1/tokenize", """{"model":"demo","text":"a","\ud800 is half of a pair":1}""")]
    [InlineData("/api/vector/get", """{"modelId":"demo","source":"3-demo-res-2k__l0-19","index":1,"\udc00 is the other half":1}""")]
    [InlineData("/v1/chat/completions", """{"messages":[{"role":"user","content":"a","\ud800\ud800":"a"}]}""")]
    public async Task A_name_with_half_of_a_surrogate_pair_is_refused(string path, string body)
    {
        using HttpResponseMessage response = await server.SendAsync(path, body);
        string text = await response.Content.ReadAsStringAsync();
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Contains("surrogate", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_byte_order_mark_is_skipped()
    {
        using HttpResponseMessage response = await server.SendAsync("/v1/tokenize", "\uFEFF" + """{"model":"demo","text":"a"}""");
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    [Theory]
    [InlineData("/v1/completions", """{"model":"demo","prompt":"a","max_tokens":1,"presence_penalty":1e9999999999}""",
        "presence_penalty is not supported")]
    [InlineData("/api/explanation/search", """{"modelId":"demo","query":"king","layers":[LAYERS]}""", "layers has 1000 entries")]
    public async Task What_is_too_large_is_named(string path, string body, string words)
    {
        string layers = string.Join(',', Enumerable.Repeat("\"3-demo-res-2k__l0-19\"", 1000));
        using HttpResponseMessage response = await server.SendAsync(path, body.Replace("LAYERS", layers, StringComparison.Ordinal));
        string text = await response.Content.ReadAsStringAsync();
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Contains(words, text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_body_that_is_not_json_is_refused()
    {
        using HttpResponseMessage response =
            await server.SendAsync("/v1/tokenize", "text", r => r.Content!.Headers.ContentType = new("text/plain"));
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, response.StatusCode);
    }

    [Fact]
    public async Task Many_clients_get_right_answers_or_are_told_to_wait()
    {
        const int Clients = 64, Each = 2;
        string[] prompts = [.. Enumerable.Range(0, 8).Select(i => string.Join(' ', Enumerable.Repeat("She loved the river.", i + 1)))];
        string[] expected = [.. await Task.WhenAll(prompts.Select(async p => (await AskAsync(p)).Text))];
        int refused = 0, wrong = 0;
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(async client =>
        {
            for (int n = 0; n < Each; n++)
            {
                int which = (client + n) % prompts.Length;
                (int status, string text) = await AskAsync(prompts[which]);
                if (status == 429)
                    Interlocked.Increment(ref refused);
                else if (status != 200 || text != expected[which])
                    Interlocked.Increment(ref wrong);
            }
        }));
        Assert.Equal(0, wrong);
        Assert.InRange(refused, 0, Clients * Each - 8);
    }

    [Fact]
    public async Task A_full_queue_refuses_with_429_and_keeps_the_others()
    {
        var own = new DemoServer
        {
            Change = o => (o.MaxRunning, o.MaxWaiting, o.BufferedTokens) = (1, 16, 1),
            Options = new KernelScopeWebOptions { ModelId = "demo", MaxNewTokens = 400 },
            HasCorpus = false,
        };
        await own.InitializeAsync();
        try
        {
            // A reader who stops after one token keeps the only place until it leaves, however fast the machine is.
            var request = new GenerationRequest { Prompt = "There was once a", Options = new GenerationOptions { MaxNewTokens = 400 } };
            IAsyncEnumerator<GeneratedToken> busy = own.Engine.GenerateAsync(request).GetAsyncEnumerator();
            Assert.True(await busy.MoveNextAsync());
            Task<HttpResponseMessage>[] waiting = new Task<HttpResponseMessage>[17];
            for (int i = 0; i < waiting.Length; i++)
            {
                waiting[i] = own.SendAsync("/v1/completions", """{"prompt":"There was once a","max_tokens":4,"temperature":0}""");
                await UntilAsync(() => own.Engine.Waiting >= Math.Min(i + 1, 16));
            }

            HttpResponseMessage refused = await waiting[16];
            Assert.Equal(HttpStatusCode.TooManyRequests, refused.StatusCode);
            Assert.Equal("1", refused.Headers.GetValues("Retry-After").Single());
            await busy.DisposeAsync();
            HttpResponseMessage[] answered = await Task.WhenAll(waiting[..16]);
            Assert.All(answered, a => Assert.Equal(HttpStatusCode.OK, a.StatusCode));
        }
        finally
        {
            await own.DisposeAsync();
        }
    }

    /// <summary>So that what lies between does not take a connection for dead.</summary>
    [Fact]
    [Trait("Category", "Slow")]
    public async Task A_stream_that_waits_in_the_queue_gets_a_comment_every_15_seconds()
    {
        var own = new DemoServer
        {
            Change = o => (o.MaxRunning, o.BufferedTokens, o.ReaderTimeout) = (1, 1, Timeout.InfiniteTimeSpan),
            Options = new KernelScopeWebOptions { ModelId = "demo", MaxNewTokens = 400 },
            HasCorpus = false,
        };
        await own.InitializeAsync();
        try
        {
            var request = new GenerationRequest { Prompt = "There was once a", Options = new GenerationOptions { MaxNewTokens = 400 } };
            IAsyncEnumerator<GeneratedToken> busy = own.Engine.GenerateAsync(request).GetAsyncEnumerator();
            Assert.True(await busy.MoveNextAsync());
            using HttpResponseMessage response = await StartStreamAsync(own, 2);
            await using Stream stream = await response.Content.ReadAsStreamAsync();
            byte[] start = new byte[6];
            await stream.ReadExactlyAsync(start);
            Assert.Equal(":\n\n:\n\n", Encoding.ASCII.GetString(start));
            await busy.DisposeAsync();
            using var rest = new StreamReader(stream);
            Assert.Matches("^(:\n\n)*data: \\{", await rest.ReadToEndAsync());
        }
        finally
        {
            await own.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_client_that_leaves_frees_its_place()
    {
        for (int i = 0; i < 8; i++)
            (await StartStreamAsync(server, 64)).Dispose();
        await UntilAsync(() => server.Engine.Running == 0);
    }

    /// <summary>A reader who reads nothing holds only itself up.</summary>
    [Fact]
    public async Task A_slow_reader_does_not_hold_others_up()
    {
        using HttpResponseMessage slow = await StartStreamAsync(server, 64);
        JsonNode answer =
            await server.PostAsync("/v1/completions", JsonNode.Parse("""{"prompt":"There was once a","max_tokens":4,"temperature":0}""")!);
        Assert.Equal(4, (int)answer["usage"]!["completion_tokens"]!);
    }

    [Fact]
    public async Task Half_a_request_does_no_harm()
    {
        using (var socket = new TcpClient())
        {
            await socket.ConnectAsync(server.Url.Host, server.Url.Port);
            byte[] half =
                Encoding.ASCII.GetBytes(
                    $"POST /v1/tokenize HTTP/1.1\r\nHost: {server.Url.Authority}\r\nContent-Type: application/json\r\nContent-Length: "
                        + $"100\r\n\r\n{{\"mod");
            await socket.GetStream().WriteAsync(half);
        }

        await server.PostAsync("/v1/tokenize", JsonNode.Parse("""{"model":"demo","text":"a"}""")!);
    }

    private static async Task<HttpResponseMessage> StartStreamAsync(DemoServer on, int tokens)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions")
        {
            Content = new StringContent(
                $$"""{"prompt":"There was once a","max_tokens":{{tokens}},"temperature":1,"seed":3,"stream":true}""", Encoding.UTF8,
                "application/json"),
        };
        HttpResponseMessage response = await on.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        response.EnsureSuccessStatusCode();
        return response;
    }

    private async Task<(int Status, string Text)> AskAsync(string prompt)
    {
        using HttpResponseMessage response =
            await server.SendAsync("/v1/activation/topk-by-token",
                $$"""{"model":"demo","prompt":"{{prompt}}","source":"{{DemoServer.Source}}","ignoreBos":true}""");
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync());
    }

    private static byte[] RandomBody(Random random, int number)
    {
        string valid =
            """{"model":"demo","modelId":"demo","text":"She wished","prompt":"She wished","sourceSet":"demo-res-2k","selectedSources":[],"sortByTokenIndexes":[],"ignoreBos":true,"messages":[{"role":"user","content":"a"}],"max_tokens":2}""";
        switch (number % 10)
        {
            case 0:
                return Encoding.UTF8.GetBytes(valid);
            case 1:
                return Encoding.UTF8.GetBytes(valid[..random.Next(valid.Length)]);
            case 2:
                byte[] noise = new byte[random.Next(200)];
                random.NextBytes(noise);
                return noise;
            case 3:
                return Encoding.UTF8.GetBytes(new string('[', random.Next(1, 2000)));
            case 4:
                return Encoding.UTF8.GetBytes(valid.Replace("\"She wished\"", "NaN", StringComparison.Ordinal));
            case 5:
                return Encoding.UTF8.GetBytes(valid.Replace("She wished", "\\ud800", StringComparison.Ordinal));
            case 6:
                return [.. Encoding.UTF8.GetBytes(valid)[..30], 0xff, 0xfe, .. Encoding.UTF8.GetBytes(valid)[30..]];
            case 7:
                return Encoding.UTF8.GetBytes(valid.Replace("[]", "1e999", StringComparison.Ordinal));
            case 8:
                return Encoding.UTF8.GetBytes(
                    valid.Replace("true", $"[{string.Join(',', Enumerable.Repeat("0.5", random.Next(1, 100_000)))}]",
                        StringComparison.Ordinal));
            default:
                byte[] changed = Encoding.UTF8.GetBytes(valid);
                for (int i = 0; i < 5; i++)
                    changed[random.Next(changed.Length)] = (byte)random.Next(32, 127);
                return changed;
        }
    }

    private static async Task UntilAsync(Func<bool> holds)
    {
        for (int n = 0; n < 3000 && !holds(); n++)
            await Task.Delay(10);
        Assert.True(holds());
    }
}

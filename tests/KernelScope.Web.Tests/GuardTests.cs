using System.Net;
using System.Text.Json.Nodes;

namespace KernelScope.Web.Tests;

/// <summary>Who may ask.</summary>
[Collection(nameof(DemoServer))]
public sealed class GuardTests(DemoServer server)
{
    private const string Body = """{"model":"demo","text":"Hello"}""";

    [Fact]
    public async Task A_body_with_a_name_twice_is_refused()
    {
        using HttpResponseMessage response = await server.SendAsync("/v1/tokenize", """{"model":"demo","text":"a","text":"b"}""");
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
        Assert.Contains("has a name twice", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Another_host_is_refused()
    {
        using HttpResponseMessage response = await server.SendAsync("/v1/tokenize", Body, r => r.Headers.Host = "evil.example");
        Assert.Equal(421, (int)response.StatusCode);
        Assert.NotNull(JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]);
    }

    [Fact]
    public async Task Another_port_is_refused()
    {
        using HttpResponseMessage response = await server.SendAsync("/v1/tokenize", Body, r => r.Headers.Host = "127.0.0.1:1");
        Assert.Equal(421, (int)response.StatusCode);
    }

    [Fact]
    public async Task A_page_of_another_origin_is_refused()
    {
        using HttpResponseMessage response =
            await server.SendAsync("/v1/tokenize", Body, r => r.Headers.Add("Origin", "http://evil.example"));
        Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
    }

    [Fact]
    public async Task The_secret_is_asked_for_everywhere_but_in_health_and_pages()
    {
        var own = new DemoServer
        {
            Options =
                new KernelScopeWebOptions { ModelId = "demo", Secret = "correct horse", Origins = { "http://localhost:3001" } },
            HasCorpus = false,
            Shared = server.Engine,
        };
        await own.InitializeAsync();
        try
        {
            // What the server asks itself at the start is nobody's request.
            Assert.Empty(own.Log);
            Assert.Equal(HttpStatusCode.OK, (await own.Client.GetAsync("/health")).StatusCode);
            Assert.Equal(HttpStatusCode.OK, (await own.Client.GetAsync("/")).StatusCode);
            Assert.Equal(HttpStatusCode.Unauthorized, (await own.SendAsync("/v1/tokenize", Body)).StatusCode);
            Assert.Equal(HttpStatusCode.Unauthorized, (await own.Client.GetAsync("/metrics")).StatusCode);
            Assert.Equal(HttpStatusCode.Unauthorized,
                (await own.SendAsync("/v1/tokenize", Body, r => r.Headers.Add("X-SECRET-KEY", "correct hors"))).StatusCode);
            Assert.Equal(HttpStatusCode.OK,
                (await own.SendAsync("/v1/tokenize", Body, r => r.Headers.Add("X-SECRET-KEY", "correct horse"))).StatusCode);
            Assert.Equal(HttpStatusCode.OK,
                (await own.SendAsync("/v1/tokenize", Body, r => r.Headers.Add("Authorization", "Bearer correct horse"))).StatusCode);
            using var question = new HttpRequestMessage(HttpMethod.Options, "/v1/tokenize");
            question.Headers.Add("Origin", "http://localhost:3001");
            using HttpResponseMessage preflight = await own.Client.SendAsync(question);
            Assert.Equal("http://localhost:3001", preflight.Headers.GetValues("Access-Control-Allow-Origin").Single());
        }
        finally
        {
            await own.DisposeAsync();
        }
    }

    [Fact]
    public async Task Prompts_are_not_logged()
    {
        const string Rare = "quincunx";
        await server.PostAsync("/v1/tokenize", JsonNode.Parse($$"""{"model":"demo","text":"{{Rare}}"}""")!);
        lock (server.Log)
        {
            Assert.Contains(server.Log, l => l.Contains("/v1/tokenize 200", StringComparison.Ordinal));
            Assert.DoesNotContain(server.Log, l => l.Contains(Rare, StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task Answers_are_compressed_for_those_who_ask()
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/openapi/v1.json");
        request.Headers.Add("Accept-Encoding", "gzip");
        using HttpResponseMessage response = await server.Client.SendAsync(request);
        Assert.Equal("gzip", response.Content.Headers.ContentEncoding.Single());
    }

    [Fact]
    public async Task Metrics_are_prometheus_text()
    {
        await server.PostAsync("/v1/activation/topk-by-token",
            JsonNode.Parse($$"""{"model":"demo","prompt":"She","source":"{{DemoServer.Source}}","ignoreBos":true}""")!);
        string text = await server.Client.GetStringAsync("/metrics");
        Assert.Contains("# TYPE kernelscope_requests_total counter", text);
        Assert.Matches("kernelscope_requests_total\\{kind=\"features\",outcome=\"done\"\\} [1-9]", text);
        Assert.All(text.TrimEnd().Split('\n'), l => Assert.Matches("^(#.*|[a-z_]+(\\{.*\\})? [-+0-9.eE]+)$", l));
    }

    [Theory]
    [InlineData("/", 200)]
    [InlineData("/health", 200)]
    [InlineData("/Demo/3-demo-res-2k__l0-19/2047", 200)]
    [InlineData("/demo/3-demo-res-2k__l0-19/2048", 404)]
    [InlineData("/demo/3-demo-res-2k__l0-19/-1", 404)]
    [InlineData("/demo/9-none/1", 404)]
    [InlineData("/gemma/3-demo-res-2k__l0-19/1", 404)]
    public async Task A_head_request_says_whether_a_page_is_there(string path, int status)
    {
        using var request = new HttpRequestMessage(HttpMethod.Head, path);
        using HttpResponseMessage response = await server.Client.SendAsync(request);
        Assert.Equal((HttpStatusCode)status, response.StatusCode);
        Assert.Empty(await response.Content.ReadAsByteArrayAsync());
        using HttpResponseMessage page = await server.Client.GetAsync(path);
        Assert.Equal((HttpStatusCode)status, page.StatusCode);
    }

    [Fact]
    public async Task Pages_send_a_policy()
    {
        using HttpResponseMessage response = await server.Client.GetAsync("/");
        Assert.Contains("default-src 'self'", response.Headers.GetValues("Content-Security-Policy").Single());
        Assert.Contains("frame-ancestors 'self'", response.Headers.GetValues("Content-Security-Policy").Single());
    }
}

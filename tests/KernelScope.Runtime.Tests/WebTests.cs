using System.Diagnostics;
using System.Runtime.CompilerServices;
using KernelScope.Extensions;
using KernelScope.Generation;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace KernelScope.Runtime.Tests;

/// <summary>A web program as products write it: server-sent events over a real socket.</summary>
public class WebTests
{
    [Fact]
    public async Task Two_streams_at_once_get_what_each_gets_alone()
    {
        await using WebApplication app = await StartAsync();
        using HttpClient client = Client(app);
        string[] alone = [await client.GetStringAsync(Generate("Once upon a time", 24)),
            await client.GetStringAsync(Generate("And the king said", 24))];
        string[] together = await Task.WhenAll(client.GetStringAsync(Generate("Once upon a time", 24)),
            client.GetStringAsync(Generate("And the king said", 24)));
        Assert.Equal(alone, together);
        Assert.Equal(24, alone[0].Split("data: ").Length - 1);
    }

    [Fact]
    public async Task A_client_that_goes_away_ends_its_request()
    {
        using var measured = new Measurements();
        await using WebApplication app = await StartAsync(o => o.MeterFactory = measured);
        using HttpClient client = Client(app);
        KernelScopeEngine engine = app.Services.GetRequiredService<KernelScopeEngine>();
        using (HttpResponseMessage response =
            await client.GetAsync(Generate("Once upon a time", 480), HttpCompletionOption.ResponseHeadersRead))
        {
            await using Stream body = await response.Content.ReadAsStreamAsync();
            Assert.True(await body.ReadAsync(new byte[16]) > 0);
            Assert.Equal(1, engine.Running);
        }

        await engine.IdleAsync();
        Assert.Equal(1, measured["kernelscope.requests outcome=left"]);
        Assert.True(measured["kernelscope.tokens.new"] < 480, "the request ran to its end");
    }

    [Fact]
    public async Task A_stop_ends_streams_at_once()
    {
        await using WebApplication app = await StartAsync();
        using HttpClient client = Client(app);
        using HttpResponseMessage response =
            await client.GetAsync(Generate("Once upon a time", 480), HttpCompletionOption.ResponseHeadersRead);
        await using Stream body = await response.Content.ReadAsStreamAsync();
        Assert.True(await body.ReadAsync(new byte[16]) > 0);
        long started = Stopwatch.GetTimestamp();
        await app.StopAsync();
        TimeSpan took = Stopwatch.GetElapsedTime(started);
        // A second on an idle machine; the default of a host that waits for its streams is 30.
        Assert.True(took < TimeSpan.FromSeconds(5), $"the stop took {took}");
    }

    [Fact]
    public async Task A_busy_engine_is_an_answer_of_its_own()
    {
        await using WebApplication app = await StartAsync(o => (o.MaxRunning, o.MaxWaiting, o.BufferedTokens) = (1, 0, 4));
        using HttpClient client = Client(app);
        KernelScopeEngine engine = app.Services.GetRequiredService<KernelScopeEngine>();
        await using IAsyncEnumerator<GeneratedToken> running =
            engine.GenerateAsync(new GenerationRequest { Prompt = "Once" }).GetAsyncEnumerator();
        Assert.True(await running.MoveNextAsync());
        using HttpResponseMessage response = await client.GetAsync(Generate("And the king said", 4));
        Assert.Equal(StatusCodes.Status429TooManyRequests, (int)response.StatusCode);
    }

    [Fact]
    public async Task A_chat_answers()
    {
        await using WebApplication app = await StartAsync();
        using HttpClient client = Client(app);
        Assert.NotEmpty(await client.GetStringAsync(new Uri("/chat?question=Who%20lived%20in%20the%20wood%3F", UriKind.Relative)));
    }

    private static Uri Generate(string prompt, int tokens) =>
        new($"/generate?prompt={Uri.EscapeDataString(prompt)}&tokens={tokens}", UriKind.Relative);

    /// <summary>A client that closes the connection where it stops reading, instead of reading on for a while to keep it.</summary>
    private static HttpClient Client(WebApplication app) =>
        new(new SocketsHttpHandler { MaxResponseDrainSize = 0 }) { BaseAddress = new Uri(app.Urls.First()), Timeout = Engines.Patience };

    private static async Task<WebApplication> StartAsync(Action<KernelScopeOptions>? change = null)
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Logging.ClearProviders();
        builder.Services.AddKernelScope(options =>
        {
            ServiceTests.UseDemo(options);
            change?.Invoke(options);
        });
        WebApplication app = builder.Build();
        app.MapGet("/generate", GenerateAsync);
        app.MapGet("/chat", async (string question, IChatClient chat, CancellationToken cancellationToken) =>
            (await chat.GetResponseAsync(question, new ChatOptions { MaxOutputTokens = 8 }, cancellationToken)).Text);
        await app.StartAsync();
        return app;
    }

    /// <summary>The first token is awaited before the first byte, so that a refusal has its status.</summary>
    private static async Task<IResult> GenerateAsync(string prompt, int tokens, KernelScopeEngine engine, HttpContext context)
    {
        var request = new GenerationRequest { Prompt = prompt, Options = new GenerationOptions { MaxNewTokens = tokens, StopIds = [] } };
        IAsyncEnumerator<GeneratedToken> stream = engine.GenerateAsync(request, context.RequestAborted).GetAsyncEnumerator();
        try
        {
            return await stream.MoveNextAsync() ? TypedResults.ServerSentEvents(TextsAsync(stream)) : TypedResults.NoContent();
        }
        catch (EngineBusyException e)
        {
            return TypedResults.Text(e.Message, statusCode: StatusCodes.Status429TooManyRequests);
        }
    }

    private static async IAsyncEnumerable<string> TextsAsync(IAsyncEnumerator<GeneratedToken> stream,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await using (stream)
        {
            do
            {
                cancellationToken.ThrowIfCancellationRequested();
                yield return stream.Current.Text ?? "";
            }
            while (await stream.MoveNextAsync());
        }
    }
}

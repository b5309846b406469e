using KernelScope.Extensions;
using KernelScope.Generation;
using KernelScope.Runtime;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Logging;

namespace KernelScope.Samples;

/// <summary>A web program with the model in it, and a client that calls it.</summary>
internal static class WebProgram
{
    public static void Main(string[] args) => RunAsync().GetAwaiter().GetResult();

    private static async Task RunAsync()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0"); // any free port
        builder.Services.AddKernelScope(options =>
        {
            options.Checkpoint = Demo.OpenCheckpoint; // or options.Model = "google/gemma-2-2b-it"
            options.Tokenizer = Demo.OpenTokenizer;
            options.Saes.Add(new SaeSource { Name = "sae", Checkpoint = () => Demo.OpenSae(Demo.DefaultSae) });
        });
        await using WebApplication app = builder.Build();

        // One engine serves all requests. Tokens leave as they are made; a client that goes away ends its request.
        app.MapGet("/continue", (string text, KernelScopeEngine engine, CancellationToken cancellationToken) =>
            engine.GenerateAsync(
                new GenerationRequest { Prompt = text, Options = new GenerationOptions { MaxNewTokens = 12 } }, cancellationToken)
                .Select(token => token.Text));
        app.MapGet("/features", async (string text, KernelScopeEngine engine, CancellationToken cancellationToken) =>
        {
            var request = new FeaturesRequest { Text = text, Features = [new FeatureReport { Sae = "sae", Top = 1 }] };
            IReadOnlyList<TokenFeatures> tokens = await engine.FeaturesAsync(request, cancellationToken);
            return tokens.Select(token => new { token.Text, token.Features[0].Top[0].Feature });
        });
        await app.StartAsync();

        using var client = new HttpClient { BaseAddress = new Uri(app.Urls.First()) };
        Console.WriteLine(await client.GetStringAsync("/continue?text=There was once a"));
        Console.WriteLine(await client.GetStringAsync("/features?text=the LORD God"));
        await app.StopAsync();
    }
}

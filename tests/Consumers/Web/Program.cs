// One engine behind a web server: tokens as server-sent events while they are generated.
using System.Runtime.CompilerServices;
using KernelScope;
using KernelScope.Extensions;
using KernelScope.Generation;
using KernelScope.Runtime;

WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
builder.Services.AddKernelScope(options =>
{
    options.Checkpoint = Demo.OpenCheckpoint;
    options.Tokenizer = Demo.OpenTokenizer;
});
WebApplication app = builder.Build();
app.MapGet("/generate", (string prompt, int? tokens, KernelScopeEngine engine, CancellationToken cancellationToken) =>
{
    var request = new GenerationRequest { Prompt = prompt, Options = new GenerationOptions { MaxNewTokens = tokens ?? 32, StopIds = [] } };
    return TypedResults.ServerSentEvents(Texts(engine, request, cancellationToken));
});
app.Run();

static async IAsyncEnumerable<string> Texts(
    KernelScopeEngine engine, GenerationRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
{
    await foreach (GeneratedToken token in engine.GenerateAsync(request, cancellationToken))
        yield return token.Text ?? "";
}

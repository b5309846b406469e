// One engine behind a web server: tokens as server-sent events while they are generated.
using KernelScope;
using KernelScope.Extensions;
using KernelScope.Generation;
using KernelScope.Runtime;

WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
builder.Services.AddKernelScope(options => (options.Checkpoint, options.Tokenizer) = (Demo.OpenCheckpoint, Demo.OpenTokenizer));
WebApplication app = builder.Build();
app.MapGet("/generate", (string prompt, int? tokens, KernelScopeEngine engine, CancellationToken cancellationToken) =>
    TypedResults.ServerSentEvents(Texts(engine, new GenerationRequest { Prompt = prompt, Options = new GenerationOptions { MaxNewTokens = tokens ?? 32 } }, cancellationToken)));
app.Run();

static async IAsyncEnumerable<string> Texts(KernelScopeEngine engine, GenerationRequest request, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
{
    await foreach (GeneratedToken token in engine.GenerateAsync(request, cancellationToken))
        yield return token.Text ?? "";
}

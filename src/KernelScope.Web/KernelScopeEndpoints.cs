using KernelScope.Runtime;
using KernelScope.Web.Contract;
using KernelScope.Web.Endpoints;
using KernelScope.Web.Serving;
using KernelScope.Web.Sources;

namespace KernelScope.Web;

/// <summary>KernelScope's calls in a web program.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class KernelScopeEndpoints
{
    private static readonly string[] NotServed =
    [
        "/initialize", "/v1/lens/prompt", "/v1/util/similarity-matrix-pred", "/v1/activation/attention",
        "/api/lens/{**rest}", "/api/graph/{**rest}", "/api/list/{**rest}", "/api/upload/{**rest}", "/api/nla/{**rest}",
        "/api/persona/{**rest}", "/api/feature/upload-batch", "/api/activation/upload-batch", "/api/vector/new", "/api/vector/delete",
        "/api/vector/list-owned", "/api/model/new", "/api/source-set/new",
    ];

    /// <summary>
    /// Maps Neuronpedia's calls (<c>/v1</c>, <c>/api</c>), OpenAI-compatible ones, <c>/health</c>, <c>/metrics</c>, <c>/openapi</c> and the
    /// pages. The engine is the <see cref="KernelScopeEngine"/> of the program's services; each of its SAEs is a source by its name.
    /// </summary>
    /// <param name="endpoints">The program.</param>
    /// <param name="options">What is served, and to whom.</param>
    /// <returns>The program.</returns>
    /// <exception cref="ArgumentException">An option cannot be meant, the model has no tokenizer, or two SAEs have one source id.</exception>
    /// <exception cref="InvalidDataException">A folder of dashboards is damaged, or is of no SAE that is served.</exception>
    /// <example>
    /// <code>
    /// builder.Services.AddSingleton(await KernelScopeEngine.OpenAsync(engineOptions));
    /// WebApplication app = builder.Build();
    /// app.MapKernelScope(new KernelScopeWebOptions { MaxNewTokens = 128 });
    /// app.Run();
    /// </code>
    /// </example>
    public static IEndpointRouteBuilder MapKernelScope(this IEndpointRouteBuilder endpoints, KernelScopeWebOptions options)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ArgumentNullException.ThrowIfNull(options);
        Map(endpoints, options);
        return endpoints;
    }

    internal static Pipeline Map(IEndpointRouteBuilder endpoints, KernelScopeWebOptions options)
    {
        options.Validate();
        KernelScopeEngine engine = endpoints.ServiceProvider.GetRequiredService<KernelScopeEngine>();
        ILogger logger = endpoints.ServiceProvider.GetRequiredService<ILoggerFactory>().CreateLogger("KernelScope.Web");
        var model = new ServedModel(engine, options);
        endpoints.ServiceProvider.GetService<IHostApplicationLifetime>()?.ApplicationStopped.Register(model.Dispose);
        var pipeline = new Pipeline(model, new RequestGuard(options), logger);
        MapCommon(endpoints, pipeline);
        MapInference(endpoints, pipeline);
        MapPublic(endpoints, pipeline);
        MapOpenAi(endpoints, pipeline);
        foreach (string path in NotServed)
            endpoints.Map(path, pipeline.Guarded(_ => throw new NotSupportedException("This server does not offer that call.")));
        if (options.Pages)
            PageEndpoints.Map(endpoints, pipeline);
        return pipeline;
    }

    private static void MapCommon(IEndpointRouteBuilder endpoints, Pipeline pipeline)
    {
        var metrics = new PrometheusMetrics();
        endpoints.ServiceProvider.GetService<IHostApplicationLifetime>()?.ApplicationStopped.Register(metrics.Dispose);
        endpoints.MapMethods("/health", ["GET", "HEAD"], pipeline.Get(call => call.AnswerAsync(new HealthAnswer("healthy"))));
        endpoints.MapGet("/metrics", pipeline.Get(call =>
        {
            call.Http.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
            return call.Http.Response.WriteAsync(metrics.Render(), call.Cancellation);
        }));
        MapDocument("/openapi/v1.json", ApiDocument.Inference);
        MapDocument("/openapi/api.json", ApiDocument.Public);

        void MapDocument(string path, ApiDocument document) => endpoints.MapGet(path, pipeline.Get(call =>
        {
            call.Http.Response.ContentType = "application/json; charset=utf-8";
            return call.Http.Response.Body.WriteAsync(document.Bytes, call.Cancellation).AsTask();
        }));
    }

    private static void MapInference(IEndpointRouteBuilder endpoints, Pipeline pipeline)
    {
        endpoints.MapGet("/v1/capabilities", pipeline.Get(ModelEndpoints.CapabilitiesAsync));
        endpoints.MapGet("/v1/steer/health", pipeline.Get(ModelEndpoints.SteerHealthAsync));
        Post("/v1/tokenize", ModelEndpoints.TokenizeAsync);
        Post("/v1/apply-chat-template", ModelEndpoints.ChatTemplateAsync);
        Post("/v1/activation/single", ActivationEndpoints.SingleAsync);
        Post("/v1/activation/single-batch", ActivationEndpoints.SingleBatchAsync);
        Post("/v1/activation/all", ActivationEndpoints.AllAsync);
        Post("/v1/activation/all-batch", ActivationEndpoints.AllBatchAsync);
        Post("/v1/activation/topk-by-token", ActivationEndpoints.TopkAsync);
        Post("/v1/activation/topk-by-token-batch", ActivationEndpoints.TopkBatchAsync);
        Post("/v1/activation/source", ActivationEndpoints.SourceAsync);
        Post("/v1/activation/raw", ActivationEndpoints.RawAsync);
        Post("/v1/steer/completion", SteerEndpoints.CompletionAsync);
        Post("/v1/steer/completion-chat", SteerEndpoints.ChatAsync);
        Post("/v1/util/sae-vector", ModelEndpoints.VectorAsync);
        Post("/v1/util/sae-topk-by-decoder-cossim", ModelEndpoints.SimilarAsync);

        void Post(string path, Func<Call, Task> handler) => endpoints.MapPost(path, pipeline.Post(ApiDocument.Inference, path, handler));
    }

    private static void MapPublic(IEndpointRouteBuilder endpoints, Pipeline pipeline)
    {
        endpoints.MapGet("/api/feature/{model}/{source}/{index}", pipeline.Get(PublicEndpoints.FeatureAsync));
        endpoints.MapGet("/api/source-set/{model}/{name}", pipeline.Get(PublicEndpoints.SourceSetAsync));
        Post("/api/features", PublicEndpoints.FeaturesAsync);
        Post("/api/activation/new", PublicEndpoints.ActivationNewAsync);
        Post("/api/activation/source", PublicEndpoints.ActivationSourceAsync);
        Post("/api/activation/get", PublicEndpoints.ActivationGetAsync);
        Post("/api/search-all", PublicEndpoints.SearchAllAsync);
        Post("/api/search-topk-by-token", PublicEndpoints.SearchTopkAsync);
        Post("/api/steer", SteerEndpoints.PublicAsync);
        Post("/api/steer-chat", SteerEndpoints.PublicChatAsync);
        Post("/api/vector/get", PublicEndpoints.VectorAsync);
        Post("/api/tokenize", PublicEndpoints.TokenizeAsync);
        Post("/api/explanation/search", PublicEndpoints.ExplanationSearchAsync);
        Post("/api/model/list", PublicEndpoints.ModelListAsync);
        Post("/api/model/get", PublicEndpoints.ModelGetAsync);
        Post("/api/steer/presets", PublicEndpoints.PresetsAsync);

        void Post(string path, Func<Call, Task> handler) => endpoints.MapPost(path, pipeline.Post(ApiDocument.Public, path, handler));
    }

    private static void MapOpenAi(IEndpointRouteBuilder endpoints, Pipeline pipeline)
    {
        endpoints.MapGet("/v1/models", pipeline.Get(OpenAiEndpoints.ModelsAsync));
        endpoints.MapPost("/v1/chat/completions", pipeline.Post(ApiDocument.Inference, "/v1/chat/completions", OpenAiEndpoints.ChatAsync));
        endpoints.MapPost("/v1/completions", pipeline.Post(ApiDocument.Inference, "/v1/completions", OpenAiEndpoints.CompletionAsync));
    }
}

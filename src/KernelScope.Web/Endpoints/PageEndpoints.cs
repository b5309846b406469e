using KernelScope.Web.Serving;

namespace KernelScope.Web.Endpoints;

/// <summary>The pages, which this assembly carries: they ask nothing of any other server.</summary>
internal static class PageEndpoints
{
    private const string Prefix = "pages/";
    private const string Policy = "default-src 'self'; img-src 'self' data:; style-src 'self'; base-uri 'none'; form-action 'self'";

    public static void Map(IEndpointRouteBuilder endpoints, Pipeline pipeline)
    {
        foreach (string name in Resources.Names.Where(n => n.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            byte[] bytes = Resources.Read(name);
            string path = name[Prefix.Length..], type = TypeOf(path);
            if (path == "index.html")
                endpoints.MapGet("/", pipeline.Guarded(http => WriteAsync(http, bytes, type)));
            else if (path == "feature.html")
                endpoints.MapGet("/{model}/{source}/{index:int}", pipeline.Guarded(http => WriteAsync(http, bytes, type)));
            else
                endpoints.MapGet($"/{path}", pipeline.Guarded(http => WriteAsync(http, bytes, type)));
        }
    }

    private static Task WriteAsync(HttpContext http, byte[] bytes, string type)
    {
        bool isEmbedded = http.Request.Query["embed"] == "true";
        http.Response.ContentType = type;
        http.Response.Headers.XContentTypeOptions = "nosniff";
        http.Response.Headers.CacheControl = "no-cache";
        http.Response.Headers["Referrer-Policy"] = "no-referrer";
        http.Response.Headers.ContentSecurityPolicy = isEmbedded ? $"{Policy}; frame-ancestors *" : $"{Policy}; frame-ancestors 'self'";
        return http.Response.Body.WriteAsync(bytes, http.RequestAborted).AsTask();
    }

    private static string TypeOf(string path) => Path.GetExtension(path) switch
    {
        ".html" => "text/html; charset=utf-8",
        ".css" => "text/css; charset=utf-8",
        ".js" => "text/javascript; charset=utf-8",
        ".svg" => "image/svg+xml",
        _ => "application/octet-stream",
    };
}

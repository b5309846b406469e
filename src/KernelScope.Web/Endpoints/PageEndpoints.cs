using System.Globalization;
using KernelScope.Web.Contract;
using KernelScope.Web.Serving;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>The pages, which this assembly carries: they ask nothing of any other server.</summary>
internal static class PageEndpoints
{
    private const string Prefix = "pages/", FeaturePage = "/{model}/{source}/{index:int}";
    private const string Policy = "default-src 'self'; img-src 'self' data:; style-src 'self'; base-uri 'none'; form-action 'self'";

    private static readonly string[] GetOrHead = ["GET", "HEAD"];

    public static void Map(IEndpointRouteBuilder endpoints, Pipeline pipeline)
    {
        foreach (string name in Resources.Names.Where(n => n.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            byte[] bytes = Resources.Read(name);
            string path = name[Prefix.Length..], type = TypeOf(path);
            if (path == "feature.html")
            {
                // Of any method: the router would answer 405 to other paths of three parts, such as /api/unknown/call.
                endpoints.Map(FeaturePage, pipeline.Guarded(http => WritePageAsync(http, pipeline.Model, bytes, type)));
            }
            else
            {
                Map(path == "index.html" ? "/" : $"/{path}", http => WriteAsync(http, bytes, type));
            }
        }

        void Map(string path, RequestDelegate handler) => endpoints.MapMethods(path, GetOrHead, pipeline.Guarded(handler));
    }

    private static Task WritePageAsync(HttpContext http, ServedModel model, byte[] bytes, string type)
    {
        if (((string)http.Request.RouteValues["model"]!).ToLowerInvariant() is "api" or "v1")
            throw Refusal.NotFound(ErrorAnswer.NoPath);
        if (!GetOrHead.Contains(http.Request.Method))
        {
            http.Response.Headers.Allow = string.Join(", ", GetOrHead);
            return ErrorAnswer.WriteAsync(http, StatusCodes.Status405MethodNotAllowed, ErrorAnswer.OtherMethod);
        }

        if (!IsThere(model, http.Request.RouteValues))
            http.Response.StatusCode = StatusCodes.Status404NotFound;
        return WriteAsync(http, bytes, type);
    }

    /// <summary>Whether the page has a feature to show; what is missing it says itself.</summary>
    private static bool IsThere(ServedModel model, RouteValueDictionary route) =>
        string.Equals((string?)route["model"], model.Id, StringComparison.OrdinalIgnoreCase)
        && model.Find((string)route["source"]!) is ServedSource source
        && int.Parse((string)route["index"]!, CultureInfo.InvariantCulture) is int index && index >= 0 && index < source.FeatureCount;

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

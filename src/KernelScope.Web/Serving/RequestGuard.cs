using System.Security.Cryptography;
using System.Text;

namespace KernelScope.Web.Serving;

/// <summary>
/// Who may ask: a Host header that names this machine, against pages elsewhere that point their own names here; origins that were named;
/// and the secret.
/// </summary>
internal sealed class RequestGuard
{
    private static readonly string[] OwnNames = ["localhost", "127.0.0.1", "[::1]"];
    private readonly HashSet<string> _names;
    private readonly HashSet<string> _origins;
    private readonly byte[]? _secret;

    public RequestGuard(KernelScopeWebOptions options)
    {
        _names = new HashSet<string>([.. OwnNames, .. options.AllowedHosts], StringComparer.OrdinalIgnoreCase);
        _origins = new HashSet<string>(options.Origins.Select(o => o.TrimEnd('/')), StringComparer.OrdinalIgnoreCase);
        _secret = options.Secret is null ? null : Hash(options.Secret);
    }

    /// <summary>What is wrong with a request; null: nothing.</summary>
    public (int Status, string Sentence)? Refuse(HttpContext http)
    {
        if (!IsOwn(http.Request.Host, http.Connection.LocalPort))
            return (StatusCodes.Status421MisdirectedRequest, "The Host header names another server than this one (--allowed-host adds names).");
        string? origin = http.Request.Headers.Origin.FirstOrDefault();
        if (origin is not null && !IsSame(origin, http.Request) && !_origins.Contains(origin))
            return (StatusCodes.Status403Forbidden, "Pages of this origin may not call this server (--cors adds origins).");
        if (_secret is not null && NeedsSecret(http.Request) && !HasSecret(http.Request))
            return (StatusCodes.Status401Unauthorized, "The secret is missing or wrong (X-SECRET-KEY, or Authorization: Bearer).");
        return null;
    }

    /// <summary>Lets a page of a named origin read the answer. Returns whether the request was only the question whether it may.</summary>
    public bool AllowOrigin(HttpContext http)
    {
        string? origin = http.Request.Headers.Origin.FirstOrDefault();
        if (origin is null || !_origins.Contains(origin))
            return false;
        http.Response.Headers.AccessControlAllowOrigin = origin;
        http.Response.Headers.Vary = "Origin";
        if (!HttpMethods.IsOptions(http.Request.Method))
            return false;
        http.Response.Headers.AccessControlAllowMethods = "GET, POST";
        http.Response.Headers.AccessControlAllowHeaders = "Content-Type, X-SECRET-KEY, X-Api-Key, Authorization";
        http.Response.StatusCode = StatusCodes.Status204NoContent;
        return true;
    }

    private bool IsOwn(HostString host, int port) =>
        host.HasValue && _names.Contains(host.Host) && ((host.Port ?? 80) == port || IsBehindAnother(host));

    /// <summary>A name that was allowed may be that of a server in front of this one, whose port differs.</summary>
    private static bool IsBehindAnother(HostString host) => !OwnNames.Contains(host.Host, StringComparer.OrdinalIgnoreCase);

    private static bool IsSame(string origin, HttpRequest request) =>
        string.Equals(origin, $"{request.Scheme}://{request.Host}", StringComparison.OrdinalIgnoreCase);

    /// <summary>A browser asks whether it may call without the key of the call.</summary>
    private static bool NeedsSecret(HttpRequest request) =>
        !HttpMethods.IsOptions(request.Method) && (request.Path.StartsWithSegments("/api", StringComparison.OrdinalIgnoreCase)
        || request.Path.StartsWithSegments("/v1", StringComparison.OrdinalIgnoreCase)
        || request.Path.StartsWithSegments("/metrics", StringComparison.OrdinalIgnoreCase));

    private bool HasSecret(HttpRequest request)
    {
        const string Bearer = "Bearer ";
        string? given = request.Headers["X-SECRET-KEY"].FirstOrDefault() ?? request.Headers["X-Api-Key"].FirstOrDefault();
        string authorization = request.Headers.Authorization.FirstOrDefault() ?? "";
        if (given is null && authorization.StartsWith(Bearer, StringComparison.OrdinalIgnoreCase))
            given = authorization[Bearer.Length..];
        // Hashes have one length, so that the time says nothing of the secret's.
        return CryptographicOperations.FixedTimeEquals(Hash(given ?? ""), _secret);
    }

    private static byte[] Hash(string text) => SHA256.HashData(Encoding.UTF8.GetBytes(text));
}

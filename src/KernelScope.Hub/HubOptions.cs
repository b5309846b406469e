using System.Text;
using KernelScope.Files;

namespace KernelScope.Hub;

/// <summary>Which hub, as whom, into which cache, and how patiently.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record HubOptions
{
    private const string DefaultEndpoint = "https://huggingface.co";
    private const int MaxTokenFile = 1 << 16;

    /// <summary>The server, without a slash at the end; http or https.</summary>
    public required Uri Endpoint { get; init; }

    /// <summary>What is sent as "Authorization: Bearer …" to the endpoint's host and port, and to nothing else; null for none.</summary>
    public string? Token { get; init; }

    /// <summary>The folder that holds models--owner--name.</summary>
    public required string CacheRoot { get; init; }

    /// <summary>How long a connection, an answer or the next bytes may take.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How often something that may pass (no connection, 429, 5xx, an interrupted transfer) is tried again before it counts; what brought new bytes does not count.</summary>
    public int Retries { get; init; } = 4;

    /// <summary>The wait before the first retry; doubled before each further one.</summary>
    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Whether snapshots hold links to the blobs; if not, or where links cannot be made, they hold copies.</summary>
    public bool UseLinks { get; init; } = true;

    /// <summary>Whether files that are in the cache already are compared with their checksums. They are in any case where their sizes or times are not those of when that was last done.</summary>
    public bool Verify { get; init; }

    /// <summary>
    /// Settings of the environment, as the hub's own library reads them: HF_ENDPOINT; HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file HF_TOKEN_PATH or HF_HOME/token; the cache;
    /// HF_HUB_DISABLE_SYMLINKS; HF_HUB_OFFLINE.
    /// </summary>
    /// <param name="environment">A variable's name to its value, null if it is not set.</param>
    /// <param name="cacheRoot">The cache; null for the environment's.</param>
    /// <exception cref="InvalidDataException">A setting is not usable; the message never holds the token.</exception>
    public static HubOptions FromEnvironment(Func<string, string?> environment, string? cacheRoot = null)
    {
        ArgumentNullException.ThrowIfNull(environment);
        bool IsSet(string name) => environment(name)?.ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE";
        if (IsSet("HF_HUB_OFFLINE"))
            throw new InvalidDataException("HF_HUB_OFFLINE is set, so nothing is downloaded.");
        string root = cacheRoot
            ?? (HubCache.Roots(environment) is [string first, ..] ? first
                : throw new InvalidDataException("there is no home folder for a cache; set HF_HUB_CACHE."));
        return new HubOptions
        {
            Endpoint = EndpointOf(environment("HF_ENDPOINT")),
            Token = TokenOf(environment),
            CacheRoot = Path.GetFullPath(root),
            UseLinks = !IsSet("HF_HUB_DISABLE_SYMLINKS")
        };
    }

    /// <summary>The endpoint as a text to which paths are appended.</summary>
    internal string EndpointText => Endpoint.AbsoluteUri.TrimEnd('/');

    private static Uri EndpointOf(string? text)
    {
        text = string.IsNullOrWhiteSpace(text) ? DefaultEndpoint : text.Trim().TrimEnd('/');
        return Uri.TryCreate(text, UriKind.Absolute, out Uri? endpoint) && endpoint.Scheme is "http" or "https"
            && endpoint.UserInfo.Length == 0 && endpoint.Query.Length == 0
            ? endpoint
            : throw new InvalidDataException(
                $"HF_ENDPOINT is not an address such as {DefaultEndpoint} (http or https, without a user or a query).");
    }

    private static string? TokenOf(Func<string, string?> environment)
    {
        string? token = Clean(environment("HF_TOKEN")) ?? Clean(environment("HUGGING_FACE_HUB_TOKEN"));
        if (token is not null)
            return Checked(token, "HF_TOKEN");
        string? path = environment("HF_TOKEN_PATH") is { Length: > 0 } given ? HubCache.Expand(given, environment)
            : HubCache.Homes(environment).FirstOrDefault() is string home ? Path.Combine(home, "token") : null;
        if (path is null || !File.Exists(path) || new FileInfo(path).Length == 0)
            return null;
        token = Clean(Encoding.UTF8.GetString(RawFile.ReadAll(path, MaxTokenFile)));
        return token is null ? null : Checked(token, BadFile.Printable(path, 4096));
    }

    private static string? Clean(string? token) => string.IsNullOrWhiteSpace(token) ? null : token.Trim();

    private static string Checked(string token, string source) =>
        token.AsSpan().ContainsAnyExceptInRange('!', '~')
            ? throw new InvalidDataException(
                $"{source}: this holds no token: there are spaces, line ends or letters in it that a token cannot have.") : token;
}

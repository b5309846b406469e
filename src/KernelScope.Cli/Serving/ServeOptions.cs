using System.CommandLine;
using KernelScope.Web;

namespace KernelScope.Cli;

/// <summary>Where a server listens, to whom it answers, and how much it takes on.</summary>
internal sealed class ServeOptions
{
    private const string SecretVariable = "KERNELSCOPE_SECRET", DefaultUrls = "http://127.0.0.1:3000;http://127.0.0.1:5002";
    private readonly Option<string> _urls = new("--urls")
    {
        Description = "Where it listens; several with ';' between. Port 0 picks a free one. Neuronpedia's Python client looks at port " +
            "3000, its web app at 5002.",
        HelpName = "U",
        DefaultValueFactory = _ => DefaultUrls,
    };

    private readonly Option<string?> _secret = new("--secret")
    {
        Description = "A key that every call must carry (X-SECRET-KEY, or Authorization: Bearer). Other users of this machine see " +
            $"options: {SecretVariable} in the environment says it unseen.",
        HelpName = "S",
    };

    private readonly Option<string[]> _cors = new("--cors")
    {
        Description = "Origin of a page elsewhere that may call, such as http://localhost:3001; repeatable.",
        HelpName = "ORIGIN",
    };

    private readonly Option<bool> _allowRemote = new("--allow-remote")
    {
        Description = "Listen on addresses that other machines reach; needs a secret.",
    };

    private readonly Option<string[]> _hosts = new("--allowed-host")
    {
        Description = "A name besides this machine's own that requests may ask for in their Host header; repeatable.",
        HelpName = "NAME",
    };

    private readonly Option<int> _maxTokens = new("--max-tokens")
    {
        Description = "Most tokens of a prompt.",
        HelpName = "N",
        DefaultValueFactory = _ => 1024,
    };

    private readonly Option<int> _maxNewTokens = new("--max-new-tokens")
    {
        Description = "Most new tokens of an answer.",
        HelpName = "N",
        DefaultValueFactory = _ => 256,
    };

    private readonly Option<int> _batch = new("--batch")
    {
        Description = "Requests that run together.",
        HelpName = "N",
        DefaultValueFactory = _ => 8,
    };

    private readonly Option<int> _queue = new("--queue")
    {
        Description = "Requests that wait; the next is refused with 429.",
        HelpName = "N",
        DefaultValueFactory = _ => 16,
    };

    private readonly Option<bool> _noPages = new("--no-browser-pages") { Description = "Serve the API alone." };
    private readonly Option<bool> _logText = new("--log-text") { Description = "Log what requests say, too." };

    public ServeOptions(Command verb)
    {
        Option[] all = [_urls, _secret, _cors, _allowRemote, _hosts, _maxTokens, _maxNewTokens, _batch, _queue, _noPages, _logText];
        foreach (Option option in all)
            verb.Options.Add(option);
        foreach (Option<int> count in (Option<int>[])[_maxTokens, _maxNewTokens, _batch])
            count.Validators.Add(r => Parsing.Require(r, count, v => v >= 1, $"{count.Name} is {{0}}; it must be at least 1."));
        _queue.Validators.Add(r => Parsing.Require(r, _queue, v => v >= 0, "--queue is {0}; it must be 0 or more."));
    }

    /// <summary>Those that mean nothing where nobody is served.</summary>
    public Option[] OfServer => [_urls, _secret, _cors, _allowRemote, _hosts, _noPages, _logText];

    public int BatchOf(ParseResult parsed) => parsed.GetValue(_batch);

    public int QueueOf(ParseResult parsed) => parsed.GetValue(_queue);

    /// <summary>Most tokens of a request.</summary>
    public int ContextOf(ParseResult parsed) =>
        (int)Math.Min((long)parsed.GetValue(_maxTokens) + parsed.GetValue(_maxNewTokens), int.MaxValue);

    /// <summary>The addresses, each of which only this machine reaches, unless more was asked for.</summary>
    /// <exception cref="UsageException">One is malformed, or reaches further than was allowed.</exception>
    public string[] UrlsOf(ParseResult parsed)
    {
        string[] urls = parsed.GetRequiredValue(_urls).Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        if (urls.Length == 0)
            throw new UsageException("--urls is empty; it needs an address such as http://127.0.0.1:3000.");
        for (int i = 0; i < urls.Length; i++)
        {
            string text = urls[i];
            bool isUrl = Uri.TryCreate(text, UriKind.Absolute, out Uri? url) && url.Scheme == Uri.UriSchemeHttp;
            if (!isUrl || url!.PathAndQuery != "/" || url.UserInfo.Length > 0)
                throw new UsageException($"'{Printable.Escape(text)}' is not an address to listen at; write http://127.0.0.1:3000.");
            // What is looked at here is what is listened at: Kestrel reads the text in a way of its own.
            urls[i] = $"{url.Scheme}://{url.Authority}";
            if (KernelScopeServer.IsLoopback(url))
                continue;
            string reach = $"{Printable.Escape(text)} can be reached from other machines";
            if (!parsed.GetValue(_allowRemote))
                throw new UsageException($"{reach}; --allow-remote, with a secret, permits that.");
            if (SecretOf(parsed) is null)
                throw new UsageException($"{reach}; that needs a secret (--secret, or {SecretVariable}).");
        }

        return urls;
    }

    public KernelScopeWebOptions WebOptionsOf(ParseResult parsed, string modelId)
    {
        var options = new KernelScopeWebOptions
        {
            ModelId = modelId,
            Secret = SecretOf(parsed),
            MaxPromptTokens = parsed.GetValue(_maxTokens),
            MaxNewTokens = parsed.GetValue(_maxNewTokens),
            Pages = !parsed.GetValue(_noPages),
            LogText = parsed.GetValue(_logText),
        };
        foreach (string origin in parsed.GetValue(_cors) ?? [])
            options.Origins.Add(IsOrigin(origin) ? origin : throw new UsageException(
                $"--cors is '{Printable.Escape(origin)}'; it needs one origin, such as http://localhost:5173."));
        foreach (string host in parsed.GetValue(_hosts) ?? [])
            options.AllowedHosts.Add(host);
        return options;
    }

    private static bool IsOrigin(string text) => Uri.TryCreate(text, UriKind.Absolute, out Uri? uri)
        && uri.Scheme is "http" or "https" && uri.GetLeftPart(UriPartial.Authority).Equals(text, StringComparison.OrdinalIgnoreCase);

    private string? SecretOf(ParseResult parsed)
    {
        string? secret = parsed.GetValue(_secret) ?? Environment.GetEnvironmentVariable(SecretVariable);
        return secret is not { Length: 0 } ? secret : throw new UsageException("the secret is empty.");
    }
}

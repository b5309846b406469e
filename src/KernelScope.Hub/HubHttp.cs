using System.Net.Http.Headers;
using KernelScope.Files;

namespace KernelScope.Hub;

/// <summary>
/// Requests to a hub. Redirects are followed by hand, because a hub keeps large files on other hosts: the token goes to the endpoint's own scheme, host and port and to nothing else,
/// and https never leads to http.
/// </summary>
internal sealed class HubHttp : IDisposable
{
    private const int MaxRedirects = 10;
    private readonly HubOptions _options;
    private readonly HttpClient _client;
    private volatile bool _answered;

    public HubHttp(HubOptions options)
    {
        _options = options;
        // Nothing is decompressed: lengths and offsets are those of the file.
        _client = new HttpClient(
            new SocketsHttpHandler
            {
                AllowAutoRedirect = false,
                UseCookies = false,
                ConnectTimeout = options.Timeout,
                UseProxy = !options.Endpoint.IsLoopback
            })
        { Timeout = Timeout.InfiniteTimeSpan };
        _client.DefaultRequestHeaders.UserAgent.Add(new ProductInfoHeaderValue("kernelscope", null));
        _client.DefaultRequestHeaders.AcceptEncoding.Add(new StringWithQualityHeaderValue("identity"));
    }

    /// <summary>Whether two addresses have the same scheme, host and port.</summary>
    public static bool SameOrigin(Uri a, Uri b) =>
        Uri.Compare(a, b, UriComponents.SchemeAndServer, UriFormat.SafeUnescaped, StringComparison.OrdinalIgnoreCase) == 0;

    /// <summary>An address for messages: without its query, which may hold a signature.</summary>
    public static string Shown(Uri uri) => BadFile.Printable(uri.GetComponents(UriComponents.SchemeAndServer, UriFormat.UriEscaped), 300);

    /// <summary>Sends a request and follows its redirects; the answer is a success, its body not yet read. The caller disposes it.</summary>
    /// <param name="method">GET or HEAD.</param>
    /// <param name="address">Where.</param>
    /// <param name="from">First byte wanted; 0 for all. With another one, the answer may also be 416.</param>
    /// <param name="subject">For messages.</param>
    /// <param name="isEnough">Sees every answer; true ends the search although it is a redirect.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <exception cref="HubException">Anything else; a <see cref="HubTransientException"/> if it may pass.</exception>
    public async Task<HttpResponseMessage> SendAsync(HttpMethod method, Uri address, long from,
        HubSubject subject, Func<HttpResponseMessage, bool>? isEnough, CancellationToken cancellationToken)
    {
        for (int redirects = 0; ; redirects++)
        {
            HttpResponseMessage answer = await SendOnceAsync(method, address, from, subject, cancellationToken).ConfigureAwait(false);
            try
            {
                if (isEnough?.Invoke(answer) == true || answer.IsSuccessStatusCode || (from > 0 && (int)answer.StatusCode == 416))
                    return answer;
                if ((int)answer.StatusCode is not (301 or 302 or 303 or 307 or 308))
                    throw HubRefusal.From(answer, subject, _options);
                if (redirects == MaxRedirects)
                    throw new HubException($"{subject}: {Shown(address)} redirects more than {MaxRedirects} times.");
                address = Next(answer, address, subject);
            }
            catch
            {
                answer.Dispose();
                throw;
            }

            answer.Dispose();
        }
    }

    /// <summary>Runs an operation of the network under the timeout; what may pass becomes a <see cref="HubTransientException"/>.</summary>
    public async Task<T> UnderTimeoutAsync<T>(
        Func<CancellationToken, Task<T>> operation, HubSubject subject, Uri address, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(_options.Timeout);
        try
        {
            return await operation(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new HubTransientException($"{subject}: {Shown(address)} did not answer for {_options.Timeout.TotalSeconds:0.#} s.",
                inner: e);
        }
        catch (HttpRequestException e) when (e.HttpRequestError == HttpRequestError.SecureConnectionError)
        {
            throw new HubException($"{subject}: there is no secure connection to {Shown(address)} ({Reason(e)}).", e);
        }
        catch (HttpRequestException e) when (!_answered && !cancellationToken.IsCancellationRequested
            && e.HttpRequestError is (HttpRequestError.NameResolutionError or HttpRequestError.ConnectionError))
        {
            // Before anything was ever answered, waiting helps nobody: there is no network, or no such server.
            throw new HubException($"{subject}: {Shown(address)} cannot be reached ({Reason(e)}); this machine may be offline.", e);
        }
        catch (Exception e) when (e is HttpRequestException or (IOException and not HubException))
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw new HubTransientException($"{subject}: the connection to {Shown(address)} failed ({Reason(e)}).", inner: e);
        }
    }

    public void Dispose() => _client.Dispose();

    private async Task<HttpResponseMessage> SendOnceAsync(
        HttpMethod method, Uri address, long from, HubSubject subject, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(method, address);
        if (_options.Token is string token && SameOrigin(address, _options.Endpoint))
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        if (from > 0)
            request.Headers.Range = new RangeHeaderValue(from, null);
        HttpResponseMessage answer =
            await UnderTimeoutAsync(limit => _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, limit),
                subject, address, cancellationToken).ConfigureAwait(false);
        _answered = true;
        return answer;
    }

    private static Uri Next(HttpResponseMessage answer, Uri address, HubSubject subject)
    {
        Uri? next = answer.Headers.Location is Uri location ? new Uri(address, location) : null;
        if (next is null || next.Scheme is not ("http" or "https"))
            throw new HubException($"{subject}: {Shown(address)} redirects to no address.");
        if (address.Scheme == "https" && next.Scheme == "http")
            throw new HubException($"{subject}: {Shown(address)} redirects to {Shown(next)}, from a secure connection to one that is not.");
        return next;
    }

    private static string Reason(Exception e) => BadFile.Printable((e.InnerException ?? e).Message.TrimEnd('.'), 200);
}

using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

namespace KernelScope.Tests.Hub;

/// <summary>A request that came.</summary>
internal sealed record HubRequest(string Method, string Path, IReadOnlyDictionary<string, string> Headers)
{
    public string? this[string header] => Headers.GetValueOrDefault(header);

    public bool IsContent => Method == "GET" && !Path.StartsWith("/api/", StringComparison.Ordinal);
}

/// <summary>An answer.</summary>
internal sealed record HubReply(int Status, byte[] Body, params (string Name, string Value)[] Headers)
{
    /// <summary>Bytes of the body after which the connection breaks.</summary>
    public int? CutAfter { get; init; }

    /// <summary>No Content-Length: the body ends with the connection.</summary>
    public bool NoLength { get; init; }

    /// <summary>Waits in the middle of the body until this is done, or the connection breaks.</summary>
    public Task? Pause { get; init; }
}

/// <summary>
/// A hub on 127.0.0.1, written from the documentation of the protocol and with no code of the client: listing, HEAD with X-Repo-Commit, X-Linked-Etag and X-Linked-Size, ranges, and large files
/// behind a redirect to another server. Every answer can be replaced.
/// </summary>
internal sealed class LocalHub : IDisposable
{
    public const string Commit = "0123456789abcdef0123456789abcdef01234567";
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();

    public LocalHub(string repository = "google/gemma-scope-2b-pt-res", LocalHub? storage = null)
    {
        (Repository, Storage) = (repository, storage);
        _listener.Start();
        _ = AcceptAsync();
    }

    public string Repository { get; }

    /// <summary>Where large files are; null: here.</summary>
    public LocalHub? Storage { get; }

    public Uri Address => new($"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}");

    public Dictionary<string, byte[]> Files { get; } = [];

    public ConcurrentQueue<HubRequest> Requests { get; } = [];

    public IEnumerable<HubRequest> Contents => Requests.Where(r => r.IsContent);

    public bool Ranges { get; set; } = true;

    /// <summary>Replaces answers; null lets the usual one through. The second argument is that one.</summary>
    public Func<HubRequest, HubReply, HubReply>? Alter { get; set; }

    public static string EtagOf(string name, byte[] bytes) =>
        IsLarge(name) ? Convert.ToHexStringLower(SHA256.HashData(bytes)) : GitHash(bytes);

    /// <summary>Nobody listens any more.</summary>
    public void Stop() => _listener.Stop();

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Dispose();
        _stop.Dispose();
    }

    private static bool IsLarge(string name) =>
        !name.EndsWith(".json", StringComparison.Ordinal) && !name.EndsWith(".md", StringComparison.Ordinal);

#pragma warning disable CA5350 // What git calls its objects.
    private static string GitHash(byte[] bytes) =>
        Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {bytes.Length}\0"), .. bytes]));
#pragma warning restore CA5350

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                TcpClient client = await _listener.AcceptTcpClientAsync(_stop.Token);
                _ = Task.Run(() => ServeAsync(client));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using (client)
        {
            try
            {
                NetworkStream stream = client.GetStream();
                if (await ReadAsync(stream) is not HubRequest request)
                    return;
                Requests.Enqueue(request);
                HubReply usual = Usual(request);
                await WriteAsync(stream, request, Alter?.Invoke(request, usual) ?? usual);
            }
            catch (Exception e) when (e is IOException or SocketException or OperationCanceledException or ObjectDisposedException)
            {
                // The client went away.
            }
        }
    }

    private static async Task<HubRequest?> ReadAsync(NetworkStream stream)
    {
        var text = new StringBuilder();
        byte[] one = new byte[1];
        while (!text.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            if (await stream.ReadAsync(one) == 0)
                return null;
            text.Append((char)one[0]);
        }

        string[] lines = text.ToString().Split("\r\n", StringSplitOptions.RemoveEmptyEntries);
        string[] first = lines[0].Split(' ');
        return new HubRequest(first[0], first[1],
            lines[1..].Select(l => l.Split(':', 2)).ToDictionary(p => p[0], p => p[1].Trim(), StringComparer.OrdinalIgnoreCase));
    }

    private HubReply Usual(HubRequest request)
    {
        string path = Uri.UnescapeDataString(request.Path.Split('?')[0]), resolve = $"/{Repository}/resolve/",
            list = $"/api/models/{Repository}/revision/";
        if (path == list + "main" || path == list + Commit)
            return new HubReply(
                200, Encoding.UTF8.GetBytes(
                    $$"""{"id": "x", "sha": "{{Commit}}", "siblings": [{{string.Join(", ", Files.Keys.Select(f => $$"""{"rfilename": {{System.Text.Json.JsonSerializer.Serialize(f)}}}"""))}}]}"""), ("Content-Type", "application/json"));
        if (path.StartsWith("/blob/", StringComparison.Ordinal) && Files.TryGetValue(path[6..], out byte[]? stored))
            return Bytes(request, stored, ("ETag", "\"not-a-checksum\""));
        if (!path.StartsWith(resolve, StringComparison.Ordinal))
            return new HubReply(404, [], ("X-Error-Code", "RepoNotFound"));
        string[] rest = path[resolve.Length..].Split('/', 2);
        if (rest[0] is not ("main" or Commit))
            return new HubReply(404, [], ("X-Error-Code", "RevisionNotFound"));
        return Files.TryGetValue(rest[1], out byte[]? bytes) ? Resolved(request, rest[1], bytes)
            : new HubReply(404, [], ("X-Error-Code", "EntryNotFound"));
    }

    private HubReply Resolved(HubRequest request, string name, byte[] bytes)
    {
        string etag = EtagOf(name, bytes);
        if (!IsLarge(name))
            return Bytes(request, bytes, ("X-Repo-Commit", Commit), ("ETag", $"\"{etag}\""));
        (string, string)[] linked =
            [("X-Repo-Commit", Commit), ("X-Linked-Etag", $"\"{etag}\""),
                ("X-Linked-Size", bytes.Length.ToString(CultureInfo.InvariantCulture))];
        if (Storage is null)
            return Bytes(request, bytes, linked);
        Storage.Files[name] = bytes;
        return new HubReply(
            302, [], [.. linked, ("ETag", "\"the page's own\""), ("Location", $"{Storage.Address}blob/{name}?signature=secret")]);
    }

    private HubReply Bytes(HubRequest request, byte[] bytes, params (string, string)[] headers)
    {
        if (!Ranges || request["Range"] is not string range)
            return new HubReply(200, bytes, headers);
        int from = int.Parse(range["bytes=".Length..^1], CultureInfo.InvariantCulture);
        return from >= bytes.Length
            ? new HubReply(416, [], ("Content-Range", $"bytes */{bytes.Length}"))
            : new HubReply(206, bytes[from..], [.. headers, ("Content-Range", $"bytes {from}-{bytes.Length - 1}/{bytes.Length}")]);
    }

    private async Task WriteAsync(NetworkStream stream, HubRequest request, HubReply reply)
    {
        var head = new StringBuilder($"HTTP/1.1 {reply.Status} X\r\nConnection: close\r\n");
        if (!reply.NoLength)
            head.Append(CultureInfo.InvariantCulture, $"Content-Length: {reply.Body.Length}\r\n");
        foreach ((string name, string value) in reply.Headers)
            head.Append(CultureInfo.InvariantCulture, $"{name}: {value}\r\n");
        await stream.WriteAsync(Encoding.ASCII.GetBytes(head.Append("\r\n").ToString()), _stop.Token);
        if (request.Method == "HEAD")
            return;
        int length = Math.Min(reply.CutAfter ?? int.MaxValue, reply.Body.Length), half = reply.Pause is null ? length : length / 2;
        await stream.WriteAsync(reply.Body.AsMemory(0, half), _stop.Token);
        if (reply.Pause is null)
            return;
        await stream.FlushAsync(_stop.Token);
        await reply.Pause.WaitAsync(_stop.Token);
        await stream.WriteAsync(reply.Body.AsMemory(half, length - half), _stop.Token);
    }
}

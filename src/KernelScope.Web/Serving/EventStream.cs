using System.Text.Json;

namespace KernelScope.Web.Serving;

/// <summary>Server-sent events: <c>data: {json}</c> and an empty line, each at once; nothing else but comments that keep a connection open.</summary>
internal sealed class EventStream(HttpContext http)
{
    private static readonly TimeSpan KeepAlive = TimeSpan.FromSeconds(15);

    /// <summary>Sends the head of the answer; from here on the status is 200.</summary>
    public async Task StartAsync()
    {
        http.Response.StatusCode = StatusCodes.Status200OK;
        http.Response.ContentType = "text/event-stream";
        http.Response.Headers.CacheControl = "no-cache, no-transform";
        http.Features.Get<Microsoft.AspNetCore.Http.Features.IHttpResponseBodyFeature>()?.DisableBuffering();
        await http.Response.StartAsync(http.RequestAborted).ConfigureAwait(false);
    }

    public async Task SendAsync<T>(T frame)
    {
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(frame, Call.TypeOf<T>());
        await WriteAsync([.. "data: "u8, .. json, .. "\n\n"u8]).ConfigureAwait(false);
    }

    public Task SendTextAsync(string data) => WriteAsync(System.Text.Encoding.UTF8.GetBytes($"data: {data}\n\n"));

    /// <summary>Waits, with a comment every 15 seconds.</summary>
    public async Task<T> WaitAsync<T>(Task<T> task)
    {
        while (await Task.WhenAny(task, Task.Delay(KeepAlive, http.RequestAborted)).ConfigureAwait(false) != task)
        {
            http.RequestAborted.ThrowIfCancellationRequested();
            await WriteAsync(":\n\n"u8.ToArray()).ConfigureAwait(false);
        }

        return await task.ConfigureAwait(false);
    }

    private async Task WriteAsync(byte[] bytes)
    {
        await http.Response.Body.WriteAsync(bytes, http.RequestAborted).ConfigureAwait(false);
        await http.Response.Body.FlushAsync(http.RequestAborted).ConfigureAwait(false);
    }
}

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
        await http.Response.StartAsync().ConfigureAwait(false);
    }

    public async Task SendAsync(IAnswer frame)
    {
        await WriteAsync([.. "data: "u8, .. AnswerJson.Bytes(frame).Span, .. "\n\n"u8]).ConfigureAwait(false);
    }

    public Task SendTextAsync(string data) => WriteAsync(System.Text.Encoding.UTF8.GetBytes($"data: {data}\n\n"));

    /// <summary>
    /// Waits to the end, with a comment every 15 seconds. A connection that closes ends the task itself, which is waited for: a reader must
    /// not be disposed while it moves.
    /// </summary>
    public async Task<T> WaitAsync<T>(Task<T> task)
    {
        while (true)
        {
            try
            {
                return await task.WaitAsync(KeepAlive).ConfigureAwait(false);
            }
            catch (TimeoutException) when (!task.IsCompleted)
            {
                await CommentAsync().ConfigureAwait(false);
            }
        }
    }

    private async Task CommentAsync()
    {
        try
        {
            await WriteAsync(":\n\n"u8.ToArray()).ConfigureAwait(false);
        }
        catch (Exception) when (http.RequestAborted.IsCancellationRequested)
        {
            // Nobody reads it; the task that is waited for ends by the same.
        }
    }

    private async Task WriteAsync(byte[] bytes)
    {
        await http.Response.Body.WriteAsync(bytes, http.RequestAborted).ConfigureAwait(false);
        await http.Response.Body.FlushAsync(http.RequestAborted).ConfigureAwait(false);
    }
}

using System.Text.Json;
using System.Text.Unicode;
using KernelScope.Web.Contract;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Serving;

/// <summary>A request whose body was read and checked, and how it is answered.</summary>
internal sealed class Call(HttpContext http, ServedModel model, JsonElement body)
{
    /// <summary>Most bytes of a body, and how deep it may be nested.</summary>
    public const int MaxBody = 1 << 20, MaxDepth = 32;

    /// <summary>Most bytes of a body that is read to be refused; a longer one ends the connection.</summary>
    public const int MaxDiscarded = 32 << 20;

    public HttpContext Http { get; } = http;

    public ServedModel Model { get; } = model;

    public JsonElement Body { get; } = body;

    /// <summary>Ends with the connection.</summary>
    public CancellationToken Cancellation => Http.RequestAborted;

    public Task AnswerAsync(IAnswer answer) => AnswerAsync(Http, answer);

    /// <summary>Writes an answer as JSON.</summary>
    public static async Task AnswerAsync(HttpContext http, IAnswer answer, int status = StatusCodes.Status200OK)
    {
        ReadOnlyMemory<byte> json = AnswerJson.Bytes(answer);
        http.Response.StatusCode = status;
        http.Response.ContentType = "application/json; charset=utf-8";
        await http.Response.Body.WriteAsync(json, http.RequestAborted).ConfigureAwait(false);
    }

    /// <summary>Reads a body.</summary>
    /// <exception cref="Refusal">It is not JSON, or too large.</exception>
    public static async Task<JsonDocument> ReadBodyAsync(HttpContext http)
    {
        if (!http.Request.HasJsonContentType())
            throw new Refusal(StatusCodes.Status415UnsupportedMediaType, "The body must be JSON (Content-Type: application/json).");
        using var bytes = new MemoryStream();
        byte[] buffer = new byte[16 << 10];
        long length = 0;
        for (int read; (read = await http.Request.Body.ReadAsync(buffer, http.RequestAborted).ConfigureAwait(false)) > 0;)
        {
            length += read;
            // The rest of what is too large is read and dropped: most clients look for an answer only when they have sent all.
            if (length <= MaxBody)
                bytes.Write(buffer, 0, read);
        }

        if (length > MaxBody)
            throw new Refusal(StatusCodes.Status413PayloadTooLarge, $"The body is larger than {MaxBody} bytes.");

        if (!Utf8.IsValid(bytes.GetBuffer().AsSpan(0, (int)bytes.Length)))
            throw Refusal.Bad("The body is not UTF-8.");
        try
        {
            return JsonDocument.Parse(bytes.ToArray(), new JsonDocumentOptions { MaxDepth = MaxDepth });
        }
        catch (JsonException)
        {
            throw Refusal.Bad($"The body is not JSON, or is nested deeper than {MaxDepth} levels.");
        }
    }
}

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

        ReadOnlyMemory<byte> json = bytes.GetBuffer().AsMemory(0, (int)bytes.Length);
        if (!Utf8.IsValid(json.Span))
            throw Refusal.Bad("The body is not UTF-8.");
        // RFC 8259 §8.1: a reader may ignore a byte order mark.
        if (json.Span.StartsWith("\uFEFF"u8))
            json = json[3..];
        try
        {
            if (json.Span.IndexOf("\\u"u8) >= 0)
                RequireNames(json.Span);
            return JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = MaxDepth, AllowDuplicateProperties = false });
        }
        catch (JsonException)
        {
            throw Refusal.Bad($"The body is not JSON, has a name twice, or is nested deeper than {MaxDepth} levels.");
        }
    }

    /// <summary>
    /// Reads every escaped name: one with half of a surrogate pair is not a text, and <see cref="JsonElement"/> throws when it looks for
    /// another name beside it.
    /// </summary>
    private static void RequireNames(ReadOnlySpan<byte> json)
    {
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = MaxDepth });
        try
        {
            while (reader.Read())
            {
                if (reader.TokenType == JsonTokenType.PropertyName && reader.ValueIsEscaped)
                    reader.GetString();
            }
        }
        catch (InvalidOperationException)
        {
            throw Refusal.Bad("A field's name in the body holds half of a surrogate pair.");
        }
    }
}

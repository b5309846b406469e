using KernelScope.Runtime;
using KernelScope.Web.Contract;
using KernelScope.Web.Endpoints;

namespace KernelScope.Web.Serving;

/// <summary>Refusals and failures as JSON, in the shape that the clients of a path expect. Never a stack trace, never a path of this machine.</summary>
internal static class ErrorAnswer
{
    public const string NoPath = "There is nothing at this path.", OtherMethod = "This path is asked in another way (GET or POST).";

    /// <summary>The status and sentence of what was thrown; null: the client has gone.</summary>
    public static (int Status, string Sentence, string? Field)? Of(Exception error, HttpContext http) => error switch
    {
        Refusal refusal => (refusal.Status, refusal.Message, refusal.Field),
        OperationCanceledException when http.RequestAborted.IsCancellationRequested => null,
        EngineBusyException =>
            (StatusCodes.Status429TooManyRequests, "The server is busy and its queue is full; try again a little later.", null),
        ObjectDisposedException => (StatusCodes.Status503ServiceUnavailable, "The server is shutting down.", null),
        OutOfMemoryException => (StatusCodes.Status503ServiceUnavailable, "There is not enough memory for this request now.", null),
        TimeoutException => (StatusCodes.Status503ServiceUnavailable, "The request ended because its answer was not read.", null),
        ArgumentException argument => (StatusCodes.Status400BadRequest, WithoutParameter(argument), null),
        FormatException => (StatusCodes.Status400BadRequest, error.Message, null),
        NotSupportedException => (StatusCodes.Status501NotImplemented, error.Message, null),
        BadHttpRequestException bad => (bad.StatusCode, bad.StatusCode == StatusCodes.Status413PayloadTooLarge
            ? $"The body is larger than {Call.MaxBody} bytes." : "The request is malformed.", null),
        _ => (StatusCodes.Status500InternalServerError, "The request failed by a defect of the server; its log says more.", null),
    };

    public static Task WriteAsync(HttpContext http, int status, string sentence, string? field = null)
    {
        if (status == StatusCodes.Status429TooManyRequests)
            http.Response.Headers.RetryAfter = "1";
        if (IsOpenAi(http.Request.Path))
            return Call.AnswerAsync(http, new OpenAiError(sentence, TypeOf(status), field), status);
        return http.Request.Path.StartsWithSegments("/api", StringComparison.OrdinalIgnoreCase)
            ? Call.AnswerAsync(http, new ApiError(sentence), status)
            : Call.AnswerAsync(http, new InferenceError(sentence), status);
    }

    /// <summary>422, with every place that does not fit.</summary>
    public static Task WriteAsync(HttpContext http, IReadOnlyList<SchemaError> errors)
    {
        string sentence = $"{string.Join('.', errors[0].Loc)}: {errors[0].Msg}.";
        if (IsOpenAi(http.Request.Path))
            return WriteAsync(http, StatusCodes.Status400BadRequest, sentence, string.Join('.', errors[0].Loc.Skip(1)));
        return Call.AnswerAsync(http, new ValidationError(errors, sentence, sentence), StatusCodes.Status422UnprocessableEntity);
    }

    private static bool IsOpenAi(PathString path) => path.StartsWithSegments("/v1/chat", StringComparison.OrdinalIgnoreCase)
        || path.StartsWithSegments("/v1/completions", StringComparison.OrdinalIgnoreCase)
        || path.StartsWithSegments("/v1/models", StringComparison.OrdinalIgnoreCase);

    private static string TypeOf(int status) => status switch
    {
        401 => "authentication_error",
        429 => "rate_limit_error",
        >= 500 => "server_error",
        _ => "invalid_request_error",
    };

    private static string WithoutParameter(ArgumentException error)
    {
        int suffix = error.ParamName is null ? -1 : error.Message.IndexOf(" (Parameter '", StringComparison.Ordinal);
        return suffix > 0 ? error.Message[..suffix] : error.Message;
    }
}

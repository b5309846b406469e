using System.Diagnostics;
using System.Text.Json;
using KernelScope.Web.Contract;
using KernelScope.Web.Sources;

namespace KernelScope.Web.Serving;

/// <summary>What happens around every request: who may ask, what went wrong, and a line in the log.</summary>
internal sealed class Pipeline(ServedModel model, RequestGuard guard, ILogger logger)
{
    public ServedModel Model => model;

    /// <summary>An endpoint without a body.</summary>
    public RequestDelegate Get(Func<Call, Task> handler) => Guarded(http => handler(new Call(http, model, default)));

    /// <summary>An endpoint whose body is checked against the schema of its path.</summary>
    public RequestDelegate Post(ApiDocument document, string path, Func<Call, Task> handler) => Guarded(async http =>
    {
        using JsonDocument body = await Call.ReadBodyAsync(http).ConfigureAwait(false);
        if (model.Options.LogText)
            logger.BodyText(path, body.RootElement.GetRawText());
        IReadOnlyList<SchemaError> errors = document.Check(path, body.RootElement);
        if (errors.Count > 0)
        {
            await ErrorAnswer.WriteAsync(http, errors).ConfigureAwait(false);
            return;
        }

        if (document == ApiDocument.Inference && body.RootElement.ValueKind == JsonValueKind.Object)
            NoteModel(body.RootElement.Text("model"));
        await handler(new Call(http, model, body.RootElement)).ConfigureAwait(false);
    });

    /// <summary>Runs a handler for those who may ask, and turns what it throws into an answer.</summary>
    public RequestDelegate Guarded(RequestDelegate handler) => async http =>
    {
        long started = Stopwatch.GetTimestamp();
        try
        {
            if (guard.Refuse(http) is (int status, string sentence))
                await ErrorAnswer.WriteAsync(http, status, sentence).ConfigureAwait(false);
            else if (!guard.AllowOrigin(http))
                await handler(http).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await FailAsync(http, e).ConfigureAwait(false);
        }

        double milliseconds = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        logger.Answered(http.Request.Method, Short(http.Request.Path), http.Response.StatusCode, milliseconds);
    };

    /// <summary>As Neuronpedia's servers do: another model's name is noted, and answered with the one that is here.</summary>
    private void NoteModel(string? asked)
    {
        if (asked is not null && !string.Equals(asked, model.Id, StringComparison.OrdinalIgnoreCase))
            logger.OtherModel(Short(asked), model.Id);
    }

    private async Task FailAsync(HttpContext http, Exception error)
    {
        if (ErrorAnswer.Of(error, http) is not (int status, string sentence, var field))
        {
            // Nobody reads an answer any more; 499 is what servers log for it.
            if (!http.Response.HasStarted)
                http.Response.StatusCode = StatusCodes.Status499ClientClosedRequest;
            return;
        }

        if (status == StatusCodes.Status500InternalServerError)
            logger.Failed(error, http.Request.Method, Short(http.Request.Path));
        if (http.Response.HasStarted)
            http.Abort();
        else
            await ErrorAnswer.WriteAsync(http, status, sentence, field).ConfigureAwait(false);
    }

    private static string Short(string text) => new([.. text.Take(200).Select(c => char.IsControl(c) ? '?' : c)]);
}

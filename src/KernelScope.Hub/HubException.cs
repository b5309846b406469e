using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using KernelScope.Files;

namespace KernelScope.Hub;

/// <summary>A hub does not give what was asked for, or cannot be reached; the message is a sentence that says what to do.</summary>
public class HubException(string message, Exception? inner = null) : IOException(message, inner);

/// <summary>Something that may pass: the request is worth another try.</summary>
/// <param name="message">The sentence, if it does not pass.</param>
/// <param name="retryAfter">How long the server asks one to wait.</param>
/// <param name="inner">What happened.</param>
internal sealed class HubTransientException(string message, TimeSpan? retryAfter = null, Exception? inner = null)
    : HubException(message, inner)
{
    public TimeSpan? RetryAfter => retryAfter;
}

/// <summary>What is asked for, for messages.</summary>
/// <param name="Repository">The hub id.</param>
/// <param name="Revision">The branch, tag or commit.</param>
/// <param name="File">The file; null for the listing.</param>
internal readonly record struct HubSubject(string Repository, string Revision, string? File)
{
    public override string ToString() => File is null ? Repository : $"{Repository}/{BadFile.Printable(File, 300)}";
}

/// <summary>Turns an answer that is not a success into a sentence.</summary>
internal static class HubRefusal
{
    // Asked to wait longer, one is better told.
    private static readonly TimeSpan LongestWait = TimeSpan.FromMinutes(1);

    /// <summary>The exception for a status of 400 or more, or one that makes no sense.</summary>
    /// <param name="answer">The answer.</param>
    /// <param name="subject">What was asked for.</param>
    /// <param name="options">The endpoint and whether there is a token.</param>
    public static HubException From(HttpResponseMessage answer, HubSubject subject, HubOptions options)
    {
        Uri uri = answer.RequestMessage!.RequestUri!;
        int status = (int)answer.StatusCode;
        if (status is 408 or 429 or >= 500)
            return Passing(answer, subject, uri, status);
        if (!HubHttp.SameOrigin(uri, options.Endpoint))
            return new HubException($"{subject}: {HubHttp.Shown(uri)}, where the hub keeps the file, refuses it (status {status}).");
        string? code = Header(answer, "X-Error-Code");
        string licence = $"{options.EndpointText}/{subject.Repository}";
        return new HubException(answer.StatusCode switch
        {
            HttpStatusCode.Unauthorized when options.Token is null =>
                $"{subject}: the hub wants to know who asks (401). If it is gated, accept its licence at {licence} and set HF_TOKEN to "
                    + "a token of that account; if it is private, set HF_TOKEN; the name may also be wrong.",
            HttpStatusCode.Unauthorized =>
                $"{subject}: the hub does not accept the token for this (401): it has expired or is mistyped, or its account has not "
                    + $"accepted the licence at {licence}, or there is no such repository; check HF_TOKEN.",
            HttpStatusCode.Forbidden =>
                $"{subject}: access is refused (403): accept the licence at {licence} and set HF_TOKEN to a token of that account; a "
                    + "fine-grained token must be allowed to read gated repositories.",
            HttpStatusCode.NotFound when code == "RevisionNotFound" =>
                $"{subject}: the repository has no revision {BadFile.Quote(subject.Revision)} (404).",
            HttpStatusCode.NotFound when subject.File is not null && code != "RepoNotFound" =>
                $"{subject}: there is no such file at revision {BadFile.Quote(subject.Revision)} (404).",
            HttpStatusCode.NotFound =>
                $"{subject}: {HubHttp.Shown(options.Endpoint)} has no such repository, or no revision "
                    + $"{BadFile.Quote(subject.Revision)} of it (404).",
            _ => $"{subject}: {HubHttp.Shown(uri)} answers with status {status}.",
        });
    }

    private static HubTransientException Passing(HttpResponseMessage answer, HubSubject subject, Uri uri, int status)
    {
        TimeSpan? wait = answer.Headers.RetryAfter switch
        {
            RetryConditionHeaderValue { Delta: TimeSpan delta } => delta,
            RetryConditionHeaderValue { Date: DateTimeOffset date } => date - DateTimeOffset.UtcNow,
            _ => null,
        };
        string what = status == 429 ? "asks for fewer requests" : "has trouble";
        return new HubTransientException(
            string.Create(CultureInfo.InvariantCulture,
                $"{subject}: {HubHttp.Shown(uri)} {what} (status {status}); try again later, what was received is kept."),
            wait > LongestWait ? LongestWait : wait > TimeSpan.Zero ? wait : null);
    }

    private static string? Header(HttpResponseMessage answer, string name) =>
        answer.Headers.NonValidated.TryGetValues(name, out HeaderStringValues values) ? values.FirstOrDefault() : null;
}

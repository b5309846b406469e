namespace KernelScope.Web.Serving;

/// <summary>What is logged: method, path, status, bytes, milliseconds; never a text of a request unless that was asked for.</summary>
internal static partial class WebLog
{
    [LoggerMessage(20, LogLevel.Information, "{Method} {Path} {Status} {Milliseconds:F1} ms")]
    public static partial void Answered(this ILogger logger, string method, string path, int status, double milliseconds);

    [LoggerMessage(21, LogLevel.Error, "{Method} {Path} failed.")]
    public static partial void Failed(this ILogger logger, Exception error, string method, string path);

    [LoggerMessage(22, LogLevel.Information, "{Path} body: {Body}")]
    public static partial void BodyText(this ILogger logger, string path, string body);

    [LoggerMessage(23, LogLevel.Warning, "The request names the model '{Asked}'; this server has {Here} and answers with that.")]
    public static partial void OtherModel(this ILogger logger, string asked, string here);
}

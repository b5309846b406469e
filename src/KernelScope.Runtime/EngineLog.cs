using Microsoft.Extensions.Logging;

namespace KernelScope.Runtime;

/// <summary>What the engine logs: numbers and names, never a text or a token.</summary>
internal static partial class EngineLog
{
    [LoggerMessage(1, LogLevel.Information, "Opened {Model} and {Saes} SAEs on {Device} in {Seconds:F1} s.")]
    public static partial void Opened(this ILogger logger, string model, int saes, string device, double seconds);

    [LoggerMessage(2, LogLevel.Warning, "Packed weights are not used: {Reason}")]
    public static partial void PanelsNotUsed(this ILogger logger, string reason);

    [LoggerMessage(3, LogLevel.Debug, "A {Kind} request of {PromptTokens} prompt tokens ended: {Outcome}.")]
    public static partial void Ended(this ILogger logger, string kind, int promptTokens, string outcome);

    [LoggerMessage(4, LogLevel.Error, "A {Kind} request of {PromptTokens} prompt tokens failed.")]
    public static partial void Failed(this ILogger logger, Exception error, string kind, int promptTokens);

    [LoggerMessage(5, LogLevel.Warning, "A request was refused: {Running} run, {Waiting} wait.")]
    public static partial void Refused(this ILogger logger, int running, int waiting);

    [LoggerMessage(6, LogLevel.Critical, "The engine's thread ended by an error; every request ends with it.")]
    public static partial void Broken(this ILogger logger, Exception error);
}

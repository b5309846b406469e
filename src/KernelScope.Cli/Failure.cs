namespace KernelScope.Cli;

/// <summary>What the process returns; scripts depend on the numbers.</summary>
internal static class ExitCode
{
    public const int Done = 0;
    public const int Failed = 1;
    public const int Usage = 2;

    /// <summary>128 + SIGHUP.</summary>
    public const int HungUp = 129;

    /// <summary>128 + SIGINT, as a shell reports it.</summary>
    public const int Interrupted = 130;

    /// <summary>128 + SIGTERM.</summary>
    public const int Terminated = 143;
}

/// <summary>The options contradict each other or make no sense: exit 2, with a hint to the help.</summary>
internal sealed class UsageException(string message) : Exception(message);

/// <summary>The work cannot be done, for a reason that one sentence says: exit 1.</summary>
internal sealed class WorkException(string message) : Exception(message);

/// <summary>Turns what went wrong into one line and an exit code.</summary>
internal static class Failure
{
    private const string TraceVariable = "KERNELSCOPE_TRACE";

    /// <summary>Reports an exception on standard error; a stack trace only where KERNELSCOPE_TRACE=1 asks for it.</summary>
    /// <param name="exception">What was thrown.</param>
    /// <param name="verb">The verb that ran, for the hint.</param>
    /// <param name="error">Standard error.</param>
    public static int Report(Exception exception, string verb, TextWriter error)
    {
        (int code, string sentence) = exception switch
        {
            UsageException => (ExitCode.Usage, exception.Message),
            OperationCanceledException => (ExitCode.Interrupted, "interrupted."),
            InsufficientMemoryException => (ExitCode.Failed, exception.Message),
            OutOfMemoryException => (ExitCode.Failed, "there is not enough memory for this."),
            _ when IsExpected(exception) => (ExitCode.Failed, Sentence(exception)),
            _ => (ExitCode.Failed, "this is a defect of kernelscope " +
                $"({exception.GetType().Name}: {exception.Message}); {TraceVariable}=1 shows where."),
        };
        WriteLine(error, sentence);
        if (code == ExitCode.Usage)
            error.WriteLine(Hint(verb));
        if (Environment.GetEnvironmentVariable(TraceVariable) == "1")
            error.WriteLine(exception);
        return code;
    }

    /// <summary>The line "kernelscope: sentence".</summary>
    public static void WriteLine(TextWriter error, string sentence) => error.WriteLine($"kernelscope: {Printable.OneLine(sentence)}");

    /// <summary>Where to read on after bad usage.</summary>
    public static string Hint(string verb) => verb.Length == 0 ? "'kernelscope --help' lists the verbs."
        : $"'kernelscope {verb} --help' lists its options and shows an example.";

    private static bool IsExpected(Exception exception) =>
        exception is WorkException or InvalidDataException or ArgumentException or FormatException or IOException
        or UnauthorizedAccessException or NotSupportedException or InvalidOperationException;

    /// <summary>The message without what .NET appends to it for programmers.</summary>
    private static string Sentence(Exception exception)
    {
        string message = exception.Message;
        if (exception is ArgumentException { ParamName: not null })
        {
            int suffix = message.IndexOf(" (Parameter '", StringComparison.Ordinal);
            if (suffix > 0)
                message = message[..suffix];
        }

        return message;
    }
}

namespace KernelScope.Evaluation;

/// <summary>One number held against a reference, or the reason why it was not.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record VerificationCheck
{
    internal VerificationCheck(string name, bool? ok, double measured, double limit, string source, string message)
    {
        Name = name;
        Ok = ok;
        Measured = measured;
        Limit = limit;
        Source = source;
        Message = message;
    }

    /// <summary>What was compared.</summary>
    public string Name { get; init; }

    /// <summary>Whether it agrees; null: it was not run, and <see cref="Message"/> says why.</summary>
    public bool? Ok { get; init; }

    /// <summary>The distance from the reference (NaN where nothing could be measured).</summary>
    public double Measured { get; init; }

    /// <summary>The largest distance that is accepted.</summary>
    public double Limit { get; init; }

    /// <summary>Whose numbers the reference is.</summary>
    public string Source { get; init; }

    /// <summary>What a miss means, what was thrown, or why it was not run.</summary>
    public string Message { get; init; }

    /// <summary>A distance that may be at most <paramref name="limit"/>; NaN is a miss.</summary>
    public static VerificationCheck Within(string name, double distance, double limit, string source, string miss) =>
        new(name, distance <= limit, distance, limit, source, miss);

    /// <summary>Of a check that was not run: what the distance might have been, in words.</summary>
    public string? Tolerance { get; init; }

    /// <summary>A check for which something is lacking.</summary>
    public static VerificationCheck NotRun(string name, string reason, string source, string? tolerance = null) =>
        new(name, null, double.NaN, double.NaN, source, reason) { Tolerance = tolerance };

    /// <summary>A check that threw: that is a miss, whatever it threw.</summary>
    public static VerificationCheck Threw(string name, Exception exception, double limit, string source)
    {
        ArgumentNullException.ThrowIfNull(exception);
        return new(name, false, double.NaN, limit, source, $"{exception.GetType().Name}: {exception.Message}");
    }
}

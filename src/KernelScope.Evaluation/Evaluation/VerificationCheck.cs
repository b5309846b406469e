namespace KernelScope.Evaluation;

/// <summary>One number held against a reference, or the reason why it was not.</summary>
/// <param name="Name">What was compared.</param>
/// <param name="Ok">Whether it agrees; null: it was not run, and <paramref name="Message"/> says why.</param>
/// <param name="Measured">The distance from the reference (NaN where nothing could be measured).</param>
/// <param name="Limit">What the distance may be.</param>
/// <param name="Source">Whose numbers the reference is.</param>
/// <param name="Message">What a miss means, what was thrown, or why it was not run.</param>
public sealed record VerificationCheck(string Name, bool? Ok, double Measured, double Limit, string Source, string Message)
{
    /// <summary>A distance that may be at most <paramref name="limit"/>; NaN is a miss.</summary>
    public static VerificationCheck Within(string name, double distance, double limit, string source, string miss) => new(name, distance <= limit, distance, limit, source, miss);

    /// <summary>Of a check that was not run: what the distance might have been, in words.</summary>
    public string? Tolerance { get; init; }

    /// <summary>A check for which something is lacking.</summary>
    public static VerificationCheck NotRun(string name, string reason, string source, string? tolerance = null) => new(name, null, double.NaN, double.NaN, source, reason) { Tolerance = tolerance };

    /// <summary>A check that threw: that is a miss, whatever it threw.</summary>
    public static VerificationCheck Threw(string name, Exception exception, double limit, string source)
    {
        ArgumentNullException.ThrowIfNull(exception);
        return new(name, false, double.NaN, limit, source, $"{exception.GetType().Name}: {exception.Message}");
    }
}

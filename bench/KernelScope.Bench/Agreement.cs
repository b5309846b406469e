namespace KernelScope.Bench;

/// <summary>When a peer's result is ours within its precision.</summary>
internal static class Agreement
{
    /// <summary>Every value within a share of the largest.</summary>
    public static Func<float[], float[], string?> Within(double share) => (ours, theirs) =>
    {
        if (ours.Length != theirs.Length)
            return $"{theirs.Length} values instead of {ours.Length}";
        double largest = ours.Max(MathF.Abs), off = 0;
        for (int n = 0; n < ours.Length; n++)
            off = Math.Max(off, Math.Abs((double)ours[n] - theirs[n]));
        return off <= share * largest && largest > 0 ? null : $"differs by {off:g3} where the largest value is {largest:g3}";
    };

    /// <summary>Codes: every value within a share of the largest, or not active on one side and as close to the threshold on the other.</summary>
    public static Func<float[], float[], string?> OfCodes(float threshold, double share) => (ours, theirs) =>
    {
        if (ours.Length != theirs.Length)
            return $"{theirs.Length} values instead of {ours.Length}";
        double allowed = share * ours.Max();
        for (int n = 0; n < ours.Length; n++)
        {
            double a = ours[n] == 0 ? threshold : ours[n], b = theirs[n] == 0 ? threshold : theirs[n];
            if (!(Math.Abs(a - b) <= allowed))
                return $"value {n} is {theirs[n]:g6} where ours is {ours[n]:g6}";
        }

        return allowed > 0 ? null : "no feature is active";
    };

    /// <summary>Nothing is compared: the peer does other work on purpose.</summary>
    public static string? Unasked(float[] ours, float[] theirs) => null;
}

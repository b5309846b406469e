namespace KernelScope.Bench;

/// <summary>Something to measure. Weights and peers are made when it is its turn, and given back after it.</summary>
/// <param name="Name">Words by which <c>--filter</c> finds it.</param>
/// <param name="Bound">The limit it is held against.</param>
/// <param name="Work">Bytes or operations of one run.</param>
/// <param name="Prepare">Makes what takes part.</param>
internal sealed record Case(string Name, Bound Bound, double Work, Func<Machine, Contest> Prepare);

/// <summary>One who takes part.</summary>
/// <param name="Name">As in the table: <c>TorchSharp bf16</c>.</param>
/// <param name="Run">Does the work once.</param>
/// <param name="Result">What the last run gave, in a form that all who take part share.</param>
internal sealed record Contestant(string Name, Action Run, Func<float[]> Result);

/// <summary>A peer, and how far its result may be from ours.</summary>
/// <param name="Contestant">It.</param>
/// <param name="Agreement">Says what is wrong between ours and the peer's result, or null.</param>
internal sealed record Peer(Contestant Contestant, Func<float[], float[], string?> Agreement);

/// <summary>Ours and the peers of one case, over the same weights and inputs.</summary>
internal sealed class Contest(Contestant ours) : IDisposable
{
    private readonly List<IDisposable> _owned = [];

    public Contestant Ours { get; } = ours;

    public List<Peer> Peers { get; } = [];

    /// <summary>Sentences on peers and limits that are not there.</summary>
    public List<string> Missing { get; } = [];

    /// <summary>Disposes something with the contest.</summary>
    public T Own<T>(T disposable)
        where T : IDisposable
    {
        _owned.Add(disposable);
        return disposable;
    }

    public void Dispose()
    {
        for (int n = _owned.Count - 1; n >= 0; n--)
            _owned[n].Dispose();
    }
}

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
}

using KernelScope.Devices;
using KernelScope.Measuring;

namespace KernelScope.Bench;

/// <summary>Something to measure. Weights and peers are made when it is its turn, and given back after it.</summary>
/// <param name="Name">Words by which <c>--filter</c> finds it.</param>
/// <param name="Bound">The limit it is held against; null: it shows seconds and its peers only.</param>
/// <param name="Work">Bytes or operations of one run.</param>
/// <param name="Prepare">Makes what takes part.</param>
internal sealed record Case(string Name, Bound? Bound, double Work, Func<Machine, Contest> Prepare)
{
    /// <summary>Accuracy of its products, which decides by what code they are made.</summary>
    public Precision Precision { get; init; }

    /// <summary>Tokens that go through a model in one run; 0: no model runs.</summary>
    public int Tokens { get; init; }
}

/// <summary>One who takes part.</summary>
/// <param name="Name">As in the table: <c>TorchSharp bf16</c>.</param>
/// <param name="Run">Does the work once.</param>
/// <param name="Result">What the last run gave, in a form that all who take part share.</param>
internal sealed record Contestant(string Name, Action Run, Func<float[]> Result)
{
    /// <summary>Runs, and gives the seconds of one run as it measured them itself; null: its runs are timed from outside.</summary>
    public Func<double>? OwnSeconds { get; init; }

    /// <summary>Another program, which measures itself and shows no results.</summary>
    public static Contestant Program(string name, Func<double> seconds) =>
        new(name, static () => { }, static () => []) { OwnSeconds = seconds };
}

/// <summary>A peer, and how far its result may be from ours.</summary>
/// <param name="Contestant">It.</param>
/// <param name="Agreement">Says what is wrong between ours and the peer's result, or null.</param>
internal sealed record Peer(Contestant Contestant, Func<float[], float[], string?> Agreement);

/// <summary>Something besides seconds that a round shows of ours.</summary>
/// <param name="Name">As in the table: <c>peak memory</c>.</param>
/// <param name="Unit">Its unit.</param>
/// <param name="Read">Its value in the last run.</param>
internal sealed record Figure(string Name, string Unit, Func<double> Read)
{
    /// <summary>How many bytes packed weights have for each as they are stored. Shares of the read bandwidth count stored bytes, so that packed and unpacked compare: times this, they say what was read.</summary>
    public static Figure Packed(double packedBytes, double storedBytes) =>
        new("packed bytes over stored", "", () => packedBytes / storedBytes);
}

/// <summary>Ours and the peers of one case, over the same weights and inputs.</summary>
internal sealed class Contest(Contestant ours) : IDisposable
{
    private readonly List<IDisposable> _owned = [];

    public Contestant Ours { get; } = ours;

    public List<Peer> Peers { get; } = [];

    public List<Figure> Figures { get; } = [];

    /// <summary>Sentences on peers and limits that are not there, and on what was compared.</summary>
    public List<string> Notes { get; } = [];

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

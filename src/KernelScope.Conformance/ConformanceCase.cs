using System.Globalization;
using KernelScope.Devices;

namespace KernelScope.Conformance;

/// <summary>How large the shapes of the suite are.</summary>
public enum ConformanceScale
{
    /// <summary>Below 10⁵ multiply-adds a case: for an emulator.</summary>
    Tiny,

    /// <summary>Every shape class; seconds on a CPU.</summary>
    Default,

    /// <summary>The default, and rows of the size of Gemma 2 2B's and its SAEs'; minutes on the reference device.</summary>
    Large,
}

/// <summary>What one case gave.</summary>
public sealed record ConformanceResult
{
    internal ConformanceResult(string op, string name, bool ok, double worstError, double limit, string message)
    {
        Op = op;
        Name = name;
        Ok = ok;
        WorstError = worstError;
        Limit = limit;
        Message = message;
    }

    /// <summary>The op.</summary>
    public string Op { get; init; }

    /// <summary>The shape class, in words.</summary>
    public string Name { get; init; }

    /// <summary>Whether the device agrees with the reference.</summary>
    public bool Ok { get; init; }

    /// <summary>The largest error of a value, divided by the size of what was summed for it.</summary>
    public double WorstError { get; init; }

    /// <summary>What <see cref="WorstError"/> may be; 0 where bits are compared.</summary>
    public double Limit { get; init; }

    /// <summary>What is wrong, where, and both values; empty if nothing is.</summary>
    public string Message { get; init; }

    /// <summary>SHA-256 of what the device gave: see <see cref="OutputHashes"/>. Empty if nothing came of it.</summary>
    public string Hash { get; init; } = "";

    /// <summary>One line for a log.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"{(Ok ? "ok  " : "FAIL")} {Op}: {Name} ({WorstError:g3} of {Limit:g3}){(Ok ? "" : " " + Message)}");
}

/// <summary>One op on inputs of one shape class, on a device and on the reference device.</summary>
public sealed class ConformanceCase
{
    private readonly Action<Trial> _body;

    internal ConformanceCase(string op, string name, long work, Action<Trial> body)
    {
        Op = op;
        Name = name;
        Work = work;
        _body = body;
    }

    /// <summary>The op, as <see cref="Device"/> names it.</summary>
    public string Op { get; }

    /// <summary>The shape class, in words; unique within the op.</summary>
    public string Name { get; }

    /// <summary>About how many multiply-adds one run of the op takes; the device runs it two or three times.</summary>
    public long Work { get; }

    /// <summary>Runs it. Everything that the device throws is a failure of the case, except a cancellation.</summary>
    public ConformanceResult Run(Device device, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        using Trial trial = new(device, Generator.SeedOf($"{Op}: {Name}"));
        string message = "";
        try
        {
            _body(trial);
        }
#pragma warning disable CA1031 // A device that throws has failed the case, whatever it throws.
        catch (Exception e) when (e is not OperationCanceledException)
#pragma warning restore CA1031
        {
            message = e is DisagreementException ? e.Message : $"{e.GetType().Name}: {e.Message}";
        }

        return new ConformanceResult(Op, Name, message.Length == 0, trial.WorstError, trial.ElementLimit, message) { Hash = trial.Hash };
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Op}: {Name}";
}

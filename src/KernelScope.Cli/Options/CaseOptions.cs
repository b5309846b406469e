using System.CommandLine;
using KernelScope.Conformance;
using KernelScope.Emulated;

namespace KernelScope.Cli;

/// <summary>Which cases of the op suite <c>verify</c> runs, and how.</summary>
internal sealed class CaseOptions
{
    private const int DefaultJobs = 4, DefaultTimeout = 60, DefaultRepeats = 50, EmulatedRepeats = 2;
    private const string EmbeddedHashes = "";

    private readonly Option<string[]> _op = new("--op")
    {
        Description = "Only the cases of this op, as device ops are called (Linear, " +
        "Attend, …); may be given several times. Then only ops are checked.",
        HelpName = "NAME",
        Arity = ArgumentArity.OneOrMore
    };
    private readonly Option<string?> _case = new("--case")
    {
        Description = "Only cases whose name contains this. Then only ops are " +
        "checked.",
        HelpName = "TEXT"
    };
    private readonly Option<string?> _scale = new("--scale")
    {
        Description = "Size of the shapes. Default: default; tiny on the " +
        "emulated device.",
        HelpName = "tiny|default|large"
    };
    private readonly Option<string?> _hashes = new("--hashes")
    {
        Description = "Also hold the outputs bit by bit to a file of " +
        "--write-hashes; without F to the one inside, which the emulator made (tiny, exact).",
        HelpName = "F",
        Arity = ArgumentArity.ZeroOrOne
    };
    private readonly Option<string?> _writeHashes = new("--write-hashes")
    {
        Description = "Write the hashes of all outputs; on the " +
        "emulated device, which knows where tensor cores took part.",
        HelpName = "F"
    };
    private readonly Option<bool> _inProcess = new("--in-process")
    {
        Description = "Run every op in this process. On a CUDA device " +
        "each op otherwise has a process of its own: after a fault of a kernel a process cannot use the GPU any more."
    };
    private readonly Option<int> _jobs = new("--jobs")
    {
        Description = "Processes at once, where ops have their own; given on another " +
        $"device, it gives them their own there too. Default: {DefaultJobs}.",
        HelpName = "N",
        DefaultValueFactory = _ => DefaultJobs
    };
    private readonly Option<int> _timeout = new("--timeout")
    {
        Description = "Seconds that an op's process may take. " +
        $"Default: {DefaultTimeout}.",
        HelpName = "S",
        DefaultValueFactory = _ => DefaultTimeout
    };

    private readonly Option<bool> _cross = new("--cross")
    {
        Description = "Instead of the suite, the forms of each kernel against each " +
        "other on one CUDA device, at the sizes of real models."
    };
    private readonly Option<int?> _repeats = new("--repeats")
    {
        Description = "How often --cross repeats each op, in batches that become graphs, and compares its bits. " +
        $"Default: {DefaultRepeats}; on the emulated device {EmulatedRepeats}.",
        HelpName = "N"
    };

    public CaseOptions(Command verb)
    {
        _scale.Validators.Add(r => Parsing.Require(r, _scale, v => v is "tiny" or "default" or "large",
            "'{0}' is not a scale: there are tiny, default and large."));
        _jobs.Validators.Add(r => Parsing.Require(r, _jobs, v => v is >= 1 and <= 64, "--jobs is {0}; it must be 1 to 64."));
        _timeout.Validators.Add(r => Parsing.Require(r, _timeout, v => v is >= 1 and <= 86_400,
            "--timeout is {0}; it must be 1 to 86400."));
        _repeats.Validators.Add(r => Parsing.Require(r, _repeats, v => v is >= 1 and <= 10_000,
            "--repeats is {0}; it must be 1 to 10000."));
        foreach (Option option in (Option[])[_op, _case, _scale, _hashes, _writeHashes, _inProcess, _jobs, _timeout, _cross, _repeats])
            verb.Options.Add(option);
    }

    /// <summary>Whether cases were picked, so that nothing but ops is asked about.</summary>
    public bool ArePicked(ParseResult parsed) => parsed.GetValue(_op) is { Length: > 0 } || parsed.GetValue(_case) is not null;

    /// <summary>Whether forms are compared with each other instead.</summary>
    public bool IsCross(ParseResult parsed) => parsed.GetValue(_cross);

    /// <summary>How often each op is repeated there.</summary>
    public int Repeats(ParseResult parsed, string device) =>
        parsed.GetValue(_repeats) ?? (device == EmulatedDevices.Name ? EmulatedRepeats : DefaultRepeats);

    /// <summary>Refuses options that would do nothing.</summary>
    /// <exception cref="UsageException">There is one.</exception>
    public void Check(ParseResult parsed)
    {
        bool cross = IsCross(parsed);
        if (!cross && parsed.GetResult(_repeats) is { Implicit: false })
            throw new UsageException("--repeats does nothing without --cross.");
        foreach (Option option in (Option[])[_op, _case, _scale, _hashes, _writeHashes, _inProcess, _jobs, _timeout])
        {
            if (cross && parsed.GetResult(option) is { Implicit: false })
                throw new UsageException($"{option.Name} does nothing with --cross, which runs no case of the suite.");
        }
    }

    /// <summary>Processes at once.</summary>
    public int Jobs(ParseResult parsed) => parsed.GetValue(_jobs);

    /// <summary>How long an op's process may take.</summary>
    public TimeSpan Timeout(ParseResult parsed) => TimeSpan.FromSeconds(parsed.GetValue(_timeout));

    /// <summary>Where hashes are to be written; null: nowhere.</summary>
    public string? HashOutput(ParseResult parsed) => parsed.GetValue(_writeHashes);

    /// <summary>Whether every op runs in a process of its own.</summary>
    public bool InProcesses(ParseResult parsed, string device) =>
        !parsed.GetValue(_inProcess) && HashOutput(parsed) is null
        && (device.StartsWith("cuda", StringComparison.Ordinal) || parsed.GetResult(_jobs) is { Implicit: false });

    /// <summary>The scale.</summary>
    public ConformanceScale Scale(ParseResult parsed, string device) => parsed.GetValue(_scale) switch
    {
        "tiny" => ConformanceScale.Tiny,
        "default" => ConformanceScale.Default,
        "large" => ConformanceScale.Large,
        // An emulator executes every instruction of a kernel one by one.
        _ => device == EmulatedDevices.Name ? ConformanceScale.Tiny : ConformanceScale.Default,
    };

    /// <summary>The cases that were picked.</summary>
    /// <exception cref="UsageException">There is no such op, or none of its cases is called so.</exception>
    public IReadOnlyList<ConformanceCase> Cases(ParseResult parsed, string device)
    {
        IReadOnlyList<ConformanceCase> all = ConformanceSuite.Cases(Scale(parsed, device));
        string[] ops = parsed.GetValue(_op) ?? [], known = [.. all.Select(c => c.Op).Distinct()];
        if (Array.Find(ops, o => !known.Contains(o)) is string unknown)
            throw new UsageException($"'{Printable.Escape(unknown)}' is not an op of the suite; there are {string.Join(", ", known)}.");
        string? text = parsed.GetValue(_case);
        ConformanceCase[] picked = [.. all.Where(c => (ops.Length == 0 || ops.Contains(c.Op))
            && (text is null || c.Name.Contains(text, StringComparison.Ordinal)))];
        return picked.Length > 0 ? picked : throw new UsageException($"no case is called '{Printable.Escape(text ?? "")}'.");
    }

    /// <summary>What outputs are held to; null: nothing.</summary>
    /// <exception cref="InvalidDataException">The file is not one of hashes.</exception>
    public OutputHashes? Hashes(ParseResult parsed, string device, string precision)
    {
        if (parsed.GetResult(_hashes) is not { Implicit: false })
            return null;
        string file = parsed.GetValue(_hashes) ?? EmbeddedHashes;
        OutputHashes hashes = file.Length == 0 ? OutputHashes.Embedded : OutputHashes.Parse(File.ReadAllBytes(file), file);
        if (hashes.Scale != Scale(parsed, device) || hashes.Precision != precision)
            throw new UsageException($"the hashes are of --scale {hashes.Scale.ToString().ToLowerInvariant()} and " +
                $"--precision {hashes.Precision}.");
        return hashes;
    }

    /// <summary>The options with which a process of its own runs an op.</summary>
    public IReadOnlyList<string> ForOp(ParseResult parsed, string op)
    {
        List<string> words = ["--in-process", "--op", op];
        foreach (Option<string?> option in (Option<string?>[])[_case, _scale, _hashes])
        {
            if (parsed.GetResult(option) is not { Implicit: false })
                continue;
            words.Add(option.Name);
            if (parsed.GetValue(option) is string value)
                words.Add(value);
        }

        return words;
    }
}

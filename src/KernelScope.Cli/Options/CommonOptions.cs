using System.CommandLine;
using KernelScope.Cpu;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Emulated;
using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>Which of the common options a verb looks at.</summary>
[Flags]
internal enum CommonUse
{
    None = 0,
    Json = 1,
    Model = 2,
    Device = 4,
    Precision = 8,
    Threads = 16,

    /// <summary>How keys and values are kept: only where sessions of a model are made whose results nobody has published.</summary>
    Kv = 32,

    /// <summary>What computes.</summary>
    Compute = Device | Precision | Threads,
    All = Json | Model | Compute,
}

/// <summary>The options that many verbs take; a verb says which of them act.</summary>
internal sealed class CommonOptions
{
    /// <summary>The option that asks for JSON.</summary>
    public const string JsonName = "--json";

    private const string DemoName = KernelScope.Demo.ModelName;
    private readonly Option<string> _model = new("--model")
    {
        Description = "Model: a folder with config.json, safetensors and tokenizer.model, a hub-cache entry, or a hub name in the " +
            "cache such as google/gemma-2-2b; demo is the small model inside.",
        HelpName = "DIR",
        DefaultValueFactory = _ => DemoName,
        Recursive = true,
    };

    private readonly Option<string> _device = new("--device")
    {
        Description = "What computes: auto (the cpu, until the CUDA kernels have been proven on hardware), cpu, cuda[:n], " +
            "reference, or emulated (the CUDA device on an emulated GPU: slow).",
        HelpName = "NAME",
        DefaultValueFactory = _ => "auto",
        Recursive = true,
    };
    private readonly Option<string> _precision = new("--precision")
    {
        Description = "exact (float32 accuracy) or fast.",
        HelpName = "exact|fast",
        DefaultValueFactory = _ => "exact",
        Recursive = true,
    };
    private readonly Option<string> _kv = new("--kv")
    {
        Description = "How attention's keys and values are kept: f32, or bf16, which takes half the memory and rounds them. " +
            "Results change, so it is never chosen for you.",
        HelpName = "f32|bf16",
        DefaultValueFactory = _ => "f32",
        Recursive = true,
    };
    private readonly Option<int> _threads = new("--threads")
    {
        Description = "Threads of the cpu device. Default: one for each core. Results do not depend on it.",
        HelpName = "N",
        Recursive = true,
    };
    private readonly Option<bool> _noMap = new("--no-map")
    {
        Description = "Read weights into memory instead of mapping their files: a file that somebody shortens meanwhile then " +
            "cannot end the program. Takes as much memory as the files have bytes.",
        Recursive = true,
    };
    private readonly Option<bool> _noGraphs = new("--no-graphs")
    {
        Description = "On a CUDA device: launch kernels one by one instead of as graphs. Results do not depend on it.",
        Recursive = true,
    };
    private readonly Option<bool> _noTensorCores = new("--no-tensor-cores")
    {
        Description = "On a CUDA device: multiply many rows without tensor cores.",
        Recursive = true,
    };
    private readonly Option<bool> _sync = new("--sync")
    {
        Description = "On a CUDA device: wait after every kernel, so that an error names the one that made it. Slow. " +
            "KERNELSCOPE_CUDA_SYNC=1 does the same.",
        Recursive = true,
    };
    private readonly Option<bool> _json = new(JsonName) { Description = "Print the result as one JSON document.", Recursive = true };

    public CommonOptions()
    {
        _model.CompletionSources.Add([DemoName, .. ReleasedModel.All.Select(m => m.Name)]);
        _device.CompletionSources.Add("auto", "cpu", "cuda", "reference", "emulated");
        _precision.CompletionSources.Add("exact", "fast");
        _kv.CompletionSources.Add("f32", "bf16");
        _model.Validators.Add(r => Parsing.Require(r, _model, v => v.Length > 0, "--model is empty; it needs a folder or a hub name."));
        _device.Validators.Add(r => Parsing.Require(
            r, _device, IsDeviceName, "'{0}' is not a device: there are auto, cpu, cuda[:n], reference and emulated."));
        _precision.Validators.Add(r => Parsing.Require(
            r, _precision, v => v is "exact" or "fast", "'{0}' is not a precision: there are exact and fast."));
        _kv.Validators.Add(r => Parsing.Require(
            r, _kv, v => v is "f32" or "bf16", "'{0}' is not a type of keys and values: there are f32 and bf16."));
        _threads.Validators.Add(r => Parsing.Require(r, _threads, v => v is >= 1 and <= 1024, "--threads is {0}; it must be 1 to 1024."));
    }

    /// <summary>Each with its bit.</summary>
    public IReadOnlyList<(Option Option, CommonUse Use)> Each =>
    [
        (_model, CommonUse.Model), (_device, CommonUse.Device), (_precision, CommonUse.Precision), (_kv, CommonUse.Kv),
        (_threads, CommonUse.Threads), (_noMap, CommonUse.Device), (_noGraphs, CommonUse.Device),
        (_noTensorCores, CommonUse.Device), (_sync, CommonUse.Device), (_json, CommonUse.Json),
    ];

    /// <summary>Refuses what a verb would ignore.</summary>
    /// <exception cref="UsageException">Such an option was given.</exception>
    public void RefuseIdle(ParseResult parsed, Verb verb)
    {
        foreach ((Option option, CommonUse use) in Each)
        {
            if (!verb.Uses.HasFlag(use) && parsed.GetResult(option) is { Implicit: false })
                throw new UsageException($"{option.Name} does nothing in '{verb.Name}'{Why(verb, use)}.");
        }

        string device = DeviceOf(parsed);
        if (verb.Uses.HasFlag(CommonUse.Threads) && parsed.GetResult(_threads) is { Implicit: false } && device is not ("auto" or "cpu"))
            throw new UsageException($"--threads does nothing on {device}: it is for the cpu.");
        foreach (Option option in (Option[])[_noGraphs, _noTensorCores, _sync])
        {
            if (parsed.GetResult(option) is { Implicit: false } && device is "auto" or "cpu" or "reference")
                throw new UsageException($"{option.Name} does nothing on {device}: it is for a CUDA device.");
        }
    }

    private static string Why(Verb verb, CommonUse use) => use switch
    {
        CommonUse.Model => verb.Name switch
        {
            "pull" => ": what to download is named without it",
            "bench" => ", which makes its weights itself: it takes --shape, not --model",
            _ => ", which needs no model",
        },
        CommonUse.Json => ", which has no result to print as JSON",
        CommonUse.Kv when verb.Name == "verify" => ": stored and published numbers are of float32 keys and values",
        CommonUse.Kv => ", which keeps keys and values as float32",
        _ => ", which computes nothing with a model",
    };

    public void AddTo(RootCommand root)
    {
        root.Options.Add(_model);
        root.Options.Add(_device);
        root.Options.Add(_precision);
        root.Options.Add(_kv);
        root.Options.Add(_threads);
        root.Options.Add(_noMap);
        root.Options.Add(_noGraphs);
        root.Options.Add(_noTensorCores);
        root.Options.Add(_sync);
        root.Options.Add(_json);
    }

    public string ModelOf(ParseResult parsed) => parsed.GetRequiredValue(_model);

    /// <summary>Whether weights are read into memory instead of mapped.</summary>
    public bool NoMapOf(ParseResult parsed) => parsed.GetValue(_noMap);

    public bool JsonOf(ParseResult parsed) => parsed.GetValue(_json);

    /// <summary>The name that was given.</summary>
    public string DeviceOf(ParseResult parsed) => parsed.GetRequiredValue(_device);

    public Precision PrecisionOf(ParseResult parsed) => parsed.GetRequiredValue(_precision) == "fast" ? Precision.Fast : Precision.Exact;

    /// <summary>How keys and values are kept.</summary>
    public DType KvOf(ParseResult parsed) => parsed.GetRequiredValue(_kv) == "bf16" ? DType.BF16 : DType.F32;

    /// <summary>Opens the device that was asked for, for work that says nothing of its memory.</summary>
    /// <exception cref="WorkException">The device does not compute in the precision asked for.</exception>
    /// <exception cref="Cuda.Driver.CudaException">There is no such device.</exception>
    public Device OpenDevice(ParseResult parsed, Streams streams) =>
        OpenDevice(parsed, streams, DeviceOf(parsed), PrecisionOf(parsed), Precision.Exact, ThreadsOf(parsed));

    /// <summary>Tokens of one call of a session on a device that need not be there; 0: what a session takes anywhere else.</summary>
    public static int ChunkOn(string device) => device is "auto" or "cpu" or "reference" ? 0 : CudaDevice.PreferredChunkLength;

    /// <summary>Opens a device, once it is known that what will run fits into its memory: nothing is loaded before.</summary>
    /// <param name="parsed">The options.</param>
    /// <param name="streams">For what a user may want to know of the device.</param>
    /// <param name="name">The device.</param>
    /// <param name="precision">Of the model's products.</param>
    /// <param name="saePrecision">Of SAE encoders.</param>
    /// <param name="threads">Of the cpu; 0: one for each core.</param>
    /// <param name="needs">What needs how many bytes; see <see cref="MemoryCheck.Require"/>.</param>
    /// <exception cref="WorkException">There is too little memory, or the device does not compute in the precision asked for.</exception>
    /// <exception cref="Cuda.Driver.CudaException">There is no such device, or too little memory on it.</exception>
    public Device OpenDevice(
        ParseResult parsed,
        Streams streams,
        string name,
        Precision precision,
        Precision saePrecision,
        int threads,
        params ReadOnlySpan<(string What, long Bytes)> needs)
    {
        CudaDeviceOptions options = CudaOptionsOf(parsed, streams) with { Precision = precision, SaePrecision = saePrecision };
        switch (name)
        {
            case "auto":
            case "cpu":
                MemoryCheck.Require(needs);
                return new CpuDevice(threads, precision, saePrecision);
            case "reference":
                if (precision != Precision.Exact)
                    throw new WorkException("the reference device computes in exact precision only.");
                MemoryCheck.Require(needs);
                return new ReferenceDevice();
            default:
                return Fitting(name == EmulatedDevices.Name ? EmulatedDevices.Open(options) : CudaDevices.Open(name, options), needs);
        }
    }

    /// <summary>
    /// The common options as they were given, but for the output's form and the model: to hand them to a process that computes the same
    /// way.
    /// </summary>
    public IEnumerable<string> GivenOf(ParseResult parsed)
    {
        foreach ((Option option, CommonUse use) in Each.Where(e => e.Use is CommonUse.Device or CommonUse.Precision or CommonUse.Threads
            && parsed.GetResult(e.Option) is { Implicit: false }))
        {
            yield return option.Name;
            foreach (System.CommandLine.Parsing.Token token in parsed.GetResult(option)!.Tokens)
                yield return token.Value;
        }
    }

    /// <summary>How a CUDA device was asked to work.</summary>
    public CudaDeviceOptions CudaOptionsOf(ParseResult parsed, Streams streams)
    {
        var options = new CudaDeviceOptions
        {
            Precision = PrecisionOf(parsed),
            Graphs = !parsed.GetValue(_noGraphs),
            TensorCores = !parsed.GetValue(_noTensorCores),
            Warn = text => Failure.WriteLine(streams.Error, $"warning: {text}"),
        };
        return parsed.GetValue(_sync) ? options with { Sync = true } : options;
    }

    private static CudaDevice Fitting(CudaDevice device, ReadOnlySpan<(string What, long Bytes)> needs)
    {
        try
        {
            MemoryPlan.Create(device.Options, needs).Require(device);
            return device;
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    /// <summary>Whether a model was named, be it the default one.</summary>
    public bool HasModel(ParseResult parsed) => parsed.GetResult(_model) is { Implicit: false };

    /// <summary>Whether a device was named, be it the default one.</summary>
    public bool HasDevice(ParseResult parsed) => parsed.GetResult(_device) is { Implicit: false };

    /// <summary>Threads that were asked for; 0: none were.</summary>
    public int ThreadsOf(ParseResult parsed) => parsed.GetValue(_threads);

    /// <summary>Threads that were asked for, or one for each core.</summary>
    public int ThreadCountOf(ParseResult parsed) => ThreadsOf(parsed) is > 0 and int given ? given : Environment.ProcessorCount;

    /// <summary>Whether a precision was asked for.</summary>
    public bool HasPrecision(ParseResult parsed) => parsed.GetResult(_precision) is { Implicit: false };

    private static bool IsDeviceName(string name) =>
        name is "auto" or "cpu" or "cuda" or "reference" or "emulated"
        || (name.StartsWith("cuda:", StringComparison.Ordinal) && name.Length is > 5 and < 9
            && name.AsSpan(5).IndexOfAnyExceptInRange('0', '9') < 0);
}

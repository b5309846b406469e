using System.CommandLine;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Devices.Cpu;
using KernelScope.Devices.Reference;
using KernelScope.Emulated;

namespace KernelScope.Cli;

/// <summary>The options that every verb takes.</summary>
internal sealed class CommonOptions
{
    private const string DemoName = KernelScope.Demo.ModelName;
    private readonly Option<string> _model = new("--model")
    {
        Description = "Model: a folder with config.json, safetensors and tokenizer.model, a hub-cache entry, or a hub name in the cache such as google/gemma-2-2b; demo is the small model inside.",
        HelpName = "DIR",
        DefaultValueFactory = _ => DemoName,
        Recursive = true,
    };

    private readonly Option<string> _device = new("--device") { Description = "What computes: auto (the cpu), cpu, cuda[:n], reference, or emulated (the CUDA device on an emulated GPU: slow).", HelpName = "NAME", DefaultValueFactory = _ => "auto", Recursive = true };
    private readonly Option<string> _precision = new("--precision") { Description = "exact (float32 accuracy) or fast.", HelpName = "exact|fast", DefaultValueFactory = _ => "exact", Recursive = true };
    private readonly Option<int> _threads = new("--threads") { Description = "Threads of the cpu device. Default: one for each core. Results do not depend on it.", HelpName = "N", Recursive = true };
    private readonly Option<bool> _json = new("--json") { Description = "Print the result as one JSON document.", Recursive = true };

    public CommonOptions()
    {
        _model.Validators.Add(r => Parsing.Require(r, _model, v => v.Length > 0, "--model is empty; it needs a folder or a hub name."));
        _device.Validators.Add(r => Parsing.Require(r, _device, IsDeviceName, "'{0}' is no device: there are auto, cpu, cuda[:n], reference and emulated."));
        _precision.Validators.Add(r => Parsing.Require(r, _precision, v => v is "exact" or "fast", "'{0}' is no precision: there are exact and fast."));
        _threads.Validators.Add(r => Parsing.Require(r, _threads, v => v is >= 1 and <= 1024, "--threads is {0}; it must be 1 to 1024."));
    }

    public void AddTo(RootCommand root)
    {
        root.Options.Add(_model);
        root.Options.Add(_device);
        root.Options.Add(_precision);
        root.Options.Add(_threads);
        root.Options.Add(_json);
    }

    public string ModelOf(ParseResult parsed) => parsed.GetRequiredValue(_model);

    public bool JsonOf(ParseResult parsed) => parsed.GetValue(_json);

    /// <summary>Opens the device that was asked for. "auto" is the cpu device: the CUDA device has passed its tests in the emulator, and on no hardware yet.</summary>
    /// <exception cref="WorkException">It is not there, or does not compute in the precision asked for.</exception>
    public Device OpenDevice(ParseResult parsed) => OpenDevice(parsed, parsed.GetRequiredValue(_precision) == "fast" ? Precision.Fast : Precision.Exact, Precision.Exact);

    /// <summary>The same in given precisions.</summary>
    /// <param name="parsed">Which device.</param>
    /// <param name="precision">Of the model's products.</param>
    /// <param name="saePrecision">Of SAE encoders.</param>
    /// <exception cref="WorkException">It is not there, or does not compute in the precision asked for.</exception>
    public Device OpenDevice(ParseResult parsed, Precision precision, Precision saePrecision)
    {
        string name = parsed.GetRequiredValue(_device);
        var options = new CudaDeviceOptions { Precision = precision, SaePrecision = saePrecision };
        return name switch
        {
            "auto" or "cpu" => new CpuDevice(parsed.GetValue(_threads), precision),
            "reference" when precision == Precision.Exact => new ReferenceDevice(),
            "reference" => throw new WorkException("the reference device computes in exact precision only."),
            EmulatedDevices.Name => EmulatedDevices.Open(options),
            _ => CudaDevices.Open(name, options),
        };
    }

    /// <summary>Whether a precision was asked for.</summary>
    public bool HasPrecision(ParseResult parsed) => parsed.GetResult(_precision) is { Implicit: false };

    private static bool IsDeviceName(string name) =>
        name is "auto" or "cpu" or "cuda" or "reference" or "emulated" || (name.StartsWith("cuda:", StringComparison.Ordinal) && name.Length is > 5 and < 9 && name.AsSpan(5).IndexOfAnyExceptInRange('0', '9') < 0);
}

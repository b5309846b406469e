using System.Globalization;
using KernelScope.Cuda.Driver;
using KernelScope.Cuda.Ptx;

namespace KernelScope.Cuda.Launching;

/// <summary>A kernel that is loaded on a device.</summary>
internal sealed class Kernel(PtxKernelInfo info, nint function)
{
    /// <summary>What the manifest says of it.</summary>
    public PtxKernelInfo Info { get; } = info;

    /// <summary>The driver's handle.</summary>
    public nint Function { get; } = function;

    /// <summary>Bytes of its parameter block.</summary>
    public int ParameterBytes { get; } = info.ParameterBytes;

    /// <summary>Where each parameter begins.</summary>
    public int[] Offsets { get; } = [.. info.Parameters.Select(p => p.Offset)];

    /// <summary>How many values an element of each view has: kernels read up to 16 bytes at a time.</summary>
    public int[] ValuesOfElement { get; } =
        [.. info.Parameters.Select(p => p.Type switch { "b32x4[]" => 8, "f32x4[]" or "b32x2[]" => 4, _ => 1 })];
}

/// <summary>
/// The kernels of a device, loaded at first use: a PTX file is compiled by the driver (which caches the result) when one of its kernels is
/// asked for.
/// </summary>
internal sealed partial class KernelTable(CudaContext context, PtxImage image) : IDisposable
{
    private readonly Dictionary<string, Kernel> _kernels = new(StringComparer.Ordinal);
    private readonly Kernel?[] _numbered = new Kernel?[Names.Length];
    private readonly Dictionary<string, nint> _modules = new(StringComparer.Ordinal);

    /// <summary>The kernel of that name.</summary>
    /// <exception cref="CudaException">The device is too old for it, or the driver does not compile it; the message has the compiler's
    /// log.</exception>
    public Kernel this[string name]
    {
        get
        {
            if (!_kernels.TryGetValue(name, out Kernel? kernel))
            {
                kernel = Load(image.Kernel(name));
                _kernels.Add(name, kernel);
            }

            return kernel;
        }
    }

    /// <summary>Loads every module that this device would take, and goes on after one that fails.</summary>
    public IReadOnlyList<LoadedModule> LoadAll()
    {
        int capability = context.Description.ComputeCapability;
        PtxTarget? newest = image.Manifest.Kernels.Select(k => k.CodeFor(capability)?.Target).MaxBy(t => t?.Capability);
        // What has older code only is what a newer kernel takes the place of.
        return [.. image.Manifest.Kernels.Where(k => k.CodeFor(capability) is PtxCode code && code.Target == newest)
            .GroupBy(k => k.CodeFor(capability)!.File)
            .Select(file => LoadFile([.. file]))];
    }

    public void Dispose()
    {
        foreach (nint module in _modules.Values)
            _ = context.Driver.ModuleUnload(module);
        _modules.Clear();
        _kernels.Clear();
        Array.Clear(_numbered);
    }

    /// <summary>A kernel by its number among the names.</summary>
    private Kernel At(int number) => _numbered[number] ??= this[Names[number]];

    private Kernel Load(PtxKernelInfo info)
    {
        int capability = context.Description.ComputeCapability;
        PtxCode code = info.CodeFor(capability) ?? throw new CudaException(CudaResult.NoBinaryForGpu,
            string.Create(CultureInfo.InvariantCulture,
            $"{context.Description.Name} has compute capability {capability / 10}.{capability % 10}; kernel '{info.Name}' " +
            $"needs {info.Code[0].Target.Capability / 10}.{info.Code[0].Target.Capability % 10} or newer."));
        ICudaDriver driver = context.Driver;
        // Lazily, before anything else of an op: nobody has made the context current yet.
        context.MakeCurrent();
        nint module = Module(code.File, out _);
        context.Check(driver.ModuleGetFunction(module, info.Name, out nint function), nameof(ICudaDriver.ModuleGetFunction), info.Name);
        context.Check(driver.FuncGetAttribute(FunctionProperty.MaxThreadsPerBlock, function, out int threads),
            nameof(ICudaDriver.FuncGetAttribute), info.Name);
        if (threads < info.GroupSize)
            throw new CudaException(CudaResult.LaunchOutOfResources, $"Kernel '{info.Name}' needs blocks of {info.GroupSize} threads; " +
                $"compiled for {context.Description.Name} it can have {threads}.");
        return new Kernel(info, function);
    }

    private nint Module(string file, out CompilerReport report)
    {
        report = new CompilerReport("", 0);
        if (_modules.TryGetValue(file, out nint module))
            return module;
        ReadOnlySpan<byte> text = context.Overlaps ? OverlapText.Enable(image.Text(file)) : image.Text(file);
        CudaResult result = context.Driver.ModuleLoadData(text, file, out module, out report);
        context.Check(result, nameof(ICudaDriver.ModuleLoadData), report.Log.Length == 0 ? $"kernels/ptx/{file}"
            : $"kernels/ptx/{file}; the compiler says: {report.Log}");
        _modules.Add(file, module);
        return module;
    }

    private LoadedModule LoadFile(PtxKernelInfo[] kernels)
    {
        PtxCode code = kernels[0].CodeFor(context.Description.ComputeCapability)!;
        var loaded = new LoadedModule { File = code.File, Target = $"{code.Target}" };
        List<LoadedKernel> done = [];
        try
        {
            context.MakeCurrent();
            Module(code.File, out CompilerReport report);
            loaded = loaded with { Milliseconds = report.Milliseconds, Log = report.Log };
            foreach (PtxKernelInfo kernel in kernels)
                done.Add(Describe(this[kernel.Name]));
        }
        catch (CudaException e)
        {
            loaded = loaded with { Problem = e.Message };
        }

        return loaded with { Kernels = done };
    }

    private LoadedKernel Describe(Kernel kernel)
    {
        context.Check(context.Driver.OccupancyMaxActiveBlocks(kernel.Function, kernel.Info.GroupSize, out int blocks),
            nameof(ICudaDriver.OccupancyMaxActiveBlocks), kernel.Info.Name);
        return new LoadedKernel
        {
            Name = kernel.Info.Name,
            Registers = Property(FunctionProperty.Registers),
            LocalBytes = Property(FunctionProperty.LocalBytes),
            SharedBytes = Property(FunctionProperty.SharedBytes),
            MaxThreads = Property(FunctionProperty.MaxThreadsPerBlock),
            PtxVersion = Property(FunctionProperty.PtxVersion),
            BinaryVersion = Property(FunctionProperty.BinaryVersion),
            BlocksPerMultiprocessor = blocks,
        };

        int Property(FunctionProperty property)
        {
            context.Check(context.Driver.FuncGetAttribute(property, kernel.Function, out int value), nameof(ICudaDriver.FuncGetAttribute),
                kernel.Info.Name);
            return value;
        }
    }
}

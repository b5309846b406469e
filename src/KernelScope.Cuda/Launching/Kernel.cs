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
}

/// <summary>The kernels of a device, loaded at first use: a PTX file is compiled by the driver (which caches the result) when one of its kernels is asked for.</summary>
internal sealed class KernelTable(CudaContext context, PtxImage image) : IDisposable
{
    private readonly Dictionary<string, Kernel> _kernels = new(StringComparer.Ordinal);
    private readonly Dictionary<(string, string, string), Kernel> _composed = [];
    private readonly Dictionary<string, nint> _modules = new(StringComparer.Ordinal);

    /// <summary>The kernel of that name.</summary>
    /// <exception cref="CudaException">The device is too old for it, or the driver does not compile it; the message has the compiler's log.</exception>
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

    /// <summary>The kernel <c>first_second</c> or <c>first_second_third</c>; the name is put together once.</summary>
    public Kernel this[string first, string second, string third = ""]
    {
        get
        {
            if (!_composed.TryGetValue((first, second, third), out Kernel? kernel))
            {
                kernel = this[third.Length == 0 ? $"{first}_{second}" : $"{first}_{second}_{third}"];
                _composed.Add((first, second, third), kernel);
            }

            return kernel;
        }
    }

    public void Dispose()
    {
        foreach (nint module in _modules.Values)
            _ = context.Driver.ModuleUnload(module);
        _modules.Clear();
        _kernels.Clear();
        _composed.Clear();
    }

    private Kernel Load(PtxKernelInfo info)
    {
        int capability = context.Description.ComputeCapability;
        PtxCode code = info.CodeFor(capability) ?? throw new CudaException(CudaResult.NoBinaryForGpu, string.Create(CultureInfo.InvariantCulture,
            $"{context.Description.Name} has compute capability {capability / 10}.{capability % 10}; kernel '{info.Name}' needs {info.Code[0].Target.Capability / 10}.{info.Code[0].Target.Capability % 10} or newer."));
        ICudaDriver driver = context.Driver;
        // Lazily, before anything else of an op: nobody has made the context current yet.
        context.MakeCurrent();
        if (!_modules.TryGetValue(code.File, out nint module))
        {
            CudaResult result = driver.ModuleLoadData(image.Text(code.File), code.File, out module, out CompilerReport report);
            context.Check(result, nameof(ICudaDriver.ModuleLoadData), report.Log.Length == 0 ? $"kernels/ptx/{code.File}" : $"kernels/ptx/{code.File}; the compiler says: {report.Log}");
            _modules.Add(code.File, module);
        }

        context.Check(driver.ModuleGetFunction(module, info.Name, out nint function), nameof(ICudaDriver.ModuleGetFunction), info.Name);
        context.Check(driver.FuncGetAttribute(FunctionProperty.MaxThreadsPerBlock, function, out int threads), nameof(ICudaDriver.FuncGetAttribute), info.Name);
        if (threads < info.GroupSize)
            throw new CudaException(CudaResult.LaunchOutOfResources, $"Kernel '{info.Name}' needs blocks of {info.GroupSize} threads; compiled for {context.Description.Name} it can have {threads}.");
        return new Kernel(info, function);
    }
}

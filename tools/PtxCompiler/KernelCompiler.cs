using ILGPU;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KernelScope.Kernels;

namespace KernelScope.PtxCompiler;

/// <summary>Turns kernels into the PTX that ILGPU gives, as it gives it.</summary>
public sealed class KernelCompiler : IDisposable
{
    /// <summary>The instruction set that is asked for: the oldest with bf16 <c>mma</c> and <c>cp.async</c> (CUDA 11.0).</summary>
    public const string PtxVersion = "7.0";

    private readonly Context _context = Context.Create(builder =>
    {
        PtxCode.Register(builder);
        builder.Optimize(OptimizationLevel.O2).PTXBackend(PTXBackendMode.Enhanced).Inlining(InliningMode.Aggressive);
    });

    /// <summary>The package's version, as it stands in the manifest.</summary>
    public static string IlgpuVersion => typeof(Context).Assembly.GetName().Version?.ToString(3) ?? "";

    /// <summary>Compiles one kernel.</summary>
    /// <exception cref="InvalidOperationException">ILGPU refuses it; the message says why.</exception>
    public string Compile(KernelEntry kernel, GpuTarget target)
    {
        using var backend = new PTXBackend(_context, Architecture(target), CudaInstructionSet.ISA_70, null!);
        try
        {
            var specialization = new KernelSpecialization(kernel.GroupSize, null);
            var compiled =
                (PTXCompiledKernel)backend.Compile(EntryPointDescription.FromExplicitlyGroupedKernel(kernel.Method), specialization);
            return compiled.PTXAssembly;
        }
        catch (InternalCompilerException e)
        {
            Exception inner = e;
            while (inner.InnerException is not null)
                inner = inner.InnerException;
            throw new InvalidOperationException($"Kernel '{kernel.Name}' does not compile: {inner.Message}", e);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _context.Dispose();

    private static CudaArchitecture Architecture(GpuTarget target) => target switch
    {
        GpuTarget.Sm75 => CudaArchitecture.SM_75,
        GpuTarget.Sm80 => CudaArchitecture.SM_80,
        _ => throw new ArgumentOutOfRangeException(nameof(target)),
    };
}

using System.Runtime.InteropServices;
using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator;

/// <summary>
/// What an emulated device looks like. The defaults are those of a compute capability 8.0 device, with more shared memory.
/// </summary>
public sealed record EmulatedGpuOptions
{
    /// <summary>Device memory; host memory is committed only as it is touched, up to three times this.</summary>
    public long MemoryBytes { get; init; } = 1L << 30;

    /// <summary>Multiprocessors: %nsmid.</summary>
    public int MultiprocessorCount { get; init; } = 108;

    /// <summary>Compute capability, major · 10 + minor; a module with a higher target is refused.</summary>
    public int ComputeCapability { get; init; } = 80;

    /// <summary>Shared memory of a block without opting in.</summary>
    public int SharedBytesPerBlock { get; init; } = 48 * 1024;

    /// <summary>Shared memory of a block at most.</summary>
    public int SharedBytesPerBlockOptIn { get; init; } = 227 * 1024;

    /// <summary>Threads of a block at most.</summary>
    public int MaxThreadsPerBlock { get; init; } = 1024;

    /// <summary>Local memory of a thread at most.</summary>
    public int MaxLocalBytesPerThread { get; init; } = 512 * 1024;
}

/// <summary>
/// A device that executes PTX on the host: memory, and launches that check and count. Not thread-safe; a launch runs to its end.
/// </summary>
public sealed unsafe class EmulatedGpu : IDisposable
{
    private readonly GlobalMemory _memory;
    private readonly GlobalRaces _races;
    private readonly Dictionary<PtxVariable, ulong> _variables = [];
    private readonly HashSet<PtxModule> _loaded = [];
    private bool _disposed;

    /// <summary>Makes a device.</summary>
    public EmulatedGpu(EmulatedGpuOptions? options = null)
    {
        Options = options ?? new EmulatedGpuOptions();
        ArgumentOutOfRangeException.ThrowIfLessThan(Options.MemoryBytes, 1 << 16);
        _memory = new GlobalMemory(Options.MemoryBytes);
        _races = new GlobalRaces(_memory);
    }

    /// <summary>Properties.</summary>
    public EmulatedGpuOptions Options { get; }

    /// <summary>Bytes not allocated; not all in one piece, perhaps.</summary>
    public long FreeBytes => _memory.Bytes - _memory.UsedBytes;

    /// <summary>Allocates a buffer, aligned to 256 bytes. Its bytes count as never written.</summary>
    /// <param name="bytes">Length, at least 1.</param>
    /// <param name="name">Name for messages.</param>
    /// <exception cref="InsufficientMemoryException">There is no room.</exception>
    public ulong Allocate(long bytes, string name)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return _memory.Allocate(bytes, name);
    }

    /// <summary>Frees a buffer; a kernel that touches it afterwards faults.</summary>
    public void Free(ulong address)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        _memory.Free(address);
    }

    /// <summary>Copies to the device.</summary>
    /// <exception cref="ArgumentException">The range is not inside one buffer.</exception>
    public void Write(ulong address, ReadOnlySpan<byte> data)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (data.IsEmpty)
            return;
        data.CopyTo(new Span<byte>(_memory.HostRange(address, data.Length, "write"), data.Length));
        _memory.MarkWritten(address, data.Length);
    }

    /// <summary>Copies from the device. Bytes that nothing wrote are returned as they are.</summary>
    public void Read(ulong address, Span<byte> data)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!data.IsEmpty)
            new ReadOnlySpan<byte>(_memory.HostRange(address, data.Length, "read"), data.Length).CopyTo(data);
    }

    /// <summary>Sets every byte of a range.</summary>
    public void Fill(ulong address, byte value, long bytes)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        if (bytes == 0)
            return;
        NativeMemory.Fill(_memory.HostRange(address, bytes, "fill"), (nuint)bytes, value);
        _memory.MarkWritten(address, bytes);
    }

    /// <summary>Copies between buffers; bytes that nothing wrote stay so.</summary>
    public void Copy(ulong target, ulong source, long bytes)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        if (bytes == 0)
            return;
        byte* from = _memory.HostRange(source, bytes, "read");
        byte* to = _memory.HostRange(target, bytes, "write");
        Buffer.MemoryCopy(from, to, bytes, bytes);
        _memory.CopyWritten(target, source, bytes);
    }

    /// <summary>Address of a module's .global or .const variable; loads the module's variables if need be.</summary>
    /// <exception cref="ArgumentException">The module has no such variable.</exception>
    public ulong GlobalAddress(PtxModule module, string name)
    {
        ArgumentNullException.ThrowIfNull(module);
        PtxVariable variable = module.Variables.FirstOrDefault(v => v.Name == name && v.Space is StateSpace.Global or StateSpace.Const)
            ?? throw new ArgumentException($"{module.Name} has no global variable '{name}'", nameof(name));
        LoadVariables(module);
        return _variables[variable];
    }

    /// <summary>Runs a kernel to its end.</summary>
    /// <param name="kernel">The kernel.</param>
    /// <param name="grid">Blocks.</param>
    /// <param name="block">Threads of a block.</param>
    /// <param name="dynamicSharedBytes">Bytes of dynamic shared memory.</param>
    /// <param name="parameters">The parameter block, laid out as <see cref="PtxKernel.Parameters"/> says.</param>
    /// <param name="options">Checks and limits.</param>
    /// <returns>Counters.</returns>
    /// <exception cref="EmulatorFault">The kernel, or the launch, broke a rule. Memory then holds what was written until then.</exception>
    public LaunchResult Launch(PtxKernel kernel, Dim3 grid, Dim3 block, int dynamicSharedBytes, ReadOnlySpan<byte> parameters,
        LaunchOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        ObjectDisposedException.ThrowIf(_disposed, this);
        options ??= new LaunchOptions();
        LaunchContract.Check(Options, kernel, grid, block, dynamicSharedBytes, parameters.Length, options);
        LoadVariables(kernel.Module);
        bool races = options.Checked && grid.Count > 1;
        var launch = new LaunchState(kernel, grid, block, dynamicSharedBytes, parameters.ToArray(), options, _memory, _races, races,
            Options.MultiprocessorCount, v => _variables[v])
        { MatrixModel = ModelOf(options.MatrixModel) };
        try
        {
            return new Launcher(launch).Run();
        }
        finally
        {
            if (races)
                _races.Clear();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_disposed)
            _memory.Dispose();
        _disposed = true;
    }

    private MatrixModel ModelOf(MatrixModel asked) =>
        asked != MatrixModel.OfDevice ? asked : Options.ComputeCapability >= 90 ? MatrixModel.Hopper : MatrixModel.Ampere;

    private void LoadVariables(PtxModule module)
    {
        if (!_loaded.Add(module))
            return;
        foreach (PtxVariable variable in module.Variables.Where(v => v.Space is StateSpace.Global or StateSpace.Const))
        {
            // Module variables without an initialiser begin as zeros.
            var bytes = new byte[variable.Bytes];
            variable.Initializer?.CopyTo(bytes, 0);
            _variables[variable] = _memory.Allocate(variable.Bytes, variable.Name);
            Write(_variables[variable], bytes);
        }
    }
}

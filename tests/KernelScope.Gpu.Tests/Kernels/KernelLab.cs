using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Json;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using KernelScope.Kernels;
using KernelScope.PtxEmulator;
using Kernel = ILGPU.Runtime.Kernel;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>How a kernel is run in a test.</summary>
public enum LabKind
{
    /// <summary>The shipped PTX for sm_80 in the emulator.</summary>
    Sm80,

    /// <summary>The shipped PTX for sm_75 in the emulator.</summary>
    Sm75,

    /// <summary>The C# on ILGPU's CPU accelerator.</summary>
    CSharp,
}

/// <summary>Memory of a lab.</summary>
public sealed class LabBuffer(int bytes, ulong address, MemoryBuffer1D<byte, Stride1D.Dense>? memory)
{
    public int Bytes { get; } = bytes;

    public ulong Address { get; } = address;

    public MemoryBuffer1D<byte, Stride1D.Dense>? Memory { get; } = memory;
}

/// <summary>Runs kernels of the catalogue by name, whatever runs them.</summary>
public abstract class KernelLab : IDisposable
{
    public static KernelLab Create(LabKind kind) =>
        kind == LabKind.CSharp ? new CSharpLab() : new PtxLab(kind == LabKind.Sm80 ? "sm_80" : "sm_75");

    public LabBuffer Floats(params float[] values) => Write(MemoryMarshal.AsBytes<float>(values));

    public LabBuffer Ints(params int[] values) => Write(MemoryMarshal.AsBytes<int>(values));

    public LabBuffer Longs(params long[] values) => Write(MemoryMarshal.AsBytes<long>(values));

    public abstract LabBuffer Write(ReadOnlySpan<byte> data);

    /// <summary>Memory that nothing has written: reading it before a kernel wrote it is a fault of the kernel.</summary>
    public abstract LabBuffer Empty(int bytes);

    public LabBuffer EmptyFloats(int count) => Empty(4 * count);

    public float[] ReadFloats(LabBuffer buffer) => Read<float>(buffer);

    public int[] ReadInts(LabBuffer buffer) => Read<int>(buffer);

    public long[] ReadLongs(LabBuffer buffer) => Read<long>(buffer);

    /// <summary>Runs a kernel; arguments in the order of its parameters.</summary>
    public abstract LaunchResult? Run(string kernel, Dim3 grid, params object[] arguments);

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);

    protected abstract void ReadBytes(LabBuffer buffer, Span<byte> data);

    private T[] Read<T>(LabBuffer buffer)
        where T : unmanaged
    {
        byte[] data = new byte[buffer.Bytes];
        ReadBytes(buffer, data);
        return MemoryMarshal.Cast<byte, T>(data).ToArray();
    }
}

/// <summary>The committed PTX in the emulator.</summary>
public sealed class PtxLab(string target) : KernelLab
{
    private static readonly Dictionary<string, (int Group, (int Offset, int Size, string Type)[] Parameters,
        Dictionary<string, string> Files)> Manifest = ReadManifest();
    private static readonly Dictionary<string, PtxModule> Modules = [];

    private readonly EmulatedGpu _gpu = new(new EmulatedGpuOptions { MemoryBytes = 64 << 20 });

    /// <summary>How tensor cores sum; as the target's generation does if it is not said.</summary>
    public MatrixModel Model { get; init; }

    public override LabBuffer Write(ReadOnlySpan<byte> data)
    {
        LabBuffer buffer = Empty(data.Length);
        _gpu.Write(buffer.Address, data);
        return buffer;
    }

    public override LabBuffer Empty(int bytes) => new(bytes, _gpu.Allocate(Math.Max(bytes, 1), "test"), null);

    public override LaunchResult? Run(string kernel, Dim3 grid, params object[] arguments)
    {
        var entry = Manifest[kernel];
        Assert.Equal(entry.Parameters.Length, arguments.Length);
        byte[] block = new byte[entry.Parameters[^1].Offset + entry.Parameters[^1].Size];
        for (int i = 0; i < arguments.Length; i++)
            WriteArgument(block.AsSpan(entry.Parameters[i].Offset, entry.Parameters[i].Size), arguments[i]);
        PtxModule module = Module(entry.Files[target]);
        return _gpu.Launch(module.Kernel(kernel), grid, new Dim3(entry.Group), 0, block,
            new LaunchOptions { CountFootprint = true, MatrixModel = Model });
    }

    protected override void ReadBytes(LabBuffer buffer, Span<byte> data) => _gpu.Read(buffer.Address, data);

    protected override void Dispose(bool disposing) => _gpu.Dispose();

    private static PtxModule Module(string file)
    {
        lock (Modules)
        {
            if (!Modules.TryGetValue(file, out PtxModule? module))
                Modules.Add(file, module = PtxModule.Parse(File.ReadAllText(Path.Combine(Repository.PtxFolder, file)), file));
            return module;
        }
    }

    private static void WriteArgument(Span<byte> target, object argument)
    {
        switch (argument)
        {
            case LabBuffer buffer:
                BitConverter.TryWriteBytes(target, buffer.Address);
                BitConverter.TryWriteBytes(target[8..], (long)buffer.Bytes);
                break;
            case int value:
                Assert.True(target.Length == 4 && BitConverter.TryWriteBytes(target, value));
                break;
            case long value:
                Assert.True(target.Length == 8 && BitConverter.TryWriteBytes(target, value));
                break;
            case float value:
                Assert.True(target.Length == 4 && BitConverter.TryWriteBytes(target, value));
                break;
            default:
                throw new ArgumentException($"{argument.GetType()} is not a kernel argument.");
        }
    }

    private static Dictionary<string, (int, (int, int, string)[], Dictionary<string, string>)> ReadManifest()
    {
        using JsonDocument json = JsonDocument.Parse(File.ReadAllText(Path.Combine(Repository.PtxFolder, "manifest.json")));
        return json.RootElement.GetProperty("kernels").EnumerateArray().ToDictionary(
            k => k.GetProperty("name").GetString()!,
            k => (
                k.GetProperty("group_size").GetInt32(),
                k.GetProperty("parameters").EnumerateArray()
                    .Select(p => (p.GetProperty("offset").GetInt32(), p.GetProperty("size").GetInt32(), p.GetProperty("type").GetString()!))
                    .ToArray(),
                k.GetProperty("code")
                .EnumerateArray().ToDictionary(c => c.GetProperty("target").GetString()!, c => c.GetProperty("file").GetString()!)));
    }
}

/// <summary>The C# methods on ILGPU's simulator: warps of 32, real threads, about 10⁵ multiply-adds a second.</summary>
public sealed class CSharpLab : KernelLab
{
    private readonly Context _context = Context.Create(b => b.CPU(CPUDeviceKind.Nvidia));
    private readonly Accelerator _accelerator;

    public CSharpLab()
    {
        _accelerator = _context.GetCPUDevice(0).CreateCPUAccelerator(_context, CPUAcceleratorMode.Auto);
    }

    public override LabBuffer Write(ReadOnlySpan<byte> data)
    {
        LabBuffer buffer = Empty(data.Length);
        buffer.Memory!.CopyFromCPU(data.ToArray());
        return buffer;
    }

    public override LabBuffer Empty(int bytes) => new(bytes, 0, _accelerator.Allocate1D<byte>(Math.Max(bytes, 1)));

    public override LaunchResult? Run(string kernel, Dim3 grid, params object[] arguments)
    {
        KernelEntry entry = Catalog.All.Single(k => k.Name == kernel);
        Run(entry.Method, entry.GroupSize, grid, arguments);
        return null;
    }

    /// <summary>Runs a method that is not in the catalogue: the plain form that a shipped one is held against.</summary>
    public void Run(MethodInfo method, int groupSize, Dim3 grid, params object[] arguments)
    {
        ParameterInfo[] parameters = method.GetParameters();
        using Kernel loaded = _accelerator.LoadKernel(method);
        Type[] types = [typeof(AcceleratorStream), typeof(KernelConfig), .. parameters.Select(p => p.ParameterType), typeof(void)];
        MethodInfo create =
            typeof(Kernel).GetMethod(nameof(Kernel.CreateLauncherDelegate))!.MakeGenericMethod(
                System.Linq.Expressions.Expression.GetDelegateType(types));
        var launcher = (Delegate)create.Invoke(loaded, null)!;
        object[] values =
            [.. arguments.Select((a, i) => a is LabBuffer b ? View(b, parameters[i].ParameterType.GetGenericArguments()[0]) : a)];
        var config = new KernelConfig(new Index3D(grid.X, grid.Y, grid.Z), new Index3D(groupSize, 1, 1));
        launcher.DynamicInvoke([_accelerator.DefaultStream, config, .. values]);
        _accelerator.Synchronize();
    }

    protected override void ReadBytes(LabBuffer buffer, Span<byte> data)
    {
        byte[] all = buffer.Memory!.GetAsArray1D();
        all.AsSpan(0, data.Length).CopyTo(data);
    }

    protected override void Dispose(bool disposing)
    {
        _accelerator.Dispose();
        _context.Dispose();
    }

    private static object View(LabBuffer buffer, Type element) =>
        typeof(CSharpLab).GetMethod(nameof(ViewOf), BindingFlags.NonPublic | BindingFlags.Static)!.MakeGenericMethod(element)
            .Invoke(null, [buffer])!;

    private static ArrayView<T> ViewOf<T>(LabBuffer buffer)
        where T : unmanaged => buffer.Memory!.View.BaseView.Cast<T>();
}

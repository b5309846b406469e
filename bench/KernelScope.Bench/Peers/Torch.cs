using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KernelScope.Files;
using static TorchSharp.torch;

namespace KernelScope.Bench.Peers;

/// <summary>TorchSharp: whether its natives are there, and tensors over the same values as ours.</summary>
internal static class Torch
{
    private static string? _missing;
    private static bool _asked;

    /// <summary>The names of the two forms in tables.</summary>
    public static string Name(DType type) => type == DType.F32 ? "TorchSharp f32" : "TorchSharp bf16";

    /// <summary>Makes peers of a contest, or notes why they are not there.</summary>
    public static void Join(Contest contest, Machine machine, Action join)
    {
        if (!_asked)
        {
            _missing = Start(machine.Options.Threads);
            _asked = true;
        }

        if (_missing is null)
            join();
        else
            contest.Notes.Add(_missing);
    }

    /// <summary>A copy of a stored tensor, as it is stored or in another type.</summary>
    public static unsafe Tensor Of(TensorView view, DType type)
    {
        Tensor tensor = empty([.. view.Shape], Scalar(view.DType));
        new Span<byte>(view.Pointer, checked((int)view.ByteLength)).CopyTo(tensor.bytes);
        return type == view.DType ? tensor : Converted(tensor, type);
    }

    /// <summary>A matrix of values in one of the types.</summary>
    public static Tensor Of(float[] values, int rows, DType type)
    {
        Tensor whole = tensor(values).reshape(rows, values.Length / rows);
        return type == DType.F32 ? whole : Converted(whole, type);
    }

    /// <summary>The values of a tensor, in the order of its indices.</summary>
    public static float[] Floats(Tensor values)
    {
        using Tensor wide = values.to_type(ScalarType.Float32).contiguous();
        return wide.data<float>().ToArray();
    }

    public static ScalarType Scalar(DType type) => type == DType.F32 ? ScalarType.Float32 : ScalarType.BFloat16;

    private static Tensor Converted(Tensor source, DType type)
    {
        using (source)
            return source.to_type(Scalar(type));
    }

    // Natives are loaded here first: TorchSharp itself would print how it searches for them, and copy those that it finds in a package cache.
    private static string? Start(int threads)
    {
        const string How = "build the program with -p:Peers=true to have it";
        string native = OperatingSystem.IsWindows() ? "LibTorchSharp.dll" : OperatingSystem.IsMacOS() ? "libLibTorchSharp.dylib"
            : "libLibTorchSharp.so";
        string path = Path.Combine(AppContext.BaseDirectory, native);
        if (!File.Exists(path))
            return $"TorchSharp: {native} is not there; {How}";
        try
        {
            NativeLibrary.Load(path);
            Configure(threads);
            return null;
        }
        catch (Exception failure) when (failure is DllNotFoundException or BadImageFormatException or TypeInitializationException)
        {
            return $"TorchSharp: {native} does not load on this machine: "
                + $"{(failure.InnerException ?? failure).Message.ReplaceLineEndings(" ")}";
        }
    }

    // The type cannot be named before its natives are known to load.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Configure(int threads)
    {
        set_num_threads(threads);
        set_grad_enabled(false);
    }
}

/// <summary>A contestant that makes a tensor: the last one is kept for the comparison.</summary>
internal sealed class TorchRun(string name, Func<Tensor> run, Func<Tensor, float[]>? read = null) : IDisposable
{
    private Tensor? _last;

    public Contestant Contestant => new(
        name,
        () =>
        {
            _last?.Dispose();
            using (NewDisposeScope())
                _last = run().MoveToOuterDisposeScope();
        },
        () => (read ?? Torch.Floats)(_last!));

    public void Dispose() => _last?.Dispose();
}

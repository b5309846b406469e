using System.Runtime.CompilerServices;
using KernelScope.Files;
using Microsoft.ML.OnnxRuntime;

namespace KernelScope.Bench.Peers;

/// <summary>ONNX Runtime: whether its native is there.</summary>
internal static class Onnx
{
    private static string? _missing;
    private static bool _asked;

    /// <summary>Makes peers of a contest, or notes why they are not there.</summary>
    public static void Join(Contest contest, Action join)
    {
        if (!_asked)
        {
            _missing = Start();
            _asked = true;
        }

        if (_missing is null)
            join();
        else
            contest.Notes.Add(_missing);
    }

    private static string? Start()
    {
        try
        {
            Touch();
            return null;
        }
        catch (Exception failure) when (failure is TypeInitializationException or DllNotFoundException or EntryPointNotFoundException)
        {
            return "ONNX Runtime: its native is not there; build the program with -p:Peers=true to have it";
        }
    }

    // The type cannot be named before its native is known to load.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Touch() => new SessionOptions().Dispose();
}

/// <summary>An encoder by ONNX Runtime: one Gemm with the weights packed when the model is loaded, then θ. Inputs and outputs are bound once; it makes no lists.</summary>
internal sealed class OnnxEncoder : IDisposable
{
    private readonly InferenceSession _session;
    private readonly OrtIoBinding _binding;
    private readonly RunOptions _options = new();
    private readonly OrtValue _x;
    private readonly OrtValue _y;
    private readonly float[] _result;

    public unsafe OnnxEncoder(TensorView weight, float[] x, float[] bias, float threshold, int rows, int threads)
    {
        int inputs = x.Length / rows;
        byte[] model = OnnxModel.Encoder(Wide(weight), bias, [.. Enumerable.Repeat(threshold, bias.Length)], rows, inputs);
        using var options =
            new SessionOptions
            {
                IntraOpNumThreads = threads,
                InterOpNumThreads = 1,
                GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL
            };
        _session = new InferenceSession(model, options);
        _result = new float[(long)rows * bias.Length];
        _x = OrtValue.CreateTensorValueFromMemory(x, [rows, inputs]);
        _y = OrtValue.CreateTensorValueFromMemory(_result, [rows, bias.Length]);
        _binding = _session.CreateIoBinding();
        _binding.BindInput("x", _x);
        _binding.BindOutput("y", _y);
    }

    public Contestant Contestant => new("ONNX Runtime f32", () => _session.RunWithBinding(_options, _binding), () => _result);

    public void Dispose()
    {
        _binding.Dispose();
        _x.Dispose();
        _y.Dispose();
        _options.Dispose();
        _session.Dispose();
    }

    /// <summary>The weights in float32.</summary>
    private static unsafe ReadOnlySpan<byte> Wide(TensorView weight)
    {
        if (weight.DType == DType.F32)
            return new ReadOnlySpan<byte>(weight.Pointer, checked((int)weight.ByteLength));
        var wide = new float[weight.ElementCount];
        Numerics.BFloat16.Widen(new ReadOnlySpan<Numerics.BFloat16>(weight.Pointer, wide.Length), wide);
        return System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(wide);
    }
}

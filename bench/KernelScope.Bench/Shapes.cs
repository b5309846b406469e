using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Bench;

/// <summary>Random parameters of Gemma 2 2B's shapes in a file of their own, mapped as a model's are. Nothing needs to be downloaded.</summary>
internal sealed class Shapes : IDisposable
{
    public const int Hidden = 2304;
    public const int Mlp = 9216;
    public const int Qkv = 4096;
    public const int Z = 2048;
    public const int Features = 16384;

    private readonly string _path;
    private readonly SafetensorsFile _file;

    /// <summary>Writes and maps the file.</summary>
    public Shapes(string folder)
    {
        _path = Path.Combine(folder, $"kernelscope-bench-{Environment.ProcessId}.safetensors");
        Write(_path);
        _file = SafetensorsFile.Open(_path);
    }

    /// <summary>Bytes of the one tensor that nothing computes with: memory to read for the limit.</summary>
    public TensorView Filler => this["filler"];

    /// <summary>A tensor by name.</summary>
    public TensorView this[string name] => _file[name];

    /// <summary>A weight from one tensor.</summary>
    public Weight Weight(Device device, string name, bool transposed = false) => device.CreateWeight(name, new WeightPart(this[name], transposed));

    public void Dispose()
    {
        _file.Dispose();
        File.Delete(_path);
    }

    private static void Write(string path)
    {
        var tensors = new List<TensorInfo> { new("filler", DType.F32, [64 << 20]) };
        foreach (DType type in (ReadOnlySpan<DType>)[DType.BF16, DType.F32])
        {
            tensors.Add(new($"qkv.{type}", type, [Qkv, Hidden]));
            tensors.Add(new($"o.{type}", type, [Hidden, Z]));
            tensors.Add(new($"gate_up.{type}", type, [2 * Mlp, Hidden]));
            tensors.Add(new($"down.{type}", type, [Hidden, Mlp]));
            tensors.Add(new($"w_enc.{type}", type, [Hidden, Features]));
            tensors.Add(new($"w_dec.{type}", type, [Features, Hidden]));
        }

        using var writer = new SafetensorsWriter(path, tensors);
        var random = new Random(1);
        float[] values = new float[1 << 16];
        foreach (ref float value in values.AsSpan())
            value = (random.NextSingle() - 0.5f) * 0.05f;
        var narrow = new BFloat16[values.Length];
        BFloat16.Narrow(values, narrow);
        foreach (TensorInfo tensor in tensors)
        {
            for (long left = tensor.ElementCount; left > 0;)
            {
                int count = (int)Math.Min(left, values.Length);
                if (tensor.DType == DType.F32)
                    writer.Append<float>(values.AsSpan(0, count));
                else
                    writer.Append<BFloat16>(narrow.AsSpan(0, count));
                left -= count;
            }
        }

        writer.Commit();
    }
}

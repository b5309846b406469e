using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Bench;

/// <summary>Random tensors in a temporary file, mapped as a model's are. Nothing needs to be downloaded.</summary>
internal sealed class RandomTensors : IDisposable
{
    private readonly string _path;
    private readonly SafetensorsFile _file;

    /// <summary>Writes and maps a file of some tensors.</summary>
    public RandomTensors(string folder, params IReadOnlyList<TensorInfo> tensors)
    {
        _path = Path.Combine(folder, $"kernelscope-bench-{Guid.NewGuid():n}.safetensors");
        Write(_path, tensors);
        _file = SafetensorsFile.Open(_path);
    }

    /// <summary>A tensor by name.</summary>
    public TensorView this[string name] => _file[name];

    /// <summary>Whether these are the tensors, in this order.</summary>
    public bool Holds(IReadOnlyList<TensorInfo> tensors) =>
        tensors.Select(t => t.ToString()).SequenceEqual(_file.Contents.Select(t => t.ToString()));

    public void Dispose()
    {
        _file.Dispose();
        File.Delete(_path);
    }

    /// <summary>Values evenly spread over ±0.025, as large as trained weights are, so that nothing overflows or vanishes.</summary>
    public static void Write(string path, IReadOnlyList<TensorInfo> tensors)
    {
        using var writer = new SafetensorsWriter(path, tensors);
        // Not a power of two: rows must not repeat.
        float[] values = Values(1_000_003, 0.025f);
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

    /// <summary>The same values for the same arguments.</summary>
    public static float[] Values(int count, float size)
    {
        var random = new Random(count);
        var values = new float[count];
        foreach (ref float value in values.AsSpan())
            value = ((2 * random.NextSingle()) - 1) * size;
        return values;
    }
}

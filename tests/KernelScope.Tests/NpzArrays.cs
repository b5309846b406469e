using System.Runtime.InteropServices;
using KernelScope.Files;

namespace KernelScope.Tests;

/// <summary>Arrays of a golden by name, in the type in which the test wants them.</summary>
internal sealed class NpzArrays(string path) : IDisposable
{
    private readonly NpzFile _file = NpzFile.Open(path);

    public IEnumerable<string> Names => _file.Contents.Select(c => c.Name);

    public bool Has(string name) => _file.TryGet(name, out _);

    public long[] Shape(string name) => _file[name].Shape.ToArray();

    public float[] Floats(string name)
    {
        TensorView view = _file[name];
        float[] values = new float[view.ElementCount];
        view.CopyTo(values);
        return values;
    }

    public double[] Doubles(string name) => Cast<double>(name, DType.F64);

    public long[] Int64(string name) => _file[name].DType == DType.I32 ? [.. Cast<int>(name, DType.I32).Select(v => (long)v)]
        : Cast<long>(name, DType.I64);

    public int[] Int32(string name) => Cast<int>(name, DType.I32);

    /// <summary>Any numeric array, widened.</summary>
    public double[] Any(string name) => _file[name].DType switch
    {
        DType.F32 => [.. Floats(name).Select(v => (double)v)],
        DType.F64 => Doubles(name),
        _ => [.. Int64(name).Select(v => (double)v)],
    };

    public void Dispose() => _file.Dispose();

    private unsafe T[] Cast<T>(string name, DType type)
        where T : unmanaged
    {
        TensorView view = _file[name];
        Assert.Equal(type, view.DType);
        return MemoryMarshal.Cast<byte, T>(new ReadOnlySpan<byte>(view.Pointer, checked((int)view.ByteLength))).ToArray();
    }
}

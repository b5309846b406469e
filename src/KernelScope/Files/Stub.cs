#pragma warning disable
using KernelScope.Numerics;
namespace KernelScope.Files;
/// <summary>Placeholder until the readers land.</summary>
public enum DType { F32, BF16, F16, F64, I64, I32, U8 }
/// <summary>Placeholder until the readers land.</summary>
public readonly unsafe struct TensorView
{
    private readonly long[] _shape;
    public TensorView(string file, string name, DType dtype, long[] shape, byte* pointer, long byteLength, bool columnMajor = false)
    { File = file; Name = name; DType = dtype; _shape = shape; Pointer = pointer; ByteLength = byteLength; ColumnMajor = columnMajor; }
    public string File { get; }
    public string Name { get; }
    public DType DType { get; }
    public ReadOnlySpan<long> Shape => _shape;
    public byte* Pointer { get; }
    public long ByteLength { get; }
    public bool ColumnMajor { get; }
    public long ElementCount { get { long n = 1; foreach (long d in _shape) n *= d; return n; } }
    public string Describe() => $"{File}: {Name} {DType} [{string.Join(", ", _shape)}]";
    public void CopyTo(Span<float> destination)
    {
        for (int i = 0; i < destination.Length; i++)
            destination[i] = DType switch { DType.F32 => ((float*)Pointer)[i], DType.BF16 => BitConverter.UInt32BitsToSingle((uint)((ushort*)Pointer)[i] << 16), DType.F16 => (float)((Half*)Pointer)[i], _ => (float)((double*)Pointer)[i] };
    }
}

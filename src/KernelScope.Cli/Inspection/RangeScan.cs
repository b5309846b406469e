using System.Runtime.InteropServices;
using KernelScope.Files;
using KernelScope.Numerics;

namespace KernelScope.Cli.Inspection;

/// <summary>Range and mean of values that pass by in pieces.</summary>
internal sealed class RangeScan(DType dtype)
{
    private double _minimum = double.PositiveInfinity, _maximum = double.NegativeInfinity, _sum;
    private long _count, _nanCount;

    /// <summary>Whether values of this type have a range.</summary>
    public static bool Covers(DType dtype) => dtype.IsFloat() || dtype.IsInteger();

    /// <summary>Takes whole elements, as stored.</summary>
    public void Add(ReadOnlySpan<byte> bytes)
    {
        switch (dtype)
        {
            case DType.F32: Add<float>(bytes, x => x); break;
            case DType.BF16: Add<BFloat16>(bytes, x => (float)x); break;
            case DType.F16: Add<Half>(bytes, x => (float)x); break;
            case DType.F64: Add<double>(bytes, x => x); break;
            case DType.I64: Add<long>(bytes, x => x); break;
            case DType.I32: Add<int>(bytes, x => x); break;
            case DType.I16: Add<short>(bytes, x => x); break;
            case DType.I8: Add<sbyte>(bytes, x => x); break;
            case DType.U64: Add<ulong>(bytes, x => x); break;
            case DType.U32: Add<uint>(bytes, x => x); break;
            case DType.U16: Add<ushort>(bytes, x => x); break;
            case DType.U8: Add<byte>(bytes, x => x); break;
            default: throw new InvalidOperationException($"{dtype} has no range.");
        }
    }

    /// <summary>The range of all that was added.</summary>
    public TensorRange Result => _count == 0 ? new TensorRange(double.NaN, double.NaN, double.NaN, _nanCount)
        : new TensorRange(_minimum, _maximum, _sum / _count, _nanCount);

    // The bytes come from a buffer that begins at an element, so the cast is aligned.
    private void Add<T>(ReadOnlySpan<byte> bytes, Func<T, double> widen) where T : unmanaged
    {
        foreach (T stored in MemoryMarshal.Cast<byte, T>(bytes))
        {
            double x = widen(stored);
            if (double.IsNaN(x))
            {
                _nanCount++;
                continue;
            }
            _count++;
            _sum += x;
            _minimum = Math.Min(_minimum, x);
            _maximum = Math.Max(_maximum, x);
        }
    }
}

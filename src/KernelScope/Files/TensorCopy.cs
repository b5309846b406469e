using System.Runtime.CompilerServices;
using KernelScope.Numerics;

namespace KernelScope.Files;

/// <summary>Copies a tensor's elements in row-major order, whatever their stored type and order. For what is used once; weights are used in place.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static unsafe class TensorCopy
{
    /// <summary>Copies all elements as float32: bf16 and f16 exactly, f64 rounded to nearest.</summary>
    /// <exception cref="InvalidDataException">The tensor holds no floating-point numbers.</exception>
    /// <exception cref="ArgumentException"><paramref name="destination"/> has another length.</exception>
    public static void CopyTo(this in TensorView tensor, Span<float> destination)
    {
        if (destination.Length != tensor.ElementCount)
            throw new ArgumentException($"{tensor.Describe()} does not fill {destination.Length} elements.", nameof(destination));
        CopyTo(tensor, 0, destination);
    }

    /// <summary>Copies the elements from <paramref name="first"/> on (counted in row-major order) as float32 until <paramref name="destination"/> is full.</summary>
    /// <exception cref="InvalidDataException">The tensor holds no floating-point numbers.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There are fewer elements.</exception>
    public static void CopyTo(this in TensorView tensor, long first, Span<float> destination)
    {
        CheckRange(tensor, first, destination.Length);
        using TensorView.Reading reading = tensor.Read();
        bool inOrder = !tensor.ColumnMajor || tensor.Shape.Length < 2;
        byte* start = tensor.Pointer + (inOrder ? first * tensor.DType.ByteSize() : 0);
        switch (tensor.DType)
        {
            case DType.F32 when inOrder:
                new ReadOnlySpan<byte>(start, destination.Length * sizeof(float))
                    .CopyTo(System.Runtime.InteropServices.MemoryMarshal.AsBytes(destination));
                break;
            case DType.BF16 when inOrder:
                BFloat16.Widen(new ReadOnlySpan<BFloat16>(start, destination.Length), destination);
                break;
            case DType.F32: Gather<float>(tensor, first, destination, x => x); break;
            case DType.BF16: Gather<BFloat16>(tensor, first, destination, x => (float)x); break;
            case DType.F16: Gather<Half>(tensor, first, destination, x => (float)x); break;
            case DType.F64: Gather<double>(tensor, first, destination, x => (float)x); break;
            default: throw BadFile.At(tensor.File, $"{tensor.Info} does not hold floating-point numbers.");
        }
        GC.KeepAlive(tensor.Owner);
    }

    /// <summary>All elements as a new float32 array, in row-major order.</summary>
    /// <exception cref="InvalidDataException">The tensor holds no floating-point numbers, or more than an array can.</exception>
    public static float[] ToFloats(this in TensorView tensor)
    {
        float[] values = new float[LengthForArray(tensor)];
        CopyTo(tensor, 0, values);
        return values;
    }

    /// <summary>All elements of an integer tensor (token ids, row pointers) as a new array, in row-major order.</summary>
    /// <exception cref="InvalidDataException">The tensor holds no integers, a value over 2⁶³−1, or more than an array can.</exception>
    public static long[] ToInt64s(this in TensorView tensor)
    {
        long[] values = new long[LengthForArray(tensor)];
        using TensorView.Reading reading = tensor.Read();
        TensorView t = tensor;
        switch (tensor.DType)
        {
            case DType.I64: Gather<long, long>(tensor, 0, values, x => x); break;
            case DType.I32: Gather<int, long>(tensor, 0, values, x => x); break;
            case DType.I16: Gather<short, long>(tensor, 0, values, x => x); break;
            case DType.I8: Gather<sbyte, long>(tensor, 0, values, x => x); break;
            case DType.U64: Gather<ulong, long>(tensor, 0, values, x => Signed(t, x)); break;
            case DType.U32: Gather<uint, long>(tensor, 0, values, x => x); break;
            case DType.U16: Gather<ushort, long>(tensor, 0, values, x => x); break;
            case DType.U8: Gather<byte, long>(tensor, 0, values, x => x); break;
            default: throw BadFile.At(tensor.File, $"{tensor.Info} does not hold integers.");
        }
        GC.KeepAlive(tensor.Owner);
        return values;
    }

    private static int LengthForArray(in TensorView tensor) =>
        tensor.ElementCount <= Array.MaxLength ? (int)tensor.ElementCount
            : throw BadFile.At(tensor.File, $"{tensor.Info} has more elements than one array can hold.");

    private static void CheckRange(in TensorView tensor, long first, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        if (first > tensor.ElementCount - count)
            throw new ArgumentOutOfRangeException(nameof(first), $"{tensor.Describe()} has no elements {first} to {first + count - 1}.");
    }

    private static void Gather<T>(in TensorView tensor, long first, Span<float> destination, Func<T, float> convert) where T : unmanaged =>
        Gather<T, float>(tensor, first, destination, convert);

    private static long Signed(in TensorView tensor, ulong value) => value <= long.MaxValue ? (long)value
        : throw BadFile.At(tensor.File, $"{tensor.Info} holds {value}, over 2^63 - 1.");

    private static void Gather<T, TResult>(in TensorView tensor, long first, Span<TResult> destination, Func<T, TResult> convert)
        where T : unmanaged
    {
        T* source = (T*)tensor.Pointer;
        if (!tensor.ColumnMajor || tensor.Shape.Length < 2)
        {
            for (int i = 0; i < destination.Length; i++)
                destination[i] = convert(Unsafe.ReadUnaligned<T>(source + first + i));
            return;
        }
        if (destination.IsEmpty)
            return;
        ReadOnlySpan<long> shape = tensor.Shape;
        Span<long> index = stackalloc long[shape.Length];
        Span<long> stride = stackalloc long[shape.Length];
        long place = Locate(shape, first, index, stride);
        int last = shape.Length - 1;
        for (int i = 0; i < destination.Length; i++)
        {
            destination[i] = convert(Unsafe.ReadUnaligned<T>(source + place));
            int axis = last;
            place += stride[axis];
            while (++index[axis] == shape[axis] && axis > 0)
            {
                place += stride[axis - 1] - (shape[axis] * stride[axis]);
                index[axis] = 0;
                axis--;
            }
        }
    }

    // Index of the row-major element `first`, the strides of the column-major layout, and the element's place in it.
    private static long Locate(ReadOnlySpan<long> shape, long first, Span<long> index, Span<long> stride)
    {
        long step = 1, place = 0;
        for (int axis = 0; axis < shape.Length; axis++)
        {
            stride[axis] = step;
            step *= shape[axis];
        }
        for (int axis = shape.Length - 1; axis >= 0; axis--)
        {
            (first, index[axis]) = Math.DivRem(first, shape[axis]);
            place += index[axis] * stride[axis];
        }
        return place;
    }
}

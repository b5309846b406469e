namespace KernelScope.Files;

/// <summary>Element types of stored tensors, little-endian. Only the first four can be computed with; the others can be listed and copied.</summary>
public enum DType
{
    /// <summary>IEEE float32.</summary>
    F32,
    /// <summary>The upper half of a float32.</summary>
    BF16,
    /// <summary>IEEE float16.</summary>
    F16,
    /// <summary>IEEE float64.</summary>
    F64,
    /// <summary>Signed 64-bit integer.</summary>
    I64,
    /// <summary>Signed 32-bit integer.</summary>
    I32,
    /// <summary>Signed 16-bit integer.</summary>
    I16,
    /// <summary>Signed 8-bit integer.</summary>
    I8,
    /// <summary>Unsigned 64-bit integer.</summary>
    U64,
    /// <summary>Unsigned 32-bit integer.</summary>
    U32,
    /// <summary>Unsigned 16-bit integer.</summary>
    U16,
    /// <summary>Unsigned 8-bit integer.</summary>
    U8,
    /// <summary>One byte, 0 or 1.</summary>
    Bool,
    /// <summary>8-bit float with 4 exponent and 3 fraction bits.</summary>
    F8E4M3,
    /// <summary>8-bit float with 5 exponent and 2 fraction bits.</summary>
    F8E5M2,
    /// <summary>Two float32: real and imaginary part.</summary>
    C64,
    /// <summary>Two float64: real and imaginary part.</summary>
    C128,
}

/// <summary>Sizes and names of <see cref="DType"/>.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class DTypes
{
    // Name in a safetensors header, descr in an .npy header (null: NumPy has no such type), bytes per element; in the order of the enum.
    private static readonly (DType Type, string Name, string? Npy, int Size)[] Table =
    [
        (DType.F32, "F32", "<f4", 4), (DType.BF16, "BF16", null, 2), (DType.F16, "F16", "<f2", 2), (DType.F64, "F64", "<f8", 8),
        (DType.I64, "I64", "<i8", 8), (DType.I32, "I32", "<i4", 4), (DType.I16, "I16", "<i2", 2), (DType.I8, "I8", "|i1", 1),
        (DType.U64, "U64", "<u8", 8), (DType.U32, "U32", "<u4", 4), (DType.U16, "U16", "<u2", 2), (DType.U8, "U8", "|u1", 1),
        (DType.Bool, "BOOL", "|b1", 1), (DType.F8E4M3, "F8_E4M3", null, 1), (DType.F8E5M2, "F8_E5M2", null, 1),
        (DType.C64, "C64", "<c8", 8), (DType.C128, "C128", "<c16", 16),
    ];

    /// <summary>Bytes of one element.</summary>
    public static int ByteSize(this DType type) => Table[(int)type].Size;

    /// <summary>The name in a safetensors header: <c>F32</c>, <c>BF16</c>, <c>BOOL</c>.</summary>
    public static string SafetensorsName(this DType type) => Table[(int)type].Name;

    /// <summary>Whether weights and activations may have this type: F32, BF16, F16 or F64.</summary>
    public static bool IsFloat(this DType type) => type <= DType.F64;

    /// <summary>Whether it is a signed or unsigned integer.</summary>
    public static bool IsInteger(this DType type) => type is >= DType.I64 and <= DType.U8;

    /// <summary>The type with this safetensors name (case matters); null if there is none.</summary>
    public static DType? FromSafetensors(string name)
    {
        foreach (var row in Table)
            if (row.Name == name)
                return row.Type;
        return null;
    }

    /// <summary>The <c>descr</c> of an .npy header; null if NumPy has no such type.</summary>
    internal static string? NpyDescr(this DType type) => Table[(int)type].Npy;

    /// <summary>
    /// The type with this .npy <c>descr</c>, and whether its elements are big-endian; null if there is none. Byte order means nothing for one byte, so <c>&lt;u1</c> is <c>|u1</c>.
    /// NumPy has no bfloat16: with the package ml_dtypes it writes two opaque bytes, or the name.
    /// </summary>
    internal static (DType Type, bool BigEndian)? FromNpy(string descr)
    {
        if (descr is "|V2" or "<V2" or "bfloat16")
            return (DType.BF16, false);
        foreach (var row in Table)
        {
            if (row.Npy is null)
                continue;
            if (row.Npy == descr || (row.Size == 1 && descr.Length == row.Npy.Length && descr[0] is '<' or '>'
                && descr.AsSpan(1).SequenceEqual(row.Npy.AsSpan(1))))
                return (row.Type, false);
            if (row.Size > 1 && descr.StartsWith('>') && descr.AsSpan(1).SequenceEqual(row.Npy.AsSpan(1)))
                return (row.Type, true);
        }
        return null;
    }

    /// <summary>The type of a .NET element type.</summary>
    /// <exception cref="ArgumentException">Files have no such element type.</exception>
    public static DType Of<T>() where T : unmanaged =>
        typeof(T) == typeof(float) ? DType.F32 :
        typeof(T) == typeof(Numerics.BFloat16) ? DType.BF16 :
        typeof(T) == typeof(Half) ? DType.F16 :
        typeof(T) == typeof(double) ? DType.F64 :
        typeof(T) == typeof(long) ? DType.I64 :
        typeof(T) == typeof(int) ? DType.I32 :
        typeof(T) == typeof(short) ? DType.I16 :
        typeof(T) == typeof(sbyte) ? DType.I8 :
        typeof(T) == typeof(ulong) ? DType.U64 :
        typeof(T) == typeof(uint) ? DType.U32 :
        typeof(T) == typeof(ushort) ? DType.U16 :
        typeof(T) == typeof(byte) ? DType.U8 :
        typeof(T) == typeof(bool) ? DType.Bool :
        throw new ArgumentException($"Tensor files hold no {typeof(T).Name}.");
}

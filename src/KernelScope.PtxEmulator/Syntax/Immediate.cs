namespace KernelScope.PtxEmulator.Syntax;

/// <summary>A literal in the text, before the instruction gives it a type.</summary>
internal readonly record struct Immediate(bool IsFloat, ulong Bits, double Value, uint? SingleBits)
{
    public static Immediate Integer(ulong bits) => new(false, bits, 0, null);

    public static Immediate Float(float value, uint bits) => new(true, 0, value, bits);

    public static Immediate Double(double value) => new(true, 0, value, null);

    public Immediate Negated() => IsFloat
        ? new Immediate(true, 0, -Value, SingleBits is { } bits ? bits ^ 0x8000_0000u : null)
        : Integer(0UL - Bits);

    /// <summary>The literal's bits as a value of <paramref name="type"/>: integers are truncated to its width, floats are rounded to it.</summary>
    public ulong As(PtxType type)
    {
        if (!IsFloat)
            return type.IsFloat() && type != PtxType.F16 && type != PtxType.BF16 ? FromInteger(type) : type.Bits() == 64 ? Bits
                : Bits & ((1UL << type.Bits()) - 1);
        return type switch
        {
            PtxType.F64 => BitConverter.DoubleToUInt64Bits(Value),
            PtxType.B64 or PtxType.U64 or PtxType.S64 when SingleBits is null => BitConverter.DoubleToUInt64Bits(Value),
            PtxType.F16 => BitConverter.HalfToUInt16Bits((Half)Value),
            _ => SingleBits ?? BitConverter.SingleToUInt32Bits((float)Value),
        };
    }

    private ulong FromInteger(PtxType type) => type switch
    {
        PtxType.F64 => BitConverter.DoubleToUInt64Bits((long)Bits),
        PtxType.F32 => BitConverter.SingleToUInt32Bits((long)Bits),
        _ => Bits & 0xFFFF_FFFF,
    };
}

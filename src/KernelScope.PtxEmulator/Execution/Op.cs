namespace KernelScope.PtxEmulator.Execution;

/// <summary>
/// A place in a warp's register bank: 32 lanes of 4 bytes (8 for 64-bit registers), at a byte offset. Literals and special registers have places
/// too, filled before the warp starts, so that instructions read one kind of operand.
/// </summary>
/// <param name="Offset">Byte offset in the bank, or index of a predicate.</param>
/// <param name="Index">Number of the register for the check that it was written; -1 for literals and special registers.</param>
/// <param name="Bits">Declared width; 1 for predicates.</param>
internal readonly record struct Slot(int Offset, int Index, int Bits)
{
    public static readonly Slot None = new(-1, -1, 0);

    public bool IsNone => Offset < 0;
}

/// <summary>An instruction, translated: operands are places in the register bank and the type is fixed.</summary>
internal abstract unsafe class Op
{
    public const uint FullMask = 0xFFFF_FFFF;

    public int Line { get; set; }

    public string Text { get; set; } = "";

    public InstructionClass Class { get; set; }

    /// <summary>Index among the program's instructions; also of its counter.</summary>
    public int Index { get; set; }

    /// <summary>Predicate that guards the instruction, -1 for none.</summary>
    public int Guard { get; set; } = -1;

    /// <summary>Register number of the guard, -1 for none.</summary>
    public int GuardRegister { get; set; } = -1;

    public bool GuardNegated { get; set; }

    /// <summary>Registers that must have been written in every active lane.</summary>
    public int[] Reads { get; set; } = [];

    /// <summary>Registers that are written.</summary>
    public int[] Writes { get; set; } = [];

    /// <summary>Executes for the lanes in <paramref name="mask"/>, which is never 0.</summary>
    public abstract void Execute(Warp warp, uint mask);
}

/// <summary>Access to one lane of a slot.</summary>
internal static unsafe class Lane
{
    /// <summary>Bytes from lane to lane for values of type <typeparamref name="T"/>.</summary>
    public static int Stride<T>()
        where T : unmanaged => sizeof(T) == 8 ? 8 : 4;

    public static T Get<T>(byte* slot, int lane)
        where T : unmanaged => *(T*)(slot + lane * Stride<T>());

    /// <summary>Writes a lane; narrow values are extended with zeros.</summary>
    public static void Set<T>(byte* slot, int lane, T value)
        where T : unmanaged
    {
        if (sizeof(T) == 1)
            *(uint*)(slot + lane * 4) = *(byte*)&value;
        else if (sizeof(T) == 2)
            *(uint*)(slot + lane * 4) = *(ushort*)&value;
        else
            *(T*)(slot + lane * Stride<T>()) = value;
    }
}

namespace KernelScope.PtxEmulator.Syntax;

internal enum StateSpace
{
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

/// <summary>A register as declared; one object a declaration, so scopes and repeated names need no renaming.</summary>
internal sealed class PtxRegister(string name, PtxType type)
{
    public string Name { get; } = name;

    public PtxType Type { get; } = type;
}

/// <summary>A variable in a state space, or a parameter.</summary>
internal sealed class PtxVariable(string name, StateSpace space, PtxType type, int alignment, long bytes, int line)
{
    public string Name { get; } = name;

    public StateSpace Space { get; } = space;

    public PtxType Type { get; } = type;

    public int Alignment { get; } = alignment;

    public long Bytes { get; } = bytes;

    public int Line { get; } = line;

    /// <summary>Declared <c>.extern .shared name[]</c>: it begins where the static shared memory ends.</summary>
    public bool IsDynamic { get; init; }

    public byte[]? Initializer { get; set; }
}

internal sealed class PtxLabel(string name)
{
    public string Name { get; } = name;

    /// <summary>Index of the first instruction behind the label.</summary>
    public int Index { get; set; } = -1;

    /// <summary>Set when the label names a <c>.branchtargets</c> list.</summary>
    public IReadOnlyList<LabelOperand>? Targets { get; set; }
}

internal abstract record Operand;

internal sealed record RegisterOperand(PtxRegister Register, bool Negated) : Operand;

internal sealed record ImmediateOperand(Immediate Value) : Operand;

/// <summary>A special register such as <c>%tid.x</c>.</summary>
internal sealed record SpecialOperand(string Name) : Operand;

/// <summary>Address of a variable plus a constant.</summary>
internal sealed record SymbolOperand(PtxVariable Variable, long Offset) : Operand;

/// <summary><c>[base + offset]</c>.</summary>
internal sealed record AddressOperand(Operand Base, long Offset) : Operand;

internal sealed record VectorOperand(IReadOnlyList<Operand> Items) : Operand;

/// <summary><c>p|q</c>.</summary>
internal sealed record PairOperand(Operand First, Operand Second) : Operand;

/// <summary>A parenthesised list of a call.</summary>
internal sealed record ListOperand(IReadOnlyList<Operand> Items) : Operand;

/// <summary>The bit bucket <c>_</c>.</summary>
internal sealed record SinkOperand : Operand;

/// <summary>A name that is not declared where it is used: a label further down, or a function.</summary>
internal sealed record LabelOperand(string Name, Scope Scope) : Operand;

/// <summary>One instruction of the text.</summary>
internal sealed class PtxInstruction(int line, string text, string opcode, string[] modifiers, IReadOnlyList<Operand> operands)
{
    public int Line { get; } = line;

    public string Text { get; } = text;

    public string Opcode { get; } = opcode;

    public string[] Modifiers { get; } = modifiers;

    public IReadOnlyList<Operand> Operands { get; } = operands;

    public RegisterOperand? Guard { get; init; }
}

/// <summary>Names visible at a place in the text.</summary>
internal sealed class Scope(Scope? parent)
{
    private readonly Dictionary<string, object> _names = [];

    public Scope? Parent { get; } = parent;

    public bool Declare(string name, object what) => _names.TryAdd(name, what);

    public object? Find(string name)
    {
        for (Scope? scope = this; scope is not null; scope = scope.Parent)
            if (scope._names.TryGetValue(name, out object? what))
                return what;
        return null;
    }
}

/// <summary>A kernel or device function as parsed.</summary>
internal sealed class PtxFunction(string name, bool isEntry, int line)
{
    public string Name { get; } = name;

    public bool IsEntry { get; } = isEntry;

    public int Line { get; } = line;

    public List<PtxVariable> Parameters { get; } = [];

    public List<PtxVariable> Results { get; } = [];

    public List<PtxVariable> Variables { get; } = [];

    public List<PtxRegister> Registers { get; } = [];

    public List<PtxInstruction> Instructions { get; } = [];

    public bool HasBody { get; set; }

    public (int X, int Y, int Z)? MaxThreads { get; set; }

    public (int X, int Y, int Z)? RequiredThreads { get; set; }

    public int? MinBlocks { get; set; }
}

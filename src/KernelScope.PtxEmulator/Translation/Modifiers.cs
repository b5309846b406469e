using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>The dotted parts of an opcode. Each must be taken by the instruction's rule; one that is left is an error.</summary>
internal sealed class Modifiers(PtxInstruction instruction, string file)
{
    private readonly List<string> _rest = [.. instruction.Modifiers];

    public bool Take(string name) => _rest.Remove(name);

    /// <summary>The one of these that is present, or null.</summary>
    public string? TryOneOf(params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
            if (_rest.Remove(name))
                return name;
        return null;
    }

    public string OneOf(params ReadOnlySpan<string> names)
    {
        string expected = string.Join(", .", names!);
        return TryOneOf(names) ?? throw Error($"one of the modifiers .{expected} is needed");
    }

    /// <summary>The last part, which must be a type.</summary>
    public PtxType Type() => TryType() ?? throw Error("the instruction's type is missing or not known");

    public PtxType? TryType()
    {
        if (_rest.Count == 0 || !PtxTypes.TryParse(_rest[^1], out PtxType type))
            return null;
        _rest.RemoveAt(_rest.Count - 1);
        return type;
    }

    /// <summary>Drops hints that change nothing here.</summary>
    public void Ignore(params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
            _rest.Remove(name);
    }

    public void End()
    {
        if (_rest.Count > 0)
            throw Error($"the modifier .{_rest[0]} of {instruction.Opcode} is not known");
    }

    public PtxSyntaxException Error(string problem) => new(file, instruction.Line, instruction.Text, problem);
}

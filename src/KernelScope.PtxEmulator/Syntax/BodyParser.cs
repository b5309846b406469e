namespace KernelScope.PtxEmulator.Syntax;

/// <summary>Reads a function's body: declarations, labels, instructions and nested scopes.</summary>
internal sealed class BodyParser(TokenReader reader, PtxFunction function, Scope outer)
{
    private static readonly HashSet<string> SpecialRegisters =
    [
        "%tid", "%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z", "%nctaid.x", "%nctaid.y",
        "%nctaid.z", "%laneid", "%warpid", "%nwarpid", "%smid", "%nsmid", "%clock", "%clock_hi", "%clock64", "%globaltimer", "%lanemask_eq",
        "%lanemask_le", "%lanemask_lt", "%lanemask_ge", "%lanemask_gt", "%dynamic_smem_size", "%total_smem_size",
    ];

    public void Read()
    {
        reader.Expect('{');
        ReadScope(new Scope(outer));
    }

    private void ReadScope(Scope scope)
    {
        while (true)
        {
            Token token = reader.Peek;
            if (token.Kind == TokenKind.End)
                throw reader.Error(token, $"the body of {function.Name} does not end");
            if (reader.TakeIf('}'))
                return;
            if (reader.TakeIf('{'))
                ReadScope(new Scope(scope));
            else if (token.Kind == TokenKind.Word && token.Text[0] == '.')
                ReadDirective(scope);
            else if (token.Kind == TokenKind.Word && reader.PeekSecond.Is(':'))
                ReadLabel(scope);
            else if (!reader.TakeIf(';'))
                ReadInstruction(scope);
        }
    }

    private void ReadDirective(Scope scope)
    {
        Token token = reader.Take();
        switch (token.Text)
        {
            case ".reg":
                ReadRegisters(scope);
                break;
            case ".local" or ".shared" or ".param":
                StateSpace space = token.Text == ".local" ? StateSpace.Local : token.Text == ".shared" ? StateSpace.Shared
                    : StateSpace.Param;
                foreach (PtxVariable variable in VariableParser.Read(reader, space, isExtern: false))
                {
                    Declare(scope, token, variable.Name, variable);
                    function.Variables.Add(variable);
                }
                break;
            case ".pragma":
                reader.SkipStatement();
                break;
            default:
                throw reader.Error(token, "the directive is not known here");
        }
    }

    private void Declare(Scope scope, Token at, string name, object what)
    {
        if (!scope.Declare(name, what))
            throw reader.Error(at.Line, name, "the name is declared twice");
    }

    private void ReadRegisters(Scope scope)
    {
        Token typeToken = reader.Take();
        if (!typeToken.Text.StartsWith('.') || !PtxTypes.TryParse(typeToken.Text[1..], out PtxType type) || type == PtxType.B128)
            throw reader.Error(typeToken, "a register's type was expected");
        do
        {
            Token name = reader.Take();
            if (name.Kind != TokenKind.Word)
                throw reader.Error(name, "a register's name was expected");
            if (!reader.TakeIf('<'))
            {
                DeclareRegister(scope, name, name.Text, type);
                continue;
            }
            ulong count = reader.Integer();
            reader.Expect('>');
            if (count > 1 << 20)
                throw reader.Error(name, "more than 1,048,576 registers are declared");
            for (ulong i = 0; i < count; i++)
                DeclareRegister(scope, name, name.Text + i, type);
        }
        while (reader.TakeIf(','));
        reader.Expect(';');
    }

    private void DeclareRegister(Scope scope, Token at, string name, PtxType type)
    {
        var register = new PtxRegister(name, type);
        Declare(scope, at, name, register);
        function.Registers.Add(register);
    }

    private void ReadLabel(Scope scope)
    {
        Token name = reader.Take();
        reader.Expect(':');
        var label = new PtxLabel(name.Text) { Index = function.Instructions.Count };
        Declare(scope, name, name.Text, label);
        if (!reader.Peek.Is(".branchtargets"))
            return;
        reader.Take();
        var targets = new List<LabelOperand>();
        do
            targets.Add(new LabelOperand(reader.Take().Text, scope));
        while (reader.TakeIf(','));
        reader.Expect(';');
        label.Targets = targets;
    }

    private void ReadInstruction(Scope scope)
    {
        Token first = reader.Peek;
        RegisterOperand? guard = null;
        if (reader.TakeIf('@'))
        {
            bool negated = reader.TakeIf('!');
            Token name = reader.Take();
            if (scope.Find(name.Text) is not PtxRegister { Type: PtxType.Pred } register)
                throw reader.Error(name, "a predicate register was expected");
            guard = new RegisterOperand(register, negated);
        }
        Token opcode = reader.Take();
        if (opcode.Kind != TokenKind.Word)
            throw reader.Error(opcode, "an instruction was expected");
        var operands = new List<Operand>();
        if (!reader.Peek.Is(';'))
        {
            do
                operands.Add(ReadOperand(scope));
            while (reader.TakeIf(','));
        }
        Token end = reader.Peek;
        if (!end.Is(';'))
            throw reader.Error(opcode.Line, reader.Source(first.Start, end.Start), $"';' was expected before '{end.Text}'");
        reader.Take();
        string[] parts = opcode.Text.Split('.');
        function.Instructions.Add(
            new PtxInstruction(opcode.Line, reader.Source(first.Start, end.Start), parts[0], parts[1..], operands) { Guard = guard });
    }

    private Operand ReadOperand(Scope scope)
    {
        Operand operand = ReadSingle(scope);
        return reader.TakeIf('|') ? new PairOperand(operand, ReadSingle(scope)) : operand;
    }

    private Operand ReadSingle(Scope scope)
    {
        Token token = reader.Take();
        if (token.Is('['))
            return ReadAddress(scope);
        if (token.Is('{'))
            return new VectorOperand(ReadList(scope, '}'));
        if (token.Is('('))
            return new ListOperand(ReadList(scope, ')'));
        if (token.Is('!'))
        {
            if (ReadSingle(scope) is RegisterOperand register)
                return register with { Negated = true };
            throw reader.Error(token, "'!' needs a predicate register");
        }
        if (token.Is('-'))
        {
            if (ReadSingle(scope) is ImmediateOperand immediate)
                return new ImmediateOperand(immediate.Value.Negated());
            throw reader.Error(token, "'-' needs a number");
        }
        if (token.Kind == TokenKind.Number)
            return Lexer.TryNumber(token.Text, out Immediate value) ? new ImmediateOperand(value)
                : throw reader.Error(token, "the number cannot be read");
        if (token.Kind != TokenKind.Word)
            throw reader.Error(token, "an operand was expected");
        return Named(scope, token);
    }

    private Operand Named(Scope scope, Token token)
    {
        if (token.Text == "_")
            return new SinkOperand();
        switch (scope.Find(token.Text))
        {
            case PtxRegister register:
                return new RegisterOperand(register, false);
            case PtxVariable variable:
                return new SymbolOperand(variable, ReadOffset());
        }
        if (token.Text == "WARP_SZ")
            return new ImmediateOperand(Immediate.Integer(32));
        if (SpecialRegisters.Contains(token.Text))
            return new SpecialOperand(token.Text);
        if (token.Text[0] == '%')
            throw reader.Error(token, "the register is not declared");
        return new LabelOperand(token.Text, scope);
    }

    private List<Operand> ReadList(Scope scope, char close)
    {
        var items = new List<Operand>();
        if (reader.TakeIf(close))
            return items;
        do
            items.Add(ReadSingle(scope));
        while (reader.TakeIf(','));
        reader.Expect(close);
        return items;
    }

    private AddressOperand ReadAddress(Scope scope)
    {
        Token token = reader.Peek;
        Operand operand = ReadSingle(scope);
        long offset = ReadOffset();
        reader.Expect(']');
        return operand switch
        {
            RegisterOperand { Negated: false } => new AddressOperand(operand, offset),
            SymbolOperand symbol => new AddressOperand(symbol with { Offset = 0 }, symbol.Offset + offset),
            ImmediateOperand { Value.IsFloat: false } => new AddressOperand(operand, offset),
            _ => throw reader.Error(token, "an address must be a register, a variable or an integer, plus a constant"),
        };
    }

    private long ReadOffset()
    {
        long offset = 0;
        while (reader.Peek.Is('+') || reader.Peek.Is('-'))
        {
            bool negative = reader.Take().Is('-');
            long value = unchecked((long)reader.Integer());
            offset += negative ? -value : value;
        }
        return offset;
    }
}

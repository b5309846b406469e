using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Execution.Ops;
using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>Calls: the function's body is put in the place of the call.</summary>
internal sealed partial class Lowering
{
    private void LowerCall()
    {
        PtxInstruction call = _instruction;
        var modifiers = new Modifiers(call, _file);
        modifiers.Ignore("uni");
        modifiers.End();
        List<Operand> operands = [.. call.Operands];
        List<Operand> results = operands.Count > 1 && operands[0] is ListOperand list ? [.. list.Items] : [];
        if (operands.Count > 1 && operands[0] is ListOperand)
            operands.RemoveAt(0);
        if (operands.Count == 0 || operands[0] is not LabelOperand name)
            throw Error("only calls of a named function are supported");
        if (!_functions.TryGetValue(name.Name, out PtxFunction? function) || !function.HasBody)
            throw Error($"the function {name.Name} is not defined");
        List<Operand> arguments = operands.Count > 1 && operands[1] is ListOperand given ? [.. given.Items] : [];
        if (arguments.Count != function.Parameters.Count || results.Count != function.Results.Count)
            throw Error($"{name.Name} takes {function.Parameters.Count} parameters and gives {function.Results.Count} results");
        var frame = new Frame(function, _frame);
        if (frame.Depth > MaxCallDepth)
            throw Error("calls are nested too deeply: recursion is not supported");
        Branch? skip = EmitGuard(call);
        foreach ((PtxVariable formal, Operand actual) in function.Parameters.Zip(arguments))
            frame.Locals[formal] = PassArgument(formal, actual);
        foreach ((PtxVariable formal, Operand actual) in function.Results.Zip(results))
            frame.Locals[formal] = PassResult(formal, actual);
        Frame caller = _frame;
        _frame = frame;
        LowerBody();
        _frame = caller;
        _instruction = call;
        foreach ((PtxVariable formal, Operand actual) in function.Results.Zip(results))
            if (actual is RegisterOperand)
                EmitMove(new Load(StateSpace.Local, new Address(Literal(64, frame.Locals[formal]), 0), NewTargets(actual, formal.Type),
                    formal.Type.Bytes(), false, AccessMode.Read));
        if (skip is not null)
            skip.Target = _ops.Count;
    }

    /// <summary>A guarded call becomes a branch around the body.</summary>
    private Branch? EmitGuard(PtxInstruction call)
    {
        if (call.Guard is null)
            return null;
        _reads = [];
        _writes = [];
        var skip = new Branch(uniform: false) { Class = InstructionClass.Branch };
        Finish(skip);
        skip.GuardNegated = !skip.GuardNegated;
        Emit(skip);
        return skip;
    }

    private ulong PassArgument(PtxVariable formal, Operand actual)
    {
        if (actual is SymbolOperand symbol)
        {
            if (symbol.Variable.Bytes != formal.Bytes)
                throw Error($"the argument for {formal.Name} has {symbol.Variable.Bytes} bytes and {formal.Bytes} are needed");
            return PlaceLocal(symbol.Variable);
        }
        ulong place = PlaceLocal(new PtxVariable(formal.Name, StateSpace.Local, formal.Type, formal.Alignment, formal.Bytes, formal.Line));
        _reads = [];
        _writes = [];
        Slot source = Source(actual, formal.Type);
        EmitMove(new Store(StateSpace.Local, new Address(Literal(64, place), 0), [source], formal.Type.Bytes(), AccessMode.Write));
        return place;
    }

    private ulong PassResult(PtxVariable formal, Operand actual) => actual is SymbolOperand symbol
        ? PlaceLocal(symbol.Variable)
        : PlaceLocal(new PtxVariable(formal.Name, StateSpace.Local, formal.Type, formal.Alignment, formal.Bytes, formal.Line));

    private Slot[] NewTargets(Operand operand, PtxType type)
    {
        _reads = [];
        _writes = [];
        return Targets(operand, type);
    }

    private void EmitMove(Op op)
    {
        op.Class = InstructionClass.LocalConstant;
        op.Line = _instruction.Line;
        op.Text = _instruction.Text;
        op.Reads = [.. _reads];
        op.Writes = [.. _writes];
        Emit(op);
    }
}

using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Execution.Ops;
using KernelScope.PtxEmulator.Syntax;
using static KernelScope.PtxEmulator.Syntax.PtxType;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>The list of instructions, and control flow, barriers and warp exchange.</summary>
internal sealed partial class Lowering
{
    private Op LowerOpcode()
    {
        var modifiers = new Modifiers(_instruction, _file);
        return _instruction.Opcode switch
        {
            "add" or "sub" or "mul" or "mad" or "fma" or "div" or "rem" or "min" or "max" => Arithmetic(modifiers),
            "addc" or "subc" => CarryIn(modifiers),
            "abs" or "neg" => Sign(modifiers),
            "rcp" or "sqrt" or "rsqrt" or "ex2" or "lg2" or "sin" or "cos" or "tanh" => Special(modifiers),
            "copysign" => CopySign(modifiers),
            "and" or "or" or "xor" => Logic(modifiers),
            "not" or "cnot" => Not(modifiers),
            "shl" or "shr" => Shift(modifiers),
            "popc" or "clz" or "bfind" => CountBits(modifiers),
            "brev" or "bfe" or "bfi" => BitFields(modifiers),
            "prmt" => Permute(modifiers),
            "lop3" => Lookup(modifiers),
            "shf" => Funnel(modifiers),
            "dp4a" => DotProduct(modifiers),
            "cvt" => Convert(modifiers),
            "mov" => Move(modifiers),
            "setp" => SetPredicateOp(modifiers),
            "set" => SetValueOp(modifiers),
            "selp" => SelectOp(modifiers),
            "testp" => TestProperty(modifiers),
            "ld" or "ldu" => LoadOp(modifiers),
            "st" => StoreOp(modifiers),
            "atom" => AtomicOp(modifiers, returns: true),
            "red" => AtomicOp(modifiers, returns: false),
            "cp" => AsyncOp(modifiers),
            "ldmatrix" => MatrixLoadOp(modifiers),
            "mma" => MatrixOp(modifiers),
            "cvta" => AddressConversion(modifiers),
            "isspacep" => IsInSpace(modifiers),
            "shfl" => ShuffleOp(modifiers),
            "vote" => VoteOp(modifiers),
            "match" => MatchOp(modifiers),
            "redux" => ReduceOp(modifiers),
            "activemask" => ActiveMaskOp(modifiers),
            "bar" or "barrier" => BarrierOp(modifiers),
            "bra" => BranchOp(modifiers),
            "brx" => IndexedBranchOp(modifiers),
            "ret" => ReturnOp(modifiers),
            "exit" => ExitOp(modifiers),
            "trap" or "brkpt" => Counted(InstructionClass.Other, new TrapOp(_instruction.Opcode)),
            "membar" or "fence" => FenceOp(modifiers),
            "griddepcontrol" => GridDependencyOp(modifiers),
            "prefetch" => PrefetchOp(modifiers),
            "nanosleep" or "prefetchu" or "pmevent" => HintOp(),
            _ => throw Error($"the instruction {_instruction.Opcode} is not known"),
        };
    }

    private Op FenceOp(Modifiers modifiers)
    {
        modifiers.Ignore("cta", "gl", "sys", "gpu", "cluster", "sc", "acq_rel", "acquire", "release");
        modifiers.End();
        Operands(0);
        return Counted(InstructionClass.Fence, new NoOp());
    }

    private Op GridDependencyOp(Modifiers modifiers)
    {
        bool waits = modifiers.OneOf("wait", "launch_dependents") == "wait";
        modifiers.End();
        Operands(0);
        if (!_isFor90)
            throw Error("griddepcontrol needs .version 7.8 and .target sm_90");
        return Counted(InstructionClass.Other, waits ? new GridWait() : new NoOp());
    }

    private Op PrefetchOp(Modifiers modifiers)
    {
        if (!modifiers.Take("global"))
            return HintOp();
        modifiers.OneOf("L1", "L2");
        modifiers.End();
        Operands(1);
        return Counted(InstructionClass.Other, new Prefetch(AddressAt(0)));
    }

    private Op HintOp()
    {
        foreach (Operand operand in _instruction.Operands)
            if (operand is RegisterOperand register)
                _reads.Add(Register(register.Register).Index);
        return Counted(InstructionClass.Other, new NoOp());
    }

    private Op ShuffleOp(Modifiers modifiers)
    {
        bool known = modifiers.Take("sync") & modifiers.Take("b32");
        string mode = modifiers.OneOf("up", "down", "bfly", "idx");
        modifiers.End();
        Operands(5);
        if (!known)
            throw Error("only shfl.sync with .b32 is known");
        (Operand d, Operand? p) = At(0) is PairOperand pair ? (pair.First, pair.Second) : (At(0), null);
        ShuffleMode how =
            mode switch { "up" => ShuffleMode.Up, "down" => ShuffleMode.Down, "bfly" => ShuffleMode.Butterfly, _ => ShuffleMode.Index };
        return Counted(InstructionClass.WarpExchange, new Shuffle(Target(d, B32), p is null ? Slot.None : PredicateTarget(p),
            Source(1, B32), Source(2, B32), Source(3, B32), how, Source(4, B32)));
    }

    private Op VoteOp(Modifiers modifiers)
    {
        if (!modifiers.Take("sync"))
            throw Error("only vote.sync is known");
        string name = modifiers.OneOf("all", "any", "uni", "ballot");
        modifiers.Ignore("pred", "b32");
        modifiers.End();
        Operands(3);
        VoteMode mode = name switch { "all" => VoteMode.All, "any" => VoteMode.Any, "uni" => VoteMode.Uniform, _ => VoteMode.Ballot };
        (Slot a, bool negated) = Predicate(At(1));
        Slot d = mode == VoteMode.Ballot ? Target(0, B32) : PredicateTarget(At(0));
        return Counted(InstructionClass.WarpExchange, new Vote(d, a, negated, mode, Source(2, B32)));
    }

    private Op MatchOp(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        bool all = modifiers.OneOf("any", "all") == "all";
        bool sync = modifiers.Take("sync");
        modifiers.End();
        Operands(3);
        if (!sync)
            throw Error("only match.sync is known");
        (Operand d, Operand? p) = At(0) is PairOperand pair ? (pair.First, pair.Second) : (At(0), null);
        return Counted(InstructionClass.WarpExchange,
            new Match(Target(d, B32), p is null ? Slot.None : PredicateTarget(p), Source(1, type), all, Source(2, B32)));
    }

    private Op ReduceOp(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        string name = modifiers.OneOf("add", "min", "max", "and", "or", "xor");
        bool sync = modifiers.Take("sync");
        modifiers.End();
        Operands(3);
        if (!sync || type.Bits() != 32 || type.IsFloat())
            throw Error("only redux.sync on 32-bit integers is known");
        AtomicFunction function = name switch
        {
            "add" => AtomicFunction.Add,
            "min" => AtomicFunction.Minimum,
            "max" => AtomicFunction.Maximum,
            "and" => AtomicFunction.And,
            "or" => AtomicFunction.Or,
            _ => AtomicFunction.Xor,
        };
        return Counted(InstructionClass.WarpExchange,
            new Reduce(Target(0, type), Source(1, type), function, type.IsSigned(), Source(2, B32)));
    }

    private Op ActiveMaskOp(Modifiers modifiers)
    {
        modifiers.Ignore("b32");
        modifiers.End();
        Operands(1);
        return Counted(InstructionClass.WarpExchange, new ActiveMask(Target(0, B32)));
    }

    private Op BarrierOp(Modifiers modifiers)
    {
        if (modifiers.Take("warp"))
        {
            modifiers.Ignore("sync");
            modifiers.End();
            Operands(1);
            return Counted(InstructionClass.Barrier, new WarpBarrier(Source(0, B32)));
        }
        modifiers.Ignore("cta", "aligned");
        string kind = modifiers.OneOf("sync", "arrive", "red");
        if (kind == "red")
            return BarrierReductionOp(modifiers);
        modifiers.End();
        Operands(kind == "arrive" ? 2 : 1, 2);
        Slot number = Source(0, U32);
        Slot threads = _instruction.Operands.Count == 2 ? Source(1, U32) : Slot.None;
        return Counted(InstructionClass.Barrier,
            new BarrierOp(number, threads, kind == "sync", BarrierReduction.None, Slot.None, Slot.None, false));
    }

    private Op BarrierReductionOp(Modifiers modifiers)
    {
        BarrierReduction reduction = modifiers.OneOf("popc", "and", "or") switch
        {
            "popc" => BarrierReduction.Count,
            "and" => BarrierReduction.And,
            _ => BarrierReduction.Or,
        };
        modifiers.Ignore("u32", "pred");
        modifiers.End();
        Operands(3, 4);
        Slot number = Source(1, U32);
        Slot threads = _instruction.Operands.Count == 4 ? Source(2, U32) : Slot.None;
        (Slot p, bool negated) = Predicate(At(_instruction.Operands.Count - 1));
        Slot d = reduction == BarrierReduction.Count ? Target(0, U32) : PredicateTarget(At(0));
        return Counted(InstructionClass.Barrier, new BarrierOp(number, threads, true, reduction, d, p, negated));
    }

    private PtxLabel Label(Operand operand)
    {
        if (operand is LabelOperand label && label.Scope.Find(label.Name) is PtxLabel found)
            return found;
        throw Error("the label is not defined in this function");
    }

    private Op BranchOp(Modifiers modifiers)
    {
        bool uniform = modifiers.Take("uni");
        modifiers.End();
        Operands(1);
        var op = new Branch(uniform);
        _frame.Branches.Add((op, Label(At(0))));
        return Counted(InstructionClass.Branch, op);
    }

    private Op IndexedBranchOp(Modifiers modifiers)
    {
        bool known = modifiers.Take("idx");
        bool uniform = modifiers.Take("uni");
        modifiers.End();
        Operands(2);
        PtxLabel list = Label(At(1));
        if (!known || list.Targets is null)
            throw Error("brx.idx needs a .branchtargets list");
        var op = new IndexedBranch(Source(0, U32), uniform);
        _frame.IndexedBranches.Add((op, [.. list.Targets.Select(Label)]));
        return Counted(InstructionClass.Branch, op);
    }

    private Op ReturnOp(Modifiers modifiers)
    {
        modifiers.Ignore("uni");
        modifiers.End();
        Operands(0);
        if (_frame.Caller is null)
            return Counted(InstructionClass.Branch, new ExitOp());
        var op = new Branch(uniform: false);
        _frame.Returns.Add(op);
        return Counted(InstructionClass.Branch, op);
    }

    private Op ExitOp(Modifiers modifiers)
    {
        modifiers.End();
        Operands(0);
        return Counted(InstructionClass.Branch, new ExitOp());
    }
}

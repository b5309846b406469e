using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Execution.Ops;
using KernelScope.PtxEmulator.Syntax;
using static KernelScope.PtxEmulator.Syntax.PtxType;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>Loads, stores, atomics, asynchronous copies and matrices.</summary>
internal sealed partial class Lowering
{
    private StateSpace SpaceOf(Modifiers modifiers)
    {
        string? name = modifiers.TryOneOf("global", "shared", "shared::cta", "local", "const", "param", "param::entry", "param::func");
        StateSpace space = name switch
        {
            "global" => StateSpace.Global,
            "shared" or "shared::cta" => StateSpace.Shared,
            "local" => StateSpace.Local,
            "const" => StateSpace.Const,
            "param" or "param::entry" or "param::func" => StateSpace.Param,
            _ => StateSpace.Generic,
        };
        // Parameters of device functions and calls live in the thread's frame.
        return space == StateSpace.Param && !IsKernelParameter() ? StateSpace.Local : space;
    }

    private bool IsKernelParameter()
    {
        Operand? operand = _instruction.Operands.FirstOrDefault(o => o is AddressOperand);
        return operand is not AddressOperand { Base: SymbolOperand symbol } ? _frame.Caller is null
            : _addresses.ContainsKey(symbol.Variable);
    }

    private static AccessMode Order(Modifiers modifiers)
    {
        string? order = modifiers.TryOneOf("weak", "volatile", "relaxed", "acquire", "release", "mmio");
        modifiers.Ignore("cta", "gpu", "sys", "cluster");
        return order is null or "weak" ? 0 : AccessMode.Strong;
    }

    private static void IgnoreCacheHints(Modifiers modifiers) =>
        modifiers.Ignore("ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "L1::no_allocate", "L1::evict_normal", "L1::evict_unchanged",
            "L1::evict_first",
            "L1::evict_last", "L2::64B", "L2::128B", "L2::256B");

    private InstructionClass MemoryClass(StateSpace space, bool store) => space switch
    {
        StateSpace.Shared => store ? InstructionClass.SharedStore : InstructionClass.SharedLoad,
        StateSpace.Local => IsConstantAddress() ? InstructionClass.LocalConstant : InstructionClass.LocalDynamic,
        StateSpace.Param => InstructionClass.Parameter,
        _ => store ? InstructionClass.GlobalStore : InstructionClass.GlobalLoad,
    };

    private bool IsConstantAddress() => LocalOffset() is not null;

    /// <summary>Offset of the instruction's address in the local frame, if it is known now.</summary>
    private long? LocalOffset()
    {
        if (_instruction.Operands.FirstOrDefault(o => o is AddressOperand) is not AddressOperand address)
            return null;
        ulong? known = address.Base is SymbolOperand symbol ? PlaceLocal(symbol.Variable) + (ulong)symbol.Offset
            : _tracker.Value(address.Base);
        return known is { } place ? (long)place + address.Offset - AddressSpace.LocalBase : null;
    }

    /// <summary>The offset if the access is one of words, inside the frame so far laid out and aligned: then it needs no checks when it runs.</summary>
    private int? LocalWords(StateSpace space, Slot[] registers, PtxType type)
    {
        int bytes = type.Bytes() * registers.Length;
        bool words = space == StateSpace.Local && type.Bytes() == 4 && Array.TrueForAll(registers, r => r.Bits == 32);
        return words && LocalOffset() is { } offset && offset >= 0 && offset + bytes <= _localBytes && offset % bytes == 0 ? (int)offset
            : null;
    }

    private Op LoadOp(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        int count = modifiers.TryOneOf("v2", "v4") switch { "v2" => 2, "v4" => 4, _ => 1 };
        AccessMode order = Order(modifiers);
        StateSpace space = SpaceOf(modifiers);
        IgnoreCacheHints(modifiers);
        modifiers.End();
        Operands(2);
        CheckElement(type, count);
        Slot[] targets = Targets(At(0), type, widerAllowed: true, sinkAllowed: true);
        if (targets.Length != count)
            throw Error($"{count} registers are needed and {targets.Length} are given");
        if (LocalWords(space, targets, type) is { } offset)
            return Counted(MemoryClass(space, store: false), new LocalWordLoad(offset, targets));
        return Counted(MemoryClass(space, store: false),
            new Load(space, AddressAt(1), targets, type.Bytes(), type.IsSigned(), AccessMode.Read | order));
    }

    private void CheckElement(PtxType type, int count)
    {
        if (type is Pred or B128 || type.Bytes() * count > 16)
            throw Error("an access of this type and width does not exist");
    }

    private Op StoreOp(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        int count = modifiers.TryOneOf("v2", "v4") switch { "v2" => 2, "v4" => 4, _ => 1 };
        AccessMode order = Order(modifiers);
        StateSpace space = SpaceOf(modifiers);
        IgnoreCacheHints(modifiers);
        modifiers.End();
        Operands(2);
        CheckElement(type, count);
        if (space is StateSpace.Const or StateSpace.Param)
            throw Error("the state space cannot be written");
        Slot[] sources = Sources(At(1), type, widerAllowed: true);
        if (sources.Length != count)
            throw Error($"{count} registers are needed and {sources.Length} are given");
        if (LocalWords(space, sources, type) is { } offset)
            return Counted(MemoryClass(space, store: true), new LocalWordStore(offset, sources));
        return Counted(MemoryClass(space, store: true), new Store(space, AddressAt(0), sources, type.Bytes(), AccessMode.Write | order));
    }

    private Op AtomicOp(Modifiers modifiers, bool returns)
    {
        PtxType type = modifiers.Type();
        Order(modifiers);
        modifiers.Ignore("acq_rel");
        StateSpace space = SpaceOf(modifiers);
        string name = modifiers.OneOf("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec");
        if (type.IsFloat() || type is F16X2 or BF16X2)
            throw Error("float atomics are refused: their order, and with it the rounding of the sum, differs from run to run");
        modifiers.End();
        AtomicFunction function = name switch
        {
            "add" => AtomicFunction.Add,
            "min" => AtomicFunction.Minimum,
            "max" => AtomicFunction.Maximum,
            "and" => AtomicFunction.And,
            "or" => AtomicFunction.Or,
            "xor" => AtomicFunction.Xor,
            "exch" => AtomicFunction.Exchange,
            "cas" => AtomicFunction.CompareExchange,
            "inc" => AtomicFunction.Increment,
            _ => AtomicFunction.Decrement,
        };
        int first = returns ? 1 : 0;
        bool two = function == AtomicFunction.CompareExchange;
        Operands(first + (two ? 3 : 2));
        Slot operand = Source(first + 1, type);
        Slot second = two ? Source(first + 2, type) : Slot.None;
        Slot target = returns ? TargetOrSink(At(0), type) : Slot.None;
        Address address = AddressAt(first);
        _needsBlockOrder |= space != StateSpace.Shared
            && (returns || function is AtomicFunction.Exchange or AtomicFunction.CompareExchange or AtomicFunction.Increment
                or AtomicFunction.Decrement);
        return Counted(InstructionClass.Atomic, type switch
        {
            U32 or B32 => new Atomic<uint>(space, address, function, target, operand, second),
            S32 => new Atomic<int>(space, address, function, target, operand, second),
            U64 or B64 => new Atomic<ulong>(space, address, function, target, operand, second),
            S64 => new Atomic<long>(space, address, function, target, operand, second),
            _ => throw Error("the type does not fit the instruction"),
        });
    }

    private Op AsyncOp(Modifiers modifiers)
    {
        if (!modifiers.Take("async"))
            throw Error("of cp only cp.async is known");
        if (modifiers.Take("commit_group"))
        {
            modifiers.End();
            return Counted(InstructionClass.AsyncCopy, new AsyncCommit());
        }
        if (modifiers.Take("wait_all"))
        {
            modifiers.End();
            return Counted(InstructionClass.AsyncCopy, new AsyncWait(-1));
        }
        if (modifiers.Take("wait_group"))
        {
            modifiers.End();
            Operands(1);
            return Counted(InstructionClass.AsyncCopy, new AsyncWait((int)Number(0)));
        }
        string cache = modifiers.OneOf("ca", "cg");
        bool shared = modifiers.Take("shared") || modifiers.Take("shared::cta");
        if (!modifiers.Take("global"))
            throw Error("cp.async copies from .global");
        IgnoreCacheHints(modifiers);
        modifiers.End();
        Operands(3, 4);
        ulong bytes = Number(2);
        if (bytes is not (4 or 8 or 16) || (cache == "cg" && bytes != 16))
            throw Error("cp.async.ca copies 4, 8 or 16 bytes and cp.async.cg copies 16");
        Slot length = _instruction.Operands.Count == 4 ? Source(3, U32) : Slot.None;
        return Counted(InstructionClass.AsyncCopy, new AsyncCopyOp(AddressAt(0), AddressAt(1), (int)bytes, length, genericTarget: !shared));
    }

    private ulong Number(int index) => At(index) is ImmediateOperand { Value.IsFloat: false } immediate
        ? immediate.Value.Bits
        : throw Error($"operand {index + 1} must be an integer");

    private Op MatrixLoadOp(Modifiers modifiers)
    {
        bool known = modifiers.Take("sync") & modifiers.Take("aligned") & modifiers.Take("m8n8") & modifiers.Take("b16");
        int count = modifiers.OneOf("x1", "x2", "x4")[1] - '0';
        bool transposed = modifiers.Take("trans");
        bool shared = modifiers.Take("shared") || modifiers.Take("shared::cta");
        modifiers.End();
        Operands(2);
        if (!known)
            throw Error("only ldmatrix.sync.aligned.m8n8 with .b16 is known");
        Slot[] targets = Targets(At(0), B32);
        if (targets.Length != count)
            throw Error($"{count} registers are needed and {targets.Length} are given");
        return Counted(InstructionClass.MatrixLoad, new MatrixLoad(targets, AddressAt(1), transposed, generic: !shared));
    }

    private Op MatrixOp(Modifiers modifiers)
    {
        bool known = modifiers.Take("sync") & modifiers.Take("aligned") & modifiers.Take("row") & modifiers.Take("col");
        string shape = modifiers.OneOf("m16n8k16", "m16n8k8", "m16n8k4");
        PtxType c = modifiers.Type();
        PtxType b = modifiers.Type();
        PtxType a = modifiers.Type();
        PtxType d = modifiers.Type();
        modifiers.End();
        Operands(4);
        if (!known || c != F32 || d != F32 || a != b || a is not (BF16 or F16 or TF32))
            throw Error("only mma.sync.aligned row.col of bf16, f16 or tf32 with f32 results is known");
        int depth = int.Parse(shape[6..], System.Globalization.CultureInfo.InvariantCulture);
        int elements = a == TF32 ? 1 : 2;
        int left = 16 * depth / 32 / elements;
        int right = left / 2;
        if (a == TF32 ? depth == 16 : depth == 4)
            throw Error("the shape does not exist for this type");
        Slot[] results = Matrix(At(0), 4, target: true);
        Slot[] lefts = Matrix(At(1), left, target: false);
        Slot[] rights = Matrix(At(2), right, target: false);
        Slot[] sums = Matrix(At(3), 4, target: false);
        return Counted(InstructionClass.Matrix, a switch
        {
            BF16 => new MatrixMultiply<BrainMatrix>(results, lefts, rights, sums, depth),
            F16 => new MatrixMultiply<HalfMatrix>(results, lefts, rights, sums, depth),
            _ => new MatrixMultiply<Tf32Matrix>(results, lefts, rights, sums, depth),
        });
    }

    private Slot[] Matrix(Operand operand, int count, bool target)
    {
        Slot[] slots = target ? Targets(operand, B32) : Sources(operand, B32);
        return slots.Length == count ? slots : throw Error($"a fragment of {count} registers is needed and {slots.Length} are given");
    }

    private Op AddressConversion(Modifiers modifiers)
    {
        PtxType type = modifiers.Type();
        bool to = modifiers.Take("to");
        StateSpace space = SpaceOf(modifiers);
        modifiers.End();
        Operands(2);
        if (type != U64)
            throw Error("only 64-bit addresses are supported");
        ulong window = space switch
        {
            StateSpace.Shared => AddressSpace.SharedWindow,
            StateSpace.Local => AddressSpace.LocalWindow,
            StateSpace.Param => AddressSpace.ParamWindow,
            StateSpace.Generic => throw Error("cvta needs a state space"),
            _ => 0,
        };
        (Slot a, Slot d) = (Source(1, type), Target(0, type));
        return Counted(InstructionClass.Convert, new VectorBinary<ulong, AddWide>(d, a, Literal(64, to ? 0 - window : window)));
    }

    private Op IsInSpace(Modifiers modifiers)
    {
        StateSpace space = SpaceOf(modifiers);
        modifiers.End();
        Operands(2);
        Slot a = Source(1, U64);
        Slot p = PredicateTarget(At(0));
        return Counted(InstructionClass.Compare, new SpaceTest(p, a, space));
    }
}

using System.Reflection;
using ILGPU;
using ILGPU.Backends.PTX;
using ILGPU.IR;
using ILGPU.IR.Intrinsics;
using KernelScope.Cuda.Ptx;
using Compound = ILGPU.Backends.RegisterAllocator<ILGPU.Backends.PTX.PTXRegisterKind>.CompoundRegister;
using Primitive = ILGPU.Backends.RegisterAllocator<ILGPU.Backends.PTX.PTXRegisterKind>.PrimitiveRegister;

namespace KernelScope.Kernels;

/// <summary>The instruction that each method of <see cref="Ptx"/> becomes.</summary>
public static class PtxCode
{
    /// <summary>Teaches a context's PTX back end the methods of <see cref="Ptx"/>; every context that compiles these kernels to PTX needs it.</summary>
    public static void Register(Context.Builder builder)
    {
        IntrinsicImplementationManager manager = builder.GetIntrinsicManager();
        foreach (MethodInfo method in typeof(Ptx).GetMethods(BindingFlags.Public | BindingFlags.Static))
            manager.RegisterMethod(method, new PTXIntrinsic(typeof(PtxCode), method.Name, IntrinsicImplementationMode.GenerateCode));
    }

    private static void MultiplyAdd(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        Primitive a = code.LoadPrimitive(value[0]), b = code.LoadPrimitive(value[1]), c = code.LoadPrimitive(value[2]);
        using var command = code.BeginCommand("fma.rn.f32", null);
        command.AppendArgument(code.AllocateHardware(value));
        command.AppendArgument(a);
        command.AppendArgument(b);
        command.AppendArgument(c);
    }

    private static void Once(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        Primitive x = code.LoadPrimitive(value[0]);
        var result = code.AllocateHardware(value);
        using var command = code.BeginCommand("mov", null);
        command.AppendRegisterMovementSuffix(result.BasicValueType);
        command.AppendArgument(result);
        command.AppendArgument(x);
    }

    private static void Publish(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        Primitive stored = code.EnsureHardwareRegister(code.LoadPrimitive(value[1]));
        using var command = code.BeginCommand("st.relaxed.gpu.global.f32", null);
        command.AppendArgumentValue(code.LoadHardware(value[0]));
        command.AppendArgument(stored);
    }

    private static void Published(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        var address = code.LoadHardware(value[0]);
        using var command = code.BeginCommand("ld.relaxed.gpu.global.f32", null);
        command.AppendArgument(code.AllocateHardware(value));
        command.AppendArgumentValue(address);
    }

    private static void Published4(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        var address = code.LoadHardware(value[0]);
        var result = (Compound)code.Allocate(value);
        using var command = code.BeginCommand("ld.relaxed.gpu.global.v4.f32", null);
        command.AppendVectorArgument(result.SliceAs<Primitive>(0, 4));
        command.AppendArgumentValue(address);
    }

    private static void Ticket(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        var address = code.LoadHardware(value[0]);
        Primitive last = code.EnsureHardwareRegister(code.LoadPrimitive(value[1]));
        using var command = code.BeginCommand("atom.acq_rel.gpu.global.inc.u32", null);
        command.AppendArgument(code.AllocateHardware(value));
        command.AppendArgumentValue(address);
        command.AppendArgument(last);
    }

    private static void Together(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        Primitive lanes = code.EnsureHardwareRegister(code.LoadPrimitive(value[0]));
        using var command = code.BeginCommand("bar.warp.sync", null);
        command.AppendArgument(lanes);
    }

    private static void Ballot(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        Primitive condition = code.LoadPrimitive(value[0]);
        using var command = code.BeginCommand("vote.sync.ballot.b32", null);
        command.AppendArgument(code.AllocateHardware(value));
        command.AppendArgument(condition);
        command.AppendConstant(0xFFFFFFFFL);
    }

    private static void PackBFloat16(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        Primitive low = code.LoadPrimitive(value[0]), high = code.LoadPrimitive(value[1]);
        using var command = code.BeginCommand("cvt.rn.bf16x2.f32", null);
        command.AppendArgument(code.AllocateHardware(value));
        command.AppendArgument(high);
        command.AppendArgument(low);
    }

    private static void LoadShared2(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        var address = code.LoadHardware(value[0]);
        var result = (Compound)code.Allocate(value);
        using var command = code.BeginCommand("ld.shared.v2.f32", null);
        command.AppendVectorArgument(result.SliceAs<Primitive>(0, 2));
        command.AppendArgumentValue(address);
    }

    private static void CopyAsync(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        Primitive bytes = code.LoadPrimitive(value[2]);
        using var command = code.BeginCommand("cp.async.cg.shared.global", null);
        command.AppendArgumentValue(code.LoadHardware(value[0]));
        command.AppendArgumentValue(code.LoadHardware(value[1]));
        command.AppendConstant(16L);
        command.AppendArgument(bytes);
    }

    private static void CommitCopies(PTXBackend backend, PTXCodeGenerator code, Value value) => code.Command("cp.async.commit_group", null);

    private static void WaitForAllCopiesButOne(PTXBackend backend, PTXCodeGenerator code, Value value) =>
        code.Command("cp.async.wait_group 1", null);

    private static void WaitForAllCopiesButFour(PTXBackend backend, PTXCodeGenerator code, Value value) =>
        code.Command("cp.async.wait_group 4", null);

    private static void WaitForAllCopies(PTXBackend backend, PTXCodeGenerator code, Value value) =>
        code.Command("cp.async.wait_group 0", null);

    private static void Prefetch(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        using var command = code.BeginCommand(OverlapText.Prefix + "prefetch.global.L2", null);
        command.AppendArgumentValue(code.LoadHardware(value[0]));
    }

    private static void WaitForGrid(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        code.Command(OverlapText.Prefix + "griddepcontrol.wait", null);
        code.Command(OverlapText.Prefix + "griddepcontrol.launch_dependents", null);
    }

    private static void LoadMatrices(PTXBackend backend, PTXCodeGenerator code, Value value) =>
        Matrices(code, value, "ldmatrix.sync.aligned.m8n8.x4.shared.b16");

    private static void LoadMatricesTransposed(PTXBackend backend, PTXCodeGenerator code, Value value) =>
        Matrices(code, value, "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16");

    private static void Matrices(PTXCodeGenerator code, Value value, string instruction)
    {
        var address = code.LoadHardware(value[0]);
        var result = (Compound)code.Allocate(value);
        using var command = code.BeginCommand(instruction, null);
        command.AppendVectorArgument(result.SliceAs<Primitive>(0, 4));
        command.AppendArgumentValue(address);
    }

    private static void LoadTwoMatrices(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        var address = code.LoadHardware(value[0]);
        var result = (Compound)code.Allocate(value);
        using var command = code.BeginCommand("ldmatrix.sync.aligned.m8n8.x2.shared.b16", null);
        command.AppendVectorArgument(result.SliceAs<Primitive>(0, 2));
        command.AppendArgumentValue(address);
    }

    private static void MultiplyAddBFloat16(PTXBackend backend, PTXCodeGenerator code, Value value)
    {
        var operands = new Primitive[10];
        for (int i = 0; i < operands.Length; i++)
            operands[i] = code.EnsureHardwareRegister(code.LoadPrimitive(value[i]));
        var result = (Compound)code.Allocate(value);
        using var command = code.BeginCommand("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", null);
        command.AppendVectorArgument(result.SliceAs<Primitive>(0, 4));
        command.AppendVectorArgument(operands[4..8]);
        command.AppendVectorArgument(operands[8..10]);
        command.AppendVectorArgument(operands[0..4]);
    }
}

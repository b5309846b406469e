using KernelScope.PtxEmulator.Syntax;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>Fills the places of literals and special registers in a warp's bank.</summary>
internal static unsafe class BankLayout
{
    public static void FillConstants(Warp warp, LaunchState launch)
    {
        foreach (Constant constant in warp.Program.Constants)
        {
            ulong value = constant.Value;
            if (constant.Variable is { } variable)
                value += variable.Space is StateSpace.Global or StateSpace.Const ? launch.GlobalAddress(variable)
                    : warp.Program.Addresses[variable];
            Fill(warp.Bank + constant.Offset, constant.Bits, value);
        }
    }

    public static void FillSpecials(Warp warp, LaunchState launch, Dim3 block, long blockNumber)
    {
        foreach (SpecialSlot special in warp.Program.Specials)
        {
            uint* lanes = (uint*)(warp.Bank + special.Offset);
            for (int lane = 0; lane < 32; lane++)
                lanes[lane] = Value(special.Name, warp, launch, block, blockNumber, lane);
        }
    }

    private static void Fill(byte* slot, int bits, ulong value)
    {
        if (bits == 64)
            new Span<ulong>(slot, 32).Fill(value);
        else
            new Span<uint>(slot, 32).Fill((uint)value);
    }

    private static uint Value(string name, Warp warp, LaunchState launch, Dim3 block, long blockNumber, int lane)
    {
        Dim3 thread = launch.BlockSize.At(warp.Number * 32 + lane);
        return name switch
        {
            "%tid.x" => (uint)thread.X,
            "%tid.y" => (uint)thread.Y,
            "%tid.z" => (uint)thread.Z,
            "%ntid.x" => (uint)launch.BlockSize.X,
            "%ntid.y" => (uint)launch.BlockSize.Y,
            "%ntid.z" => (uint)launch.BlockSize.Z,
            "%ctaid.x" => (uint)block.X,
            "%ctaid.y" => (uint)block.Y,
            "%ctaid.z" => (uint)block.Z,
            "%nctaid.x" => (uint)launch.Grid.X,
            "%nctaid.y" => (uint)launch.Grid.Y,
            "%nctaid.z" => (uint)launch.Grid.Z,
            "%laneid" => (uint)lane,
            "%warpid" => (uint)warp.Number,
            "%nwarpid" => 64,
            "%smid" => (uint)(blockNumber % launch.MultiprocessorCount),
            "%nsmid" => (uint)launch.MultiprocessorCount,
            "%lanemask_eq" => 1u << lane,
            "%lanemask_lt" => (1u << lane) - 1,
            "%lanemask_le" => (uint)((2UL << lane) - 1),
            "%lanemask_gt" => ~(uint)((2UL << lane) - 1),
            "%lanemask_ge" => ~((1u << lane) - 1),
            "%dynamic_smem_size" => (uint)launch.DynamicSharedBytes,
            "%total_smem_size" => (uint)(warp.Program.DynamicSharedOffset + launch.DynamicSharedBytes),
            _ => 0,
        };
    }
}

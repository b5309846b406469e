using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace KernelScope.Cpu;

/// <summary>The kernels for this machine's vectors: AVX-512, AVX2 or portable, chosen once.</summary>
internal sealed unsafe class KernelTable
{
    private KernelTable()
    {
    }

    public required string Name { get; init; }

    /// <summary>Values in a vector.</summary>
    public required int Lanes { get; init; }

    /// <summary>Rows in a packed panel of x.</summary>
    public required int TileRows { get; init; }

    public required delegate*<void*, int, int, void> PackX { get; init; }

    public required delegate*<void*, int, int, void> PackBf16X { get; init; }

    public required delegate*<void*, int, int, void> Linear { get; init; }

    public required delegate*<void*, int, int, void> GatedGelu { get; init; }

    public required delegate*<void*, int, int, void> CrossEntropy { get; init; }

    public required delegate*<CrossEntropyJob*, int, int, float> MergeCrossEntropy { get; init; }

    public required delegate*<void*, int, int, void> SaeEncode { get; init; }

    public required delegate*<void*, int, int, void> SaeEncodeNear { get; init; }

    public required delegate*<void*, int, int, void> SaeDecode { get; init; }

    public required delegate*<void*, int, int, void> SaeEdit { get; init; }

    public required delegate*<void*, int, int, void> SparseDot { get; init; }

    public required delegate*<void*, int, int, void> AdamRows { get; init; }

    public required delegate*<void*, int, int, void> AttendFew { get; init; }

    public required delegate*<void*, int, int, void> MergeAttendFew { get; init; }

    public required delegate*<AttendJob*, long> AttendFewScratch { get; init; }

    public required delegate*<void*, int, int, void> AttendMany { get; init; }

    public required delegate*<AttendJob*, int> AttendManyRows { get; init; }

    public required delegate*<AttendJob*, long> AttendManyScratch { get; init; }

    public required delegate*<void*, int, int, void> TopK { get; init; }

    public required delegate*<void*, int, int, void> MergeTopK { get; init; }

    public required delegate*<void*, int, int, void> Embed { get; init; }

    public required delegate*<void*, int, int, void> Normalize { get; init; }

    public required delegate*<void*, int, int, void> ApplyGain { get; init; }

    public required delegate*<void*, int, int, void> RmsNorm { get; init; }

    public required delegate*<void*, int, int, void> AddNormedThenNorm { get; init; }

    public required delegate*<void*, int, int, void> Rope { get; init; }

    public required delegate*<void*, int, int, void> Store { get; init; }

    public required delegate*<void*, int, int, void> RopeThenStore { get; init; }

    public required delegate*<void*, int, int, void> AddScaled { get; init; }

    public required delegate*<void*, int, int, void> Copy { get; init; }

    public required delegate*<void*, int, int, void> Softcap { get; init; }

    /// <summary>The widest kernels that this machine runs.</summary>
    public static KernelTable Create()
    {
        if (Vector512.IsHardwareAccelerated)
            return Of<Simd512, Vector512<float>>("AVX-512");
        if (Avx2.IsSupported && Fma.IsSupported)
            return Of<Simd256, Vector256<float>>("AVX2");
        return Of<Simd128, Vector128<float>>("portable");
    }

    private static KernelTable Of<S, V>(string name)
        where S : struct, ISimd<V>
        where V : struct => new()
        {
            Name = name,
            Lanes = S.Lanes,
            TileRows = S.TileRows,
            PackX = &TileProduct<FloatBlocks<S, V>>.PackX,
            PackBf16X = &TileProduct<Bf16Blocks<S, V>>.PackX,
            Linear = &LinearOps<S, V>.Linear,
            GatedGelu = &LinearOps<S, V>.GatedGelu,
            CrossEntropy = &CrossEntropyOp<S, V>.Unit,
            MergeCrossEntropy = &CrossEntropyOp<S, V>.Merge,
            SaeEncode = &SaeEncodeOp<S, V>.Unit,
            SaeEncodeNear = &SaeEncodeOp<S, V>.UnitNear,
            SaeDecode = &SaeDecodeOps<S, V>.Unit,
            SaeEdit = &SaeEditOp<S, V>.Unit,
            SparseDot = &SparseDotOp<S, V>.Unit,
            AdamRows = &AdamOp<S, V>.Unit,
            AttendFew = &AttendFewOp<S, V>.Unit,
            MergeAttendFew = &AttendFewOp<S, V>.Merge,
            AttendFewScratch = &AttendFewOp<S, V>.ScratchLength,
            AttendMany = &AttendManyOp<S, V>.Unit,
            AttendManyRows = &AttendManyOp<S, V>.UnitRows,
            AttendManyScratch = &AttendManyOp<S, V>.ScratchLength,
            TopK = &TopKOp<S, V>.Unit,
            MergeTopK = &TopKOp<S, V>.Merge,
            Embed = &RowOps<S, V>.Embed,
            Normalize = &RowOps<S, V>.Normalize,
            ApplyGain = &RowOps<S, V>.ApplyGain,
            RmsNorm = &RowOps<S, V>.RmsNorm,
            AddNormedThenNorm = &RowOps<S, V>.AddNormedThenNorm,
            Rope = &RowOps<S, V>.Rope,
            Store = &RowOps<S, V>.Store,
            RopeThenStore = &RowOps<S, V>.RopeThenStore,
            AddScaled = &RowOps<S, V>.AddScaled,
            Copy = &RowOps<S, V>.Copy,
            Softcap = &RowOps<S, V>.Softcap,
        };
}

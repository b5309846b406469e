using System.Collections.Immutable;
using System.Reflection;

namespace KernelScope.Kernels;

/// <summary>A GPU architecture that PTX is emitted for; the driver compiles it for every newer one.</summary>
public enum GpuTarget
{
    /// <summary>Turing: the plain forms.</summary>
    Sm75 = 75,

    /// <summary>Ampere: all forms; the default.</summary>
    Sm80 = 80,
}

/// <summary>A kernel that is shipped as PTX.</summary>
/// <param name="Name">Entry point: family_variant_dtype.</param>
/// <param name="Family">Module, and file, that holds it: small, because a driver compiles whole modules and a model needs one
/// dtype.</param>
/// <param name="Method">The static method, closed over its type arguments.</param>
/// <param name="GroupSize">Threads of a group; always one-dimensional.</param>
/// <param name="MinTarget">The oldest architecture that has its instructions.</param>
/// <param name="Grid">What the grid's dimensions are, for people.</param>
/// <param name="TileRows">Rows of the result that a group or a launch covers; 1 where it is no matter.</param>
/// <param name="TileColumns">Columns (outputs, features, keys) that a group covers; 1 where it is no matter.</param>
public sealed record KernelEntry(
    string Name,
    string Family,
    MethodInfo Method,
    int GroupSize,
    GpuTarget MinTarget,
    string Grid,
    int TileRows = 1,
    int TileColumns = 1)
{
    /// <summary>
    /// Blocks that a multiprocessor must hold at once (<c>.minnctapersm</c>), where the assembler would otherwise choose badly; 0: its
    /// choice.
    /// </summary>
    public int MinBlocks { get; init; }

    /// <summary>The newest architecture that takes it; newer ones have another kernel for the same.</summary>
    public GpuTarget MaxTarget { get; init; } = GpuTarget.Sm80;

    internal KernelEntry WithTile(int rows, int columns) => this with { TileRows = rows, TileColumns = columns };
}

/// <summary>Every kernel that is shipped, in the order of the manifest.</summary>
public static class Catalog
{
    private static readonly (string Name, Type Type)[] Weights = [("bf16", typeof(BF16)), ("f16", typeof(F16)), ("f32", typeof(F32))];

    private static readonly (string Name, Type Type)[] Halves = [("bf16", typeof(BF16)), ("f16", typeof(F16))];

    private static readonly (string Name, Type Type)[] Rows =
        [("1row", typeof(Rows1)), ("2rows", typeof(Rows2)), ("4rows", typeof(Rows4)), ("8rows", typeof(Rows8))];

    private static readonly (string Name, Type Type)[] Operands =
    [
        ("bf16_exact", typeof(ExactBF16)), ("bf16_fast", typeof(FastBF16)),
        ("f16_exact", typeof(ExactF16)), ("f16_fast", typeof(FastF16)),
        ("f32_exact", typeof(ExactF32)), ("f32_fast", typeof(FastF32)),
    ];

    /// <summary>Types of a cache: the part of a kernel's name, one value, four at once.</summary>
    private static readonly (string Name, Type Value, Type Quad)[] Caches =
        [("", typeof(F32), typeof(Float4)), ("bf16_", typeof(BF16), typeof(Words2))];

    /// <summary>All kernels.</summary>
    public static ImmutableArray<KernelEntry> All { get; } =
    [
        .. Embedding(),
        .. Norms(),
        .. Elements(),
        .. Rotations(),
        .. Gemvs(),
        .. GatedGemvs(),
        .. RingGemvs(),
        .. Gemms(),
        .. Splits(),
        .. TensorGemms(),
        .. Attention(),
        .. TopKs(),
        .. CrossEntropies(),
        .. SaeEncoders(),
        .. SaeTensorEncoders(),
        .. CodeLists(),
        .. SaeDecoders(),
        .. SaeEdits(),
        .. Peaks(),
    ];

    private static IEnumerable<KernelEntry> Embedding() =>
        Weights.Select(
            w => Plain($"embed_{w.Name}", "embed", typeof(Embed), nameof(Embed.Rows), Embed.GroupSize, "rows, ceil(columns/256)", w.Type));

    private static IEnumerable<KernelEntry> Norms() =>
    [
        Plain("rms_normalize", "rms_norm", typeof(RmsNorm), nameof(RmsNorm.Normalize), RmsNorm.GroupSize, "rows"),
        Plain("rms_norm", "rms_norm", typeof(RmsNorm), nameof(RmsNorm.Row), RmsNorm.GroupSize, "rows"),
        Plain("rms_add_normed_then_norm", "rms_norm", typeof(RmsNorm), nameof(RmsNorm.AddNormedThenNorm), RmsNorm.GroupSize, "rows"),
    ];

    private static IEnumerable<KernelEntry> Elements() =>
        new[]
        {
            ("copy", nameof(Elementwise.Copy)),
            ("add_scaled", nameof(Elementwise.AddScaled)),
            ("apply_gain", nameof(Elementwise.ApplyGain)),
            ("softcap", nameof(Elementwise.Softcap)),
            ("round_to_bf16", nameof(Elementwise.RoundToBFloat16)),
            ("gelu_multiply", nameof(Elementwise.GeluMultiply)),
        }.Select(e => Plain(e.Item1, "elementwise", typeof(Elementwise), e.Item2, Elementwise.GroupSize, "rows, ceil(columns/256)"));

    private static IEnumerable<KernelEntry> Rotations()
    {
        const string Grid = "rows, ceil(pairs/128)";
        yield return Plain("rope_rotate", "rope", typeof(Rope), nameof(Rope.Rotate), Rope.GroupSize, Grid);
        foreach (var c in Caches)
        {
            foreach (var e in new[]
            {
                ("store", nameof(Rope.Store)),
                ("rotate_then_store", nameof(Rope.RotateThenStore)),
                ("rows_rotate_then_store", nameof(Rope.RowsRotateThenStore)),
            })
            {
                yield return Plain($"rope_{c.Name}{e.Item1}", ("rope_" + c.Name).TrimEnd('_'), typeof(Rope), e.Item2, Rope.GroupSize, Grid,
                    c.Value);
            }
        }
    }

    private static IEnumerable<KernelEntry> Gemvs()
    {
        foreach (var w in Weights)
        {
            yield return Plain($"gemv_plain_{w.Name}", $"gemv_{w.Name}", typeof(Gemv), nameof(Gemv.Plain), Gemv.GroupSize,
                "ceil(outputs/4), rows", w.Type).WithTile(1, 4);
        }

        foreach (var r in Rows)
        {
            foreach (var w in Halves)
                yield return r.Type == typeof(Rows8)
                    ? OfEightRows($"gemv_{w.Name}_{r.Name}", nameof(Gemv.EightRowsHalf), Gemv.WideTileColumns, w.Type)
                    : OfRows($"gemv_{w.Name}_{r.Name}", $"gemv_{w.Name}", nameof(Gemv.Half), Gemv.TileColumns, w.Type, r.Type);
            yield return OfRows($"gemv_f32_{r.Name}", "gemv_f32", nameof(Gemv.Float), Gemv.TileColumns, r.Type);
        }

        foreach (var w in Halves)
            yield return ThenNorm(w.Name, nameof(GemvNorm.Half), w.Type);
        yield return ThenNorm("f32", nameof(GemvNorm.Float));
        static KernelEntry ThenNorm(string weight, string method, params Type[] types) => Plain($"gemv_norm_{weight}", $"gemv_{weight}",
            typeof(GemvNorm), method, Gemv.GroupSize, "outputs/2", types).WithTile(1, Gemv.TileColumns);
        foreach (var c in Caches)
        {
            KernelEntry ThenRope(string weight, string method, params Type[] types) => Plain($"gemv_rope_{c.Name}{weight}",
                $"gemv_{weight}", typeof(GemvRope), method, Gemv.GroupSize, "outputs/2", types).WithTile(1, Gemv.TileColumns);
            foreach (var w in Halves)
                yield return ThenRope(w.Name, nameof(GemvRope.Half), w.Type, c.Value);
            yield return ThenRope("f32", nameof(GemvRope.Float), c.Value);
        }
    }

    private static IEnumerable<KernelEntry> GatedGemvs()
    {
        foreach (var r in Rows)
        {
            foreach (var w in Halves)
                yield return r.Type == typeof(Rows8)
                    ? OfEightRows($"gated_gemv_{w.Name}_{r.Name}", nameof(Gemv.EightRowsGatedHalf), Gemv.WideTileColumns / 2, w.Type)
                    : OfRows($"gated_gemv_{w.Name}_{r.Name}", $"gated_gemv_{w.Name}", nameof(Gemv.GatedHalf), Gemv.TileColumns / 2, w.Type,
                        r.Type);
            yield return OfRows($"gated_gemv_f32_{r.Name}", "gated_gemv_f32", nameof(Gemv.GatedFloat), Gemv.TileColumns / 2, r.Type);
        }
    }

    private static IEnumerable<KernelEntry> RingGemvs()
    {
        foreach (var w in Halves)
            yield return OfRing($"gemv_ring_{w.Name}", nameof(GemvRing.Linear), GemvRing.TileColumns, w.Type);
        foreach (var w in Halves)
            yield return OfRing($"gated_gemv_ring_{w.Name}", nameof(GemvRing.Gated), GemvRing.TileColumns / 2, w.Type);
        foreach (var w in Halves)
            yield return OfRing($"gemv_ring_split_{w.Name}", nameof(GemvRing.Split), GemvRing.SplitColumns, w.Type, "4 ");
        static KernelEntry OfRing(string name, string method, int tileColumns, Type weight, string groups = "") => Plain(name, name,
            typeof(GemvRing), method, Gemv.GroupSize, $"{groups}ceil(outputs/{tileColumns})", weight).WithTile(8, tileColumns) with
        { MinTarget = GpuTarget.Sm80 };
    }

    private static IEnumerable<KernelEntry> Gemms()
    {
        foreach (var w in Weights)
        {
            yield return Plain($"gemm_fma_{w.Name}", $"gemm_fma_{w.Name}", typeof(GemmFma), nameof(GemmFma.Linear), GemmFma.GroupSize,
                "ceil(outputs/64), ceil(rows/64)", w.Type).WithTile(64, 64);
            yield return Plain($"gated_gemm_fma_{w.Name}", $"gemm_fma_{w.Name}", typeof(GemmFma), nameof(GemmFma.Gated),
                GemmFma.GroupSize, "ceil(outputs/32), ceil(rows/64)", w.Type).WithTile(64, 32);
        }
    }

    private static IEnumerable<KernelEntry> Splits() =>
        new[] { ("exact", typeof(ExactBF16)), ("fast", typeof(FastBF16)) }.Select(p => Plain($"split_{p.Item1}", "split",
            typeof(SplitTerms), nameof(SplitTerms.Planes), SplitTerms.GroupSize, "rows, ceil(columns/1024)", p.Item2) with
        { MinTarget = GpuTarget.Sm80 });

    private static IEnumerable<KernelEntry> TensorGemms()
    {
        foreach (var o in Operands)
        {
            yield return Tensor($"gemm_tensor_{o.Name}", nameof(GemmTensor.Linear), o.Type);
            yield return Tensor($"gated_gemm_tensor_{o.Name}", nameof(GemmTensor.Gated), o.Type);
        }
    }

    private static IEnumerable<KernelEntry> Attention()
    {
        foreach (var c in Caches)
        {
            foreach (var h in new[] { ("1head", typeof(Heads1), 1), ("2heads", typeof(Heads2), 2) })
            {
                string grid = $"splits, heads/{h.Item3}, rows";
                KernelEntry Part(string form, string method, string grid, Type kv) => Plain($"attend_{c.Name}{form}_{h.Item1}",
                    ("attend_decode_" + c.Name).TrimEnd('_'), typeof(AttendDecode), method, AttendDecode.GroupSize, grid, h.Item2, kv);
                yield return Part("part", nameof(AttendDecode.Part), grid, c.Value);
                yield return Part("wide_part", nameof(AttendDecode.WidePart), grid, c.Quad);
                yield return Part("wide_whole", nameof(AttendDecode.WidePartThenMerge), grid, c.Quad);
                yield return Part("rows_part", nameof(AttendDecode.RowsPart), "most " + grid, c.Value);
                yield return Part("rows_wide_part", nameof(AttendDecode.RowsWidePart), "most " + grid, c.Quad);
            }

            foreach (var h in new[] { ("64", typeof(Head64)), ("128", typeof(Head128)), ("256", typeof(Head256)) })
            {
                yield return Plain($"attend_{c.Name}tile_{h.Item1}", ("attend_prefill_" + c.Name).TrimEnd('_'), typeof(AttendPrefill),
                    nameof(AttendPrefill.Tile), AttendPrefill.GroupSize, "ceil(rows/32), heads", h.Item2, c.Value)
                    .WithTile(AttendPrefill.TileRows, 1);
            }
        }

        foreach (var o in new[] { ("exact", typeof(ExactF32)), ("fast", typeof(FastF32)) })
        {
            yield return Plain($"attend_queries_{o.Item1}", $"attend_queries_{o.Item1}", typeof(AttendTensor), nameof(AttendTensor.Queries),
                AttendTensor.GroupSize, "4 ceil(rows/64), heads", o.Item2).WithTile(AttendTensor.TileRows, 1) with
            { MinTarget = GpuTarget.Sm80 };
        }

        foreach (var o in new[]
        {
            ("exact", typeof(ExactF32)), ("fast", typeof(FastF32)), ("exact", typeof(ExactBF16)), ("fast", typeof(FastBF16)),
        })
        {
            bool wide = o.Item2 == typeof(ExactF32) || o.Item2 == typeof(FastF32);
            string family = $"attend_{(wide ? "" : "bf16_")}tensor_{o.Item1}";
            foreach (var h in new[] { ("128", typeof(Head128)), ("256", typeof(Head256)) })
            {
                yield return Plain($"{family}_{h.Item1}", family, typeof(AttendTensor), nameof(AttendTensor.Tile), AttendTensor.GroupSize,
                    "heads, ceil(rows/64)", o.Item2, h.Item2).WithTile(AttendTensor.TileRows, 1) with
                { MinTarget = GpuTarget.Sm80 };
            }
        }

        yield return Plain("attend_merge", "attend_decode", typeof(AttendDecode), nameof(AttendDecode.Merge), AttendDecode.GroupSize,
            "heads, rows");
        yield return Plain("attend_rows_merge", "attend_decode", typeof(AttendDecode), nameof(AttendDecode.RowsMerge),
            AttendDecode.GroupSize, "heads, rows");
    }

    private static IEnumerable<KernelEntry> TopKs() =>
    [
        Plain("top_1_largest", "top_k", typeof(TopK), nameof(TopK.Largest), TopK.LargestGroupSize, "ceil(columns/2048), rows")
            .WithTile(1, TopK.LargestChunk),
        Plain("top_1_write", "top_k", typeof(TopK), nameof(TopK.WriteLargest), TopK.GroupSize, "1, rows"),
        Plain("top_k_select", "top_k", typeof(TopK), nameof(TopK.Select), TopK.GroupSize, "ceil(columns/1024), rows")
            .WithTile(1, TopK.Chunk),
        Plain("top_k_reduce", "top_k", typeof(TopK), nameof(TopK.Reduce), TopK.GroupSize, "ceil(count/1024), rows").WithTile(1, TopK.Chunk),
        Plain("top_k_keys", "top_k", typeof(TopK), nameof(TopK.Keys), TopK.GroupSize, "ceil(pitch/256), rows"),
        Plain("top_k_step", "top_k", typeof(TopK), nameof(TopK.Step), TopK.GroupSize, "ceil(pitch/512), rows"),
        Plain("top_k_write", "top_k", typeof(TopK), nameof(TopK.Write), TopK.GroupSize, "ceil(k/256), rows"),
    ];

    private static IEnumerable<KernelEntry> CrossEntropies() =>
    [
        Plain("cross_entropy_part", "cross_entropy", typeof(CrossEntropy), nameof(CrossEntropy.Part), CrossEntropy.GroupSize,
            "ceil(columns/1024), rows").WithTile(1, CrossEntropy.PartColumns),
        Plain("cross_entropy_merge", "cross_entropy", typeof(CrossEntropy), nameof(CrossEntropy.Merge), KernelMath.WarpSize, "rows"),
    ];

    private static IEnumerable<KernelEntry> SaeEncoders()
    {
        foreach (var w in Weights)
        {
            yield return Encoder($"sae_encode_plain_{w.Name}", w.Name, nameof(SaeEncode.Plain), "ceil(features/64), rows",
                1, SaeEncode.GroupSize, w.Type);
            yield return Encoder($"sae_encode_tile_{w.Name}", w.Name, nameof(SaeEncode.Tile), "ceil(features/64), ceil(rows/64)",
                GemmFma.TileRows, GemmFma.GroupSize, w.Type);
        }

        for (int n = 0; n < Rows.Length; n++)
        {
            foreach (var w in Halves)
                yield return Encoder($"sae_encode_{w.Name}_{Rows[n].Name}", w.Name, nameof(SaeEncode.Half), "ceil(features/64)",
                    1 << n, SaeEncode.GroupSize, w.Type, Rows[n].Type);
            yield return Encoder($"sae_encode_f32_{Rows[n].Name}", "f32", nameof(SaeEncode.Float), "ceil(features/64)",
                1 << n, SaeEncode.GroupSize, Rows[n].Type);
        }
    }

    private static IEnumerable<KernelEntry> SaeTensorEncoders() =>
        Operands.Select(o => Tensor($"sae_encode_tensor_{o.Name}", nameof(GemmTensor.SaeEncodeTile), o.Type));

    private static IEnumerable<KernelEntry> CodeLists() =>
    [
        Plain("codes_scan_tiles", "codes", typeof(Codes), nameof(Codes.ScanTiles), Codes.GroupSize, "rows"),
        Plain("codes_scan_rows", "codes", typeof(Codes), nameof(Codes.ScanRows), Codes.GroupSize, "1"),
        Plain("codes_gather", "codes", typeof(Codes), nameof(Codes.Gather), Codes.GroupSize, "ceil(tiles/8), rows"),
    ];

    private static IEnumerable<KernelEntry> SaeDecoders() =>
        Weights.SelectMany(w => new[]
        {
            Plain($"sae_decode_{w.Name}", "sae_decode", typeof(SaeDecode), nameof(SaeDecode.Rows), SaeDecode.GroupSize,
                "rows, ceil(outputs/64)", w.Type),
            Plain($"sae_decode_plus_error_{w.Name}", "sae_decode", typeof(SaeDecode), nameof(SaeDecode.RowsPlusError), SaeDecode.GroupSize,
                "rows, ceil(outputs/64)", w.Type),
        });

    private static IEnumerable<KernelEntry> SaeEdits() =>
        Weights.SelectMany(w => new[]
        {
            Plain($"sae_edit_coefficients_{w.Name}", "sae_edit", typeof(SaeEdit), nameof(SaeEdit.Coefficients), SaeEdit.GroupSize,
                "ceil(edits/4), rows", w.Type),
            Plain($"sae_edit_apply_{w.Name}", "sae_edit", typeof(SaeEdit), nameof(SaeEdit.Apply),
                SaeEdit.GroupSize, "rows, ceil(outputs/128)", w.Type),
        });

    private static IEnumerable<KernelEntry> Peaks() =>
    [
        Plain("peak_fma", "peak", typeof(Peak), nameof(Peak.MultiplyAdds), Peak.GroupSize, "any"),
        Plain("peak_mma", "peak_mma", typeof(Peak), nameof(Peak.TensorProducts), Peak.GroupSize, "any") with { MinTarget = GpuTarget.Sm80 },
    ];

    private static KernelEntry OfRows(string name, string family, string method, int tileColumns, params Type[] types)
    {
        int rows = 1 << Array.FindIndex(Rows, r => r.Type == types[^1]);
        return Plain(name, family, typeof(Gemv), method, Gemv.GroupSize, $"ceil(outputs/{tileColumns})", types).WithTile(rows, tileColumns);
    }

    private static KernelEntry OfEightRows(string name, string method, int tileColumns, Type weight) =>
        Plain(name, name[..name.LastIndexOf('_')], typeof(Gemv), method, Gemv.GroupSize, $"ceil(outputs/{tileColumns})", weight)
            .WithTile(8, tileColumns) with
        { MaxTarget = GpuTarget.Sm75 };

    private static KernelEntry Encoder(string name, string dtype, string method, string grid, int tileRows, int groupSize,
        params Type[] types) =>
        Plain(name, "sae_encode_" + dtype, typeof(SaeEncode), method, groupSize, grid, types).WithTile(tileRows, SaeEncode.TileFeatures);

    private static KernelEntry Tensor(string name, string method, Type operand)
    {
        int Of(string size) => (int)typeof(GemmTensor).GetMethod(size)!.MakeGenericMethod(operand).Invoke(null, null)!;
        int rows = Of(nameof(GemmTensor.TileRows)),
            columns = Of(nameof(GemmTensor.TileColumns)) / (method == nameof(GemmTensor.Gated) ? 2 : 1);
        return Plain(name, name, typeof(GemmTensor), method, GemmTensor.GroupSize, $"ceil(outputs/{columns}), ceil(rows/{rows})", operand)
            .WithTile(rows, columns) with
        { MinTarget = GpuTarget.Sm80 };
    }

    private static KernelEntry Plain(string name, string family, Type type, string method, int groupSize, string grid, params Type[] types)
    {
        MethodInfo found = type.GetMethod(method) ?? throw new InvalidOperationException($"{type.Name} has no method {method}.");
        return new KernelEntry(name, family, types.Length == 0 ? found : found.MakeGenericMethod(types), groupSize, GpuTarget.Sm75,
            grid)
        { MinBlocks = MinBlocksOf(name) };
    }

    /// <summary>
    /// With ptxas 11.8: tiles of attention spill at the 72 and, for sm_90, 80 registers that are chosen for them, and not at 128, as the encoder of eight rows does not.
    /// </summary>
    private static int MinBlocksOf(string name) => name switch
    {
        "attend_tile_128" or "attend_tile_256" or "attend_bf16_tile_128" or "attend_bf16_tile_256" => 2,
        "attend_tensor_exact_256" or "attend_tensor_fast_256" or "attend_bf16_tensor_exact_256" or "attend_bf16_tensor_fast_256" => 2,
        "sae_encode_f32_8rows" => 4,
        _ => 0,
    };
}

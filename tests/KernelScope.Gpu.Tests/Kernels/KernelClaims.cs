using KernelScope.Kernels;
using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Kernels;

/// <summary>A launch of whole tiles, and what kernels/README.md claims of its traffic.</summary>
/// <param name="Result">What the emulator counted.</param>
/// <param name="Memory">Bytes that come from and go to memory: each operand once.</param>
/// <param name="Requested">Bytes that the warps ask for: what caches serve again counts again.</param>
internal sealed record Claim(LaunchResult Result, double Memory, double Requested);

/// <summary>
/// One launch of every kernel of the manifest, with the formulas of the table in kernels/README.md: K inputs, N outputs (features), R rows,
/// w bytes a weight, d values a head.
/// A load or store of a single value by a warp (an id, a position, the place in a list) counts its own bytes in "requested", everything
/// else whole sectors of 32.
/// </summary>
internal static class KernelClaims
{
    private const int WarpsOf256 = 8, WarpsOf128 = 4;

    private static readonly (string Prefix, Func<KernelLab, string, Claim> Run)[] Table =
    [
        ("embed_", Embed),
        ("rms_", Norm),
        ("copy", Element), ("add_scaled", Element), ("apply_gain", Element), ("softcap", Element), ("round_to_bf16", Element),
            ("gelu_multiply", Element),
        ("rope_rows_", RotateThenStoreRows), ("rope_bf16_rows_", RotateThenStoreRows), ("rope_", RotateOrStore),
        ("gemv_plain_", GemvPlain), ("gemv_rope_", GemvRope), ("gemv_norm_", GemvNorm), ("gemv_ring_split_", RingSplit),
        ("gemv_", Gemv), ("gated_gemv_", Gemv),
        ("split_", Split), ("gemm_fma_", Gemm), ("gated_gemm_fma_", Gemm), ("gemm_tensor_", Gemm), ("gated_gemm_tensor_", Gemm),
        ("attend_rows_merge", AttendRowsMerge), ("attend_rows_", AttendRowsPart), ("attend_bf16_rows_", AttendRowsPart),
            ("attend_merge", AttendMerge), ("attend_tile_", AttendTile), ("attend_bf16_tile_", AttendTile),
            ("attend_queries_", AttendQueries), ("attend_tensor_", AttendTensor), ("attend_bf16_tensor_", AttendTensor),
            ("attend_wide_whole_", AttendWhole), ("attend_bf16_wide_whole_", AttendWhole),
            ("attend_", AttendPart),
        ("top_1_", Top1), ("top_k_", TopK),
        ("cross_entropy_", CrossEntropy),
        ("sae_encode_plain_", EncodePlain), ("sae_encode_tile_", EncodeTile), ("sae_encode_tensor_", EncodeTile),
            ("sae_encode_", EncodeRows),
        ("codes_", Codes),
        ("sae_decode_", Decode),
        ("sae_edit_coefficients_", EditCoefficients), ("sae_edit_apply_", EditApply),
        ("peak_", Peak),
    ];

    /// <summary>Runs a kernel.</summary>
    public static Claim Of(KernelLab lab, string kernel) =>
        Table.First(t => kernel.StartsWith(t.Prefix, StringComparison.Ordinal)).Run(lab, kernel);

    private static Claim Embed(KernelLab lab, string kernel)
    {
        const int R = 4, K = 512;
        (string type, int w) = TypeOf(kernel);
        LaunchResult result =
            lab.Run(kernel, new Dim3(R, K / 256), lab.Ints(1, 3, 0, 2), Weights(lab, type, R * K), lab.EmptyFloats(R * K), 2f, K, K)!;
        // The row's id, a warp each.
        return new Claim(result, (w * R * K) + (4 * R * K) + (4 * R), (w * R * K) + (4 * R * K) + (4 * R * K / 32));
    }

    private static Claim Norm(KernelLab lab, string kernel)
    {
        const int R = 2, K = 2304;
        LabBuffer x = Values(lab, R * K), gain = Values(lab, K), y = lab.EmptyFloats(R * K);
        return kernel switch
        {
            "rms_normalize" => new Claim(lab.Run(kernel, new Dim3(R), x, y, 1e-6f, K, K, K, 1)!, 8 * R * K, 8 * R * K),
            "rms_norm" => new Claim(lab.Run(kernel, new Dim3(R), x, gain, y, 1e-6f, K, K, K, 1)!, (8 * R * K) + (4 * K), 12 * R * K),
            _ => new Claim(
                lab.Run(kernel, new Dim3(R), x, gain, Values(lab, K), Values(lab, R * K), y, 1e-6f, K, K, K, K, 1)!, (16 * R * K) + (8 * K),
                24 * R * K),
        };
    }

    private static Claim Element(KernelLab lab, string kernel)
    {
        const int R = 2, K = 512, Values = R * K;
        var grid = new Dim3(R, K / 256);
        LabBuffer x = KernelClaims.Values(lab, 2 * Values), y = KernelClaims.Values(lab, Values);
        return kernel switch
        {
            "add_scaled" => new Claim(lab.Run(kernel, grid, x, y, 0.5f, K, K, K)!, 12 * Values, 12 * Values),
            "apply_gain" =>
                new Claim(lab.Run(kernel, grid, x, KernelClaims.Values(lab, K), y, K, K, K)!, (8 * Values) + (4 * K), 12 * Values),
            "softcap" => new Claim(lab.Run(kernel, grid, y, 30f, K, K)!, 8 * Values, 8 * Values),
            "gelu_multiply" => new Claim(lab.Run(kernel, grid, x, y, K, 2 * K, K)!, 12 * Values, 12 * Values),
            _ => new Claim(lab.Run(kernel, grid, x, y, K, K, K)!, 8 * Values, 8 * Values),
        };
    }

    private static Claim RotateOrStore(KernelLab lab, string kernel)
    {
        const int R = 4, D = 256, Heads = 2, Kv = 1, Capacity = 8;
        int w = CacheBytes(kernel);
        LabBuffer table = Values(lab, R * D), position = lab.Ints(0);
        LabBuffer keys = lab.Empty(w * Kv * Capacity * D), values = lab.Empty(w * Kv * Capacity * D);
        const int Position = R * D / 2 / 32 * 4;
        if (kernel == "rope_rotate")
            return new Claim(lab.Run(kernel, new Dim3(R, Heads), Values(lab, R * Heads * D), table, position, D, Heads * D / 2, Heads * D)!,
                (8 * R * Heads * D) + (4 * R * D) + 4, (12 * R * Heads * D) + (Heads * Position));
        if (kernel is "rope_store" or "rope_bf16_store")
            return new Claim(
                lab.Run(kernel, new Dim3(R, Kv), Values(lab, R * Kv * D), Values(lab, R * Kv * D), position, keys, values,
                    D, Kv * D / 2, Capacity, Kv * D, Kv * D)!,
                ((8 + (2 * w)) * R * Kv * D) + 4, ((8 + (2 * w)) * R * Kv * D) + (Kv * Position));
        const int All = Heads + (2 * Kv);
        LaunchResult result =
            lab.Run(kernel, new Dim3(R, All), Values(lab, R * All * D), table, position, keys, values, Heads, Kv, D, Capacity, All * D)!;
        // Queries are read and written; keys also stored; values read and stored. The angles come once for every rotated head.
        int data = R * D * ((8 * Heads) + ((8 + w) * Kv) + ((4 + w) * Kv));
        return new Claim(result, data + (4 * R * D) + 4, data + (4 * R * D * (Heads + Kv)) + (All * Position));
    }

    /// <summary>As <see cref="RotateOrStore"/>; each warp reads five values of 8 bytes instead of the position.</summary>
    private static Claim RotateThenStoreRows(KernelLab lab, string kernel)
    {
        const int R = 4, D = 256, Heads = 2, Kv = 1, Capacity = 8, All = Heads + (2 * Kv);
        int w = CacheBytes(kernel);
        LabBuffer table = Values(lab, R * D), keys = lab.Empty(w * Kv * R * Capacity * D),
            values = lab.Empty(w * Kv * R * Capacity * D);
        LaunchResult result =
            lab.Run(kernel, new Dim3(R, All), Values(lab, R * All * D), table, Places(lab, R, n => n, Capacity, 0, Kv * Capacity * D),
                keys, values, Heads, Kv, D, All * D)!;
        const int Place = R * D / 2 / 32 * 5 * 8;
        int data = R * D * ((8 * Heads) + ((8 + w) * Kv) + ((4 + w) * Kv));
        return new Claim(result, data + (4 * R * D) + (40 * R), data + (4 * R * D * (Heads + Kv)) + (All * Place));
    }

    /// <summary>A table of rows of as many sequences, whose rings lie one after the other.</summary>
    private static LabBuffer Places(KernelLab lab, int rows, Func<int, int> position, int capacity, int splits, int ringValues) =>
        lab.Longs([.. Enumerable.Range(0, rows)
            .SelectMany(n => (long[])[n, position(n), capacity, splits, (long)n * ringValues, (long)n * ringValues])]);

    private static Claim GemvPlain(KernelLab lab, string kernel)
    {
        const int R = 2, K = 512, N = 16;
        (string type, int w) = TypeOf(kernel);
        LaunchResult result =
            lab.Run(kernel, new Dim3(N / 4, R), Values(lab, R * K), Weights(lab, type, N * K), lab.EmptyFloats(R * N), K, N, K, N)!;
        return new Claim(result, (w * K * N) + (4 * R * K) + (4 * R * N), R * N * ((w * K) + (4 * K) + 4));
    }

    private static Claim Gemv(KernelLab lab, string kernel)
    {
        const int K = 2304;
        (string type, int w) = TypeOf(kernel);
        bool ring = kernel.Contains("ring", StringComparison.Ordinal);
        int r = ring ? 8 : RowsOf(kernel), n = ring ? 36 : 16, matrices = kernel.StartsWith("gated", StringComparison.Ordinal) ? 2 : 1,
            tile = ring ? GemvRing.TileColumns : r == 8 && w == 2 ? 8 : 2;
        LaunchResult result =
            lab.Run(kernel, new Dim3(n * matrices / tile), [Values(lab, r * K), Weights(lab, type, matrices * n * K),
                lab.EmptyFloats(r * n), r, K, n, K, n, .. matrices == 1 ? (object[])[30f] : []])!;
        // x once for two outputs (a gate and its up), of eight rows for eight or eighteen beside weights of two bytes, which make it twice of that.
        int x = 4 * r * K * matrices * n / tile * (w == 2 ? 2 : 1), written = r <= matrices ? 4 * r * n : 16 * r * n * matrices;
        return new Claim(result, (matrices * w * K * n) + (4 * r * K) + (4 * r * n), (matrices * w * K * n) + x + written);
    }

    private static Claim RingSplit(KernelLab lab, string kernel)
    {
        const int R = 8, K = 2304, Groups = 4, N = GemvRing.SplitColumns;
        (string type, int w) = TypeOf(kernel);
        LabBuffer parts = lab.EmptyFloats(Groups * R * N);
        LaunchResult result = lab.Run(kernel, new Dim3(Groups), Values(lab, R * K), Weights(lab, type, N * K), lab.EmptyFloats(R * N),
            parts, lab.Ints(0), R, K, N, K, N)!;
        // Each warp asks for a quarter of x, in loads that touch each sector twice; the sums are published, a ticket a group, and read by the last.
        int results = 4 * R * N, published = Groups * results;
        return new Claim(result, (w * K * N) + (4 * R * K) + results + (2 * published),
            (w * K * N) + (Groups * 2 * 4 * R * K) + (4 * Groups) + (2 * published) + (4 * results));
    }

    private static Claim GemvRope(KernelLab lab, string kernel)
    {
        const int K = 2304, D = 16, Heads = 2, Kv = 1, Capacity = 4, N = (Heads + (2 * Kv)) * D;
        string type = kernel[(kernel.LastIndexOf('_') + 1)..];
        int w = type == "f32" ? 4 : 2, cached = CacheBytes(kernel);
        LaunchResult result = lab.Run(kernel, new Dim3(N / 2), Values(lab, K), Weights(lab, type, N * K), lab.EmptyFloats(N),
            Values(lab, D), lab.Ints(0), lab.Empty(cached * Capacity * D), lab.Empty(cached * Capacity * D), K, Heads, Kv, D, Capacity)!;
        // As gemv; position, cosine and sine once a pair; results and what is kept of them one by one.
        int written = (4 * N) + (2 * Kv * cached * D);
        return new Claim(result, (w * K * N) + (4 * K) + written + (4 * D) + 4,
            (w * K * N) + (4 * K * N / 2 * (w == 2 ? 2 : 1)) + written + (12 * N / 2));
    }

    private static Claim GemvNorm(KernelLab lab, string kernel)
    {
        const int K = 2304, N = 128;
        (string type, int w) = TypeOf(kernel);
        LaunchResult result = lab.Run(kernel, new Dim3(N / 2), Values(lab, K), Weights(lab, type, N * K), lab.EmptyFloats(N),
            Values(lab, N), Values(lab, N), Values(lab, N), lab.EmptyFloats(N), lab.Ints(0), 1e-6f, K, N)!;
        // As gemv, its results one by one, and a ticket; the last group reads the branch twice, resid twice and two gains, and writes resid and normed.
        return new Claim(result, (w * K * N) + (4 * K) + (28 * N),
            (w * K * N) + (4 * K * N / 2 * (w == 2 ? 2 : 1)) + (4 * N) + (4 * N / 2) + (32 * N));
    }

    private static Claim Split(KernelLab lab, string kernel)
    {
        const int R = 2, K = 1024;
        int t = TermsOf(kernel);
        LaunchResult result = lab.Run(kernel, new Dim3(R), Values(lab, R * K), lab.Empty(2 * t * R * K), K, K)!;
        return new Claim(result, (4 + (2 * t)) * R * K, (4 + (2 * t)) * R * K);
    }

    private static Claim Gemm(KernelLab lab, string kernel)
    {
        const int R = 128, K = 96;
        (string type, int w) = TypeOf(kernel);
        bool gated = kernel.StartsWith("gated", StringComparison.Ordinal), tensor = kernel.Contains("tensor", StringComparison.Ordinal);
        (int tileRows, int tile) = TileOf(kernel);
        int matrices = gated ? 2 : 1, n = !tensor ? 128 : 288 % tile == 0 ? 288 : 256;
        int x = tensor ? 2 * TermsOf(kernel) : 4;
        object[] rows = tensor ? [Planes(lab, R, K, TermsOf(kernel))] : [Values(lab, R * K)];
        LaunchResult result = lab.Run(kernel, new Dim3(n / tile, R / tileRows), [.. rows, Weights(lab, type, matrices * n * K),
            lab.EmptyFloats(R * n), R, K, n, .. tensor ? Array.Empty<object>() : [K], n])!;
        // A store touches sectors for a half of them, those of four results beside each other for a quarter.
        int written = 4 * R * n * (tensor || gated ? 2 : 4);
        return new Claim(result, (matrices * w * K * n) + (x * R * K) + (4 * R * n),
            ((double)matrices * w * K * n * R / tileRows) + ((double)x * R * K * n / tile) + written);
    }

    private static Claim AttendPart(KernelLab lab, string kernel)
    {
        const int D = 256, Capacity = 64, Heads = 2, Splits = 2;
        int shared = kernel.EndsWith("2heads", StringComparison.Ordinal) ? 2 : 1;
        LabBuffer keys = Cache(lab, kernel, Capacity * D), values = Cache(lab, kernel, Capacity * D);
        double cache = 2.0 * CacheBytes(kernel) * D * Capacity;
        LaunchResult result = lab.Run(kernel, new Dim3(Splits, Heads / shared), Values(lab, Heads * D), keys, values,
            lab.Ints(Capacity - 1), lab.EmptyFloats(Heads * Splits * (D + 2)),
            Heads, 1, D, Capacity, 0, Capacity / Splits, 1f / 16, 50f, Heads * D)!;
        // A part is d + 2 values, so that it begins within a sector: one more for each of its runs of 32 values.
        const int Written = Heads * Splits * (4 * (D + 2)), Runs = Heads * Splits * (D / 32) * 32;
        int groups = Splits * Heads / shared;
        return new Claim(
            result,
            cache + (4 * Heads * D) + Written + (32 * Heads * Splits),
            (cache * Heads / shared) + (groups * WarpsOf128 * ((4 * D * shared) + 4))
            + Written + Runs + (32 * groups * shared));
    }

    /// <summary>As <see cref="AttendPart"/> and <see cref="AttendMerge"/>, and a ticket a group.</summary>
    private static Claim AttendWhole(KernelLab lab, string kernel)
    {
        const int D = 256, Capacity = 64, Heads = 2, Splits = 4;
        int shared = kernel.EndsWith("2heads", StringComparison.Ordinal) ? 2 : 1, groups = Splits * Heads / shared;
        LabBuffer keys = Cache(lab, kernel, Capacity * D), values = Cache(lab, kernel, Capacity * D);
        double cache = 2.0 * CacheBytes(kernel) * D * Capacity;
        LaunchResult result = lab.Run(kernel, new Dim3(Splits, Heads / shared), Values(lab, Heads * D), keys, values,
            lab.Ints(Capacity - 1), lab.EmptyFloats(Heads * Splits * (D + 2)), lab.Ints(new int[Heads / shared]),
            lab.EmptyFloats(Heads * D), Heads, 1, D, Capacity, 0, Capacity / Splits, 1f / 16, 50f, Heads * D, Heads * D)!;
        const int Parts = Heads * Splits * (4 * (D + 2)), Runs = Heads * Splits * (D / 32) * 32,
            Merge = Heads * ((5 * D * Splits) + (4 * D) + (2 * 32 * Splits));
        return new Claim(
            result,
            cache + (8 * Heads * D) + (2 * Parts) + (32 * Heads * Splits),
            (cache * Heads / shared) + (groups * ((WarpsOf128 * ((4 * D * shared) + 4)) + 4)) + Parts + Runs + (32 * groups * shared)
                + Merge);
    }

    /// <summary>
    /// As <see cref="AttendPart"/>, for each of two sequences; each warp reads six values of 8 bytes instead of the position.
    /// </summary>
    private static Claim AttendRowsPart(KernelLab lab, string kernel)
    {
        const int R = 2, D = 256, Capacity = 64, Heads = 2, Splits = 2;
        int shared = kernel.EndsWith("2heads", StringComparison.Ordinal) ? 2 : 1;
        LabBuffer keys = Cache(lab, kernel, R * Capacity * D), values = Cache(lab, kernel, R * Capacity * D);
        double cache = 2.0 * CacheBytes(kernel) * D * Capacity;
        LaunchResult result = lab.Run(kernel, new Dim3(Splits, Heads / shared, R), Values(lab, R * Heads * D), keys, values,
            Places(lab, R, _ => Capacity - 1, Capacity, Splits, Capacity * D),
            lab.EmptyFloats(R * Heads * Splits * (D + 2)), Heads, 1, D, 0, Capacity / Splits, 1f / 16, 50f, Heads * D)!;
        const int Written = Heads * Splits * (4 * (D + 2)), Runs = Heads * Splits * (D / 32) * 32;
        int groups = Splits * Heads / shared;
        return new Claim(
            result,
            R * (cache + (4 * Heads * D) + Written + (32 * Heads * Splits) + 48),
            R * ((cache * Heads / shared) + (groups * WarpsOf128 * ((4 * D * shared) + 48)) + Written + Runs
                + (32 * groups * shared)));
    }

    /// <summary>As <see cref="AttendMerge"/>; each warp reads three values of 8 bytes instead of the position.</summary>
    private static Claim AttendRowsMerge(KernelLab lab, string kernel)
    {
        const int R = 2, Heads = 2, D = 256, Splits = 3, Keys = 8;
        LaunchResult result = lab.Run(kernel, new Dim3(Heads, R), Values(lab, R * Heads * Splits * (D + 2)),
            Places(lab, R, _ => (Splits * Keys) - 1, Splits * Keys, Splits, 0), lab.EmptyFloats(R * Heads * D),
            Splits, 0, Keys, D, Heads * D)!;
        const int Results = R * Heads;
        return new Claim(result, (Results * ((4 * (D + 2) * Splits) + (4 * D))) + (R * 48),
            Results * ((5 * D * Splits) + (4 * D) + (2 * 32 * Splits) + (WarpsOf128 * 24)));
    }

    private static Claim AttendMerge(KernelLab lab, string kernel)
    {
        const int R = 2, Heads = 2, D = 256, Splits = 3, Keys = 8;
        LaunchResult result = lab.Run(kernel, new Dim3(Heads, R), Values(lab, R * Heads * Splits * (D + 2)),
            lab.Ints((Splits * Keys) - 1), lab.EmptyFloats(R * Heads * D), Splits, 0, Keys, D, Heads * D)!;
        const int Results = R * Heads;
        // Largest and sum of every part by a thread each; runs of 32 values begin within a sector. The second row's position is one
        // further: its splits are one key longer.
        return new Claim(result, Results * ((4 * (D + 2) * Splits) + (4 * D)),
            Results * ((5 * D * Splits) + (4 * D) + (2 * 32 * Splits) + (WarpsOf128 * 4)));
    }

    private static Claim AttendTile(KernelLab lab, string kernel)
    {
        const int R = 64, Heads = 2, Kv = 1, Capacity = 64;
        int d = int.Parse(kernel[(kernel.LastIndexOf('_') + 1)..], System.Globalization.CultureInfo.InvariantCulture);
        LaunchResult result =
            lab.Run(kernel, new Dim3(R / 32, Heads), Values(lab, R * Heads * d), Cache(lab, kernel, Kv * Capacity * d),
                Cache(lab, kernel, Kv * Capacity * d), lab.Ints(0), lab.EmptyFloats(R * Heads * d),
            R, Kv, d, Capacity, 0, 1f / 16, 50f, Heads * d, Heads * d)!;
        // The first 32 queries see one tile of 32 keys, the next see two. A value is read by each of the 256/d groups of rows of a block.
        const int KeyTiles = 3;
        int w = CacheBytes(kernel);
        double keys = (double)Heads * KeyTiles * 32 * w * d;
        return new Claim(
            result,
            (8.0 * R * Heads * d) + (2.0 * w * Kv * Capacity * d) + 4,
            (8.0 * R * Heads * d) + keys + (keys * 256 / d) + (4 * R / 32 * Heads * WarpsOf256));
    }

    private static Claim AttendQueries(KernelLab lab, string kernel)
    {
        const int R = 64, Heads = 2, D = 256;
        int terms = kernel.EndsWith("fast", StringComparison.Ordinal) ? 1 : 3;
        LaunchResult result = lab.Run(kernel, new Dim3(R / 16, Heads), Values(lab, R * Heads * D),
            lab.Empty(2 * terms * R * Heads * D), R, D,
            Heads * D)!;
        return new Claim(result, (4 + (2 * terms)) * R * Heads * D, (4 + (2 * terms)) * R * Heads * D);
    }

    private static Claim AttendTensor(KernelLab lab, string kernel)
    {
        const int R = 128, Heads = 2, Kv = 1, Capacity = 128;
        int d = int.Parse(kernel[(kernel.LastIndexOf('_') + 1)..], System.Globalization.CultureInfo.InvariantCulture);
        int terms = kernel.Contains("fast", StringComparison.Ordinal) ? 1 : 3, w = CacheBytes(kernel);
        LaunchResult result = lab.Run(kernel, new Dim3(Heads, R / 64), lab.Write(new byte[2 * terms * R * Heads * d]),
            Cache(lab, kernel, Kv * Capacity * d), Cache(lab, kernel, Kv * Capacity * d), lab.Ints(0), lab.EmptyFloats(R * Heads * d),
            0, R, Kv, d, Capacity, 0, 1f / 16, 50f, Heads * d)!;
        // The first 64 queries see one tile of 64 keys, the next see two; 63 keys of each 64 not all of them see. Four warps read all queries; a store fills half of its sectors.
        const int KeyTiles = 3, Unseen = 2 * 63, Warps = 4;
        return new Claim(
            result,
            (((2.0 * terms) + 4) * R * Heads * d) + (2.0 * w * Kv * Capacity * d) + 4,
            (64.0 * Heads * d * KeyTiles * ((8 * terms) + (2 * w))) + (1.0 * Heads * d * Unseen * w) + (8.0 * R * Heads * d)
                + (4 * R / 64 * Heads * Warps));
    }

    private static Claim Top1(KernelLab lab, string kernel)
    {
        const int R = 2, N = 4096, Chunks = N / 2048, Keys = 256;
        if (kernel == "top_1_largest")
            return new Claim(lab.Run(kernel, new Dim3(Chunks, R), Values(lab, R * N), lab.Empty(8 * R * Chunks), N, N)!,
                R * ((4 * N) + (8 * Chunks)), R * ((4 * N) + (8 * Chunks)));
        LaunchResult result = lab.Run(kernel, new Dim3(1, R), KeyList(lab, R * Keys), Values(lab, R * N),
            lab.Empty(8 * (R + 1)), lab.Empty(4 * R), lab.EmptyFloats(R), Keys, N)!;
        return new Claim(result, R * ((8 * Keys) + 20) + 8, R * ((8 * Keys) + 20) + 8);
    }

    private static Claim TopK(KernelLab lab, string kernel)
    {
        const int R = 2, N = 2048, Keep = 32, Chunks = N / 1024;
        switch (kernel)
        {
            case "top_k_select":
                return new Claim(lab.Run(kernel, new Dim3(Chunks, R), Values(lab, R * N), lab.Empty(8 * R * Chunks * Keep), N, Keep, N)!,
                    R * ((4 * N) + (8 * Keep * Chunks)), R * ((4 * N) + (8 * Keep * Chunks)));
            case "top_k_reduce":
                return new Claim(lab.Run(kernel, new Dim3(Chunks, R), KeyList(lab, R * N), lab.Empty(8 * R * Chunks * Keep), N, Keep, N)!,
                    R * ((8 * N) + (8 * Keep * Chunks)), R * ((8 * N) + (8 * Keep * Chunks)));
            case "top_k_keys":
                return new Claim(lab.Run(kernel, new Dim3(N / 256, R), Values(lab, R * N), lab.Empty(8 * R * N), N, N, N)!,
                    R * 12 * N, R * 12 * N);
            case "top_k_step":
                // Every pair is in the wrong order; the others would not be written.
                return new Claim(
                    lab.Run(kernel, new Dim3(N / 512, R), lab.Longs([.. Enumerable.Range(0, R * N).Select(i => (long)i)]), N, N, N / 2)!,
                    R * 16 * N, R * 16 * N);
            default:
                LaunchResult result =
                    lab.Run(kernel, new Dim3(1, R), KeyList(lab, R * N), Values(lab, R * N),
                        lab.Empty(8 * (R + 1)), lab.Empty(4 * R * Keep), lab.EmptyFloats(R * Keep), Keep, N, N)!;
                // 8 bytes of the key, index and value; a sector of the row for each value.
                return new Claim(result, R * ((16 + 32) * Keep) + (8 * (R + 1)), R * ((16 + 32) * Keep) + (8 * (R + 1)));
        }
    }

    private static Claim CrossEntropy(KernelLab lab, string kernel)
    {
        const int R = 2, N = 8192, Parts = N / 1024;
        LabBuffer parts = kernel == "cross_entropy_part" ? lab.Empty(8 * R * Parts)
            : Values(lab, 2 * R * Parts), targets = kernel == "cross_entropy_part" ? lab.EmptyFloats(R) : Values(lab, R);
        if (kernel == "cross_entropy_part")
            return new Claim(
                lab.Run(kernel, new Dim3(Parts, R), Values(lab, R * N), lab.Ints(5, 8191), parts, targets, 30f, N, N, 0, Parts)!,
                R * ((4 * N) + (8 * Parts) + 8), R * ((4 * N) + (8 * Parts) + 4 + (Parts * WarpsOf256 * 4)));
        // The parts are read once for their largest and once for their sum.
        return new Claim(lab.Run(kernel, new Dim3(R), parts, targets, lab.EmptyFloats(R), Parts, 1)!, R * ((8 * Parts) + 8),
            R * ((16 * Parts) + 8));
    }

    private static Claim EncodePlain(KernelLab lab, string kernel)
    {
        const int R = 2, K = 256, N = 64;
        (string type, int w) = TypeOf(kernel);
        Encoding codes = new(lab, N, R, N / 64);
        LaunchResult result =
            lab.Run(kernel, new Dim3(N / 64, R), Values(lab, R * K), Weights(lab, type, N * K), codes.Bias, codes.Threshold,
                codes.Counts, codes.Offsets, codes.Features, codes.Values, K, N, K)!;
        return new Claim(result, (w * K * N) + (4 * R * K) + (8 * N) + codes.Bytes, (R * N * ((w * K) + (4 * K) + 8)) + codes.Bytes);
    }

    private static Claim EncodeRows(KernelLab lab, string kernel)
    {
        const int K = 256, N = 64;
        (string type, int w) = TypeOf(kernel);
        int r = RowsOf(kernel);
        Encoding codes = new(lab, N, r, N / 16);
        LaunchResult result =
            lab.Run(kernel, new Dim3(N / 16), Values(lab, r * K), Weights(lab, type, N * K), codes.Bias, codes.Threshold,
                codes.Counts, codes.Offsets, codes.Features, codes.Values, r, K, N, K, 16)!;
        int x = 4 * r * K * N / 2 * (w == 2 ? 2 : 1);
        return new Claim(result, (w * K * N) + (4 * r * K) + (8 * N) + codes.Bytes, (w * K * N) + x + (8 * N) + codes.Bytes);
    }

    private static Claim EncodeTile(KernelLab lab, string kernel)
    {
        const int R = 128, K = 96;
        (string type, int w) = TypeOf(kernel);
        bool tensor = kernel.Contains("tensor", StringComparison.Ordinal);
        (int tileRows, int tile) = TileOf(kernel);
        int n = 288 % tile == 0 ? 288 : 256, x = tensor ? 2 * TermsOf(kernel) : 4;
        Encoding codes = new(lab, n, R, n / tile);
        LabBuffer rows = tensor ? Planes(lab, R, K, TermsOf(kernel)) : Values(lab, R * K);
        LaunchResult result =
            lab.Run(kernel, new Dim3(n / tile, R / tileRows), [rows, Weights(lab, type, n * K), codes.Bias, codes.Threshold,
                codes.Counts, codes.Offsets, codes.Features, codes.Values, lab.Longs(0), (long)R * n, R, K, n,
                .. tensor ? Array.Empty<object>() : [K]])!;
        // Bias and threshold by every warp: its whole tile, a quarter of each sector at a time, or on tensor cores its part of the
        // columns, for each block of 16 rows, a half at a time.
        double groups = (double)n / tile * R / tileRows;
        double biases = groups * tile * (tensor ? tileRows : 4 * WarpsOf256 * 8);
        return new Claim(result, (w * K * n) + (x * R * K) + (8 * n) + 8 + codes.Bytes,
            ((double)w * K * n * R / tileRows) + ((double)x * R * K * n / tile) + biases + codes.Bytes + (8 * R * n / tile));
    }

    private static Claim Codes(KernelLab lab, string kernel)
    {
        const int R = 4, Tiles = 256, Each = 8, Pairs = R * Tiles * Each;
        int[] counts = [.. Enumerable.Repeat(Each, R * Tiles)], places = [.. Enumerable.Range(0, R * Tiles).Select(i => i % Tiles * Each)];
        switch (kernel)
        {
            case "codes_scan_tiles":
                return new Claim(lab.Run(kernel, new Dim3(R), lab.Ints(counts), lab.Empty(4 * R * Tiles), lab.Empty(4 * R), Tiles)!,
                    R * ((8 * Tiles) + 4), R * ((8 * Tiles) + 4));
            case "codes_scan_rows":
                const int Rows = 256;
                return new Claim(lab.Run(kernel, new Dim3(1), lab.Ints(counts[..Rows]), lab.Empty(8 * (Rows + 1)), 0, Rows)!,
                    (12 * Rows) + 8, (12 * Rows) + 8 + (WarpsOf256 * 32));
            default:
                LaunchResult result =
                    lab.Run(kernel, new Dim3(Tiles / 8, R), lab.Ints(counts), lab.Ints(places),
                        lab.Longs([.. Enumerable.Range(0, R * Tiles).Select(i => (long)i * Each)]),
                    lab.Ints([.. Enumerable.Range(0, Pairs)]),
                    Values(lab, Pairs), lab.Longs([.. Enumerable.Range(0, R + 1).Select(r => (long)r * Tiles * Each)]),
                    lab.Empty(4 * Pairs), lab.EmptyFloats(Pairs),
                    (long)Pairs, (long)Pairs, 0, Tiles)!;
                return new Claim(result, (16 * Pairs) + (16 * R * Tiles) + (8 * (R + 1)), (16 * Pairs) + (24 * R * Tiles));
        }
    }

    private static Claim Decode(KernelLab lab, string kernel)
    {
        const int R = 3, N = 256, Active = 8, Features = 32;
        (string type, int w) = TypeOf(kernel);
        bool error = kernel.Contains("plus_error", StringComparison.Ordinal);
        int[] features = [.. Enumerable.Range(0, R * Active).Select(i => i)];
        LaunchResult result =
            lab.Run(kernel, new Dim3(R, N / 64), lab.Longs(0, Active, 2 * Active, 3 * Active), lab.Ints(features), Values(lab, R * Active),
                Weights(lab, type, Features * N), Values(lab, N),
            Values(lab, R * N), N, N)!;
        int y = error ? 8 : 4, groups = R * N / 64;
        // The list by each group, where a row begins and ends by each of its two warps.
        return new Claim(
            result,
            (w * N * R * Active) + (8 * R * Active) + (4 * N) + (y * R * N) + (8 * (R + 1)),
            (w * N * R * Active) + (groups * ((8 * Active) + 32)) + ((4 + y) * R * N));
    }

    private static Claim EditCoefficients(KernelLab lab, string kernel)
    {
        const int R = 2, K = 256, Edits = 8, Features = 16;
        (string type, int w) = TypeOf(kernel);
        LaunchResult result =
            lab.Run(kernel, new Dim3(Edits / 4, R), Values(lab, R * K), Weights(lab, type, Features * K), Values(lab, Features),
                Values(lab, Features), lab.Ints([.. Enumerable.Range(0, Edits)]),
            lab.Ints([.. Enumerable.Repeat(1, Edits)]), Values(lab, Edits), lab.EmptyFloats(R * Edits), K, Edits, K)!;
        return new Claim(result, (w * K * Edits) + (4 * R * K) + (20 * Edits) + (4 * R * Edits), R * Edits * ((w * K) + (4 * K) + 24));
    }

    private static Claim EditApply(KernelLab lab, string kernel)
    {
        const int R = 2, N = 256, Edits = 8, Features = 16;
        (string type, int w) = TypeOf(kernel);
        LaunchResult result =
            lab.Run(kernel, new Dim3(R, N / 128), lab.Floats([.. Enumerable.Repeat(0.5f, R * Edits)]),
                lab.Ints([.. Enumerable.Range(0, Edits)]), Weights(lab, type, Features * N), Values(lab, R * N), Edits, N, N)!;
        return new Claim(result, (w * N * Edits) + (8 * R * N) + (4 * Edits * (R + 1)),
            (w * N * Edits * R) + (8 * R * N) + (R * N / 32 * Edits * 8));
    }

    private static Claim Peak(KernelLab lab, string kernel)
    {
        const int Blocks = 2;
        LabBuffer y = lab.EmptyFloats(Blocks * 256);
        return new Claim(kernel == "peak_fma" ? lab.Run(kernel, new Dim3(Blocks), y, 0.5f, 0.5f, 3)!
            : lab.Run(kernel, new Dim3(Blocks), y, 0x3F803F80, 2)!, 4 * Blocks * 256, 4 * Blocks * 256);
    }

    private static LabBuffer Values(KernelLab lab, int count) => lab.Floats(Data.Normal(count, count));

    private static LabBuffer Planes(KernelLab lab, int rows, int columns, int terms) =>
        lab.Write(Data.Planes(Data.Normal(rows * columns, 5), rows, columns, columns, terms));

    /// <summary>Rows and columns of a group's tile.</summary>
    private static (int Rows, int Columns) TileOf(string kernel)
    {
        KernelEntry entry = Catalog.All.Single(k => k.Name == kernel);
        return (entry.TileRows, entry.TileColumns);
    }

    private static int TermsOf(string kernel) => kernel.EndsWith("exact", StringComparison.Ordinal) ? 3 : 1;

    private static int CacheBytes(string kernel) => kernel.Contains("_bf16_", StringComparison.Ordinal) ? 2 : 4;

    private static LabBuffer Cache(KernelLab lab, string kernel, int count) =>
        CacheBytes(kernel) == 4 ? Values(lab, count) : Weights(lab, "bf16", count);

    private static LabBuffer Weights(KernelLab lab, string type, int count) => lab.Write(Data.Weights(type, count, 7).Bytes);

    private static LabBuffer KeyList(KernelLab lab, int count) =>
        lab.Longs([.. Enumerable.Range(0, count).Select(i => ((long)(i * 7919 % 2048) << 32) | (uint)~(i * 37 % 2048))]);

    private static (string Type, int Bytes) TypeOf(string kernel)
    {
        string type = kernel.Split('_').First(p => p is "bf16" or "f16" or "f32");
        return (type, type == "f32" ? 4 : 2);
    }

    private static int RowsOf(string kernel) => kernel[kernel.LastIndexOf('_') + 1] - '0';

    /// <summary>Where an encoder's lists go. The bias is so large that every feature fires.</summary>
    private sealed class Encoding(KernelLab lab, int features, int rows, int tiles)
    {
        public LabBuffer Bias { get; } = lab.Floats([.. Enumerable.Repeat(1000f, features)]);

        public LabBuffer Threshold { get; } = lab.Floats(new float[features]);

        public LabBuffer Counts { get; } = lab.Empty(4 * rows * tiles);

        public LabBuffer Offsets { get; } = lab.Empty(8 * rows * tiles);

        public LabBuffer Features { get; } = lab.Empty(4 * rows * features);

        public LabBuffer Values { get; } = lab.Empty(4 * rows * features);

        /// <summary>8 bytes an active feature, 12 a list.</summary>
        public double Bytes => (8.0 * rows * features) + (12 * rows * tiles);
    }
}

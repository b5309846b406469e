namespace KernelScope.Bench.Cases;

/// <summary>The cases of <c>--quick</c>: one for each row of the table in bench/README.md.</summary>
internal static class QuickCases
{
    public static IReadOnlySet<string> Names { get; } = new HashSet<string>(StringComparer.Ordinal)
    {
        "model decode bf16 exact",
        "model decode bf16 exact packed",
        "model prefill 512 bf16 exact packed",
        "model prefill 512 bf16 fast packed",
        "load panels",
        "load map",
        "two-layers prefill 2048 bf16 exact packed",
        "two-layers decode at 8000 bf16 exact packed",
        "attend 1 at 8000 sliding exact",
        "attend 1 at 8000 global exact",
        "layer bf16 512 exact packed",
        "layer bf16 512 fast packed",
        "encode 16k f32 1 exact packed",
        "encode 16k f32 32 exact packed",
        "encode 16k f32 512 exact packed",
        "encode 16k bf16 1 fast packed",
        "encode 16k bf16 32 fast packed",
        "encode 16k bf16 512 fast packed",
        "sparse-decode 16k bf16 1 exact",
        "sparse-decode 16k bf16 32 exact",
        "sparse-decode 16k bf16 512 exact",
    };
}

namespace KernelScope.Bench.Cases;

/// <summary>Every case, in the order in which they run.</summary>
internal static class AllCases
{
    public static IEnumerable<Case> Of(Options options) =>
    [
        .. ModelCases.All(), .. BatchCases.All(options), .. LoadCases.All(), .. LongContextCases.All(), .. AttentionCases.All(),
        .. ProductCases.All(options), .. PackedCases.All(options), .. SaeCases.All(), .. TrainingCases.All(),
    ];
}

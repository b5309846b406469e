using KernelScope.Conformance.Ops;

namespace KernelScope.Conformance;

/// <summary>The suite that every device must pass: every op, every shape class, against <see cref="Devices.Reference.ReferenceDevice"/> on the same inputs.</summary>
/// <remarks>
/// What may differ, and why, is in <c>Limits</c>. Beside the values every case shows that a second call gives the same bits, that stale contents of a
/// destination do not matter, and that nothing around the destinations changed; fused ops must give the bits of their plain forms on the same device.
/// </remarks>
public static class ConformanceSuite
{
    /// <summary>The cases of a scale, in a fixed order. A case takes nothing until it runs.</summary>
    public static IReadOnlyList<ConformanceCase> Cases(ConformanceScale scale)
    {
        Shapes shapes = Shapes.For(scale);
        return
        [
            .. MemoryCases.All(shapes),
            .. EmbedCases.All(shapes),
            .. NormCases.All(shapes),
            .. LinearCases.All(shapes),
            .. LinearTransposedCases.All(shapes),
            .. GatedGeluCases.All(shapes),
            .. RopeCases.All(shapes),
            .. RaggedCases.RopeThenStore(shapes),
            .. AttendCases.All(shapes),
            .. RaggedCases.Attend(shapes),
            .. LogitCases.All(shapes),
            .. SaeCases.All(shapes),
            .. TrainingCases.All(shapes),
            .. BlockCases.All(),
            .. FollowedCases.All(),
        ];
    }
}

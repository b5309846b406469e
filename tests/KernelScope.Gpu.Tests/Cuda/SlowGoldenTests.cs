namespace KernelScope.Tests.Model;

/// <summary>The goldens' greedy decoding to its end takes minutes in the emulator; every run has its first tokens.</summary>
public sealed partial class GoldenTests
{
    [Theory]
    [Trait("Category", "Slow")]
    [MemberData(nameof(Goldens))]
    public void All_greedy_tokens_logits_and_stops_equal_transformers(string deviceName, string name, string suffix) =>
        CheckGreedy(deviceName, name, suffix, 24);
}

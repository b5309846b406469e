using KernelScope.Measuring;

namespace KernelScope.Bench;

/// <summary>A contestant's rounds.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Seconds">Of one run.</param>
/// <param name="Ratio">Its seconds over ours, round by round: above 1, ours is faster. 1 for ours.</param>
internal sealed record Standing(string Name, Spread Seconds, Spread Ratio);

/// <summary>Something besides seconds, over the rounds.</summary>
internal sealed record Reading(string Name, string Unit, Spread Value);

/// <summary>What a case gave.</summary>
/// <param name="Case">It.</param>
/// <param name="Rounds">How many rounds there were.</param>
/// <param name="Limit">Of the same rounds; null where none was measured.</param>
/// <param name="Share">Work over seconds over limit, round by round; null where no limit was measured.</param>
/// <param name="Ours">Ours.</param>
/// <param name="Peers">The peers that were there and agreed.</param>
/// <param name="Readings">What else was read of ours.</param>
/// <param name="Notes">Sentences on what was not measured, and how.</param>
internal sealed record Outcome(Case Case, int Rounds, Spread? Limit, Spread? Share, Standing Ours, IReadOnlyList<Standing> Peers,
    IReadOnlyList<Reading> Readings, IReadOnlyList<string> Notes);

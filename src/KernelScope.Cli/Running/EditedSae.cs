namespace KernelScope.Cli;

/// <summary>An SAE and what happens at its site.</summary>
/// <param name="Sae">The SAE.</param>
/// <param name="Edits">What happens.</param>
/// <param name="Mean">Where the mean comes from, if one is needed.</param>
internal sealed record EditedSae(SaeFiles Sae, Edits Edits, MeanSource? Mean);

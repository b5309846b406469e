namespace KernelScope.Cli;

// What the verbs print as JSON. Names and shapes are a contract.

/// <summary>One active feature.</summary>
internal readonly record struct FeatureActivation(int Index, float Activation);

/// <summary>A token and its strongest features, strongest first.</summary>
internal sealed record TokenFeatures(int Id, string? Text, IReadOnlyList<FeatureActivation> Features);

/// <summary>Result of <c>features</c>.</summary>
internal sealed record FeaturesResult(string Model, string Sae, string Site, IReadOnlyList<TokenFeatures> Tokens);

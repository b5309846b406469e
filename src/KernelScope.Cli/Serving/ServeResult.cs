namespace KernelScope.Cli;

/// <summary>Result of <c>serve</c>, once it listens.</summary>
internal sealed record ServeResult(IReadOnlyList<string> Urls, string Model, IReadOnlyList<string> Sources, int Labels, IReadOnlyList<string> Dashboards);

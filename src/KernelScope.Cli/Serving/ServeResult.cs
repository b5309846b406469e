namespace KernelScope.Cli;

/// <summary>Result of <c>serve</c>, once it listens.</summary>
internal sealed record ServeResult(IReadOnlyList<string> Urls, string Model, IReadOnlyList<string> Sources, int Labels,
    IReadOnlyList<string> Dashboards);

/// <summary>Result of <c>serve --export</c>.</summary>
/// <param name="Out">The folder.</param>
/// <param name="Model">The model.</param>
/// <param name="Source">The source of its exercises.</param>
/// <param name="Features">Features that have a page.</param>
internal sealed record ServeExportResult(string Out, string Model, string Source, int Features);

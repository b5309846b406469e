namespace KernelScope.Cli;

/// <summary>Result of <c>labels import</c>.</summary>
internal sealed record LabelsImportResult(int Labels, int Rejected, string? FirstRejected, IReadOnlyList<LabelSource> Sources);

/// <summary>Labels of one source.</summary>
internal sealed record LabelSource(string Model, string Source, int Labels, int Features);

/// <summary>Result of <c>labels search</c>.</summary>
internal sealed record LabelsSearchResult(string Query, int Found, IReadOnlyList<LabelMatchRow> Matches);

internal sealed record LabelMatchRow(string Model, string Source, int Index, string Description, double Score);

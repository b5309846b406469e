namespace KernelScope.PtxRun;

/// <summary>An option or argument that cannot be read.</summary>
internal sealed class UsageException(string message) : Exception(message);

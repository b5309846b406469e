namespace KernelScope.Conformance;

/// <summary>A device disagrees with the reference, or with itself; the message says where.</summary>
internal sealed class DisagreementException(string message) : Exception(message);

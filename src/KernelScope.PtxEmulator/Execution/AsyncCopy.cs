namespace KernelScope.PtxEmulator.Execution;

/// <summary>Bytes of shared memory that a thread's <c>cp.async</c> has not been waited for.</summary>
/// <param name="Offset">Offset in shared memory.</param>
/// <param name="Bytes">Length.</param>
/// <param name="Group">Number of the thread's group that it belongs to.</param>
internal readonly record struct AsyncCopy(int Offset, int Bytes, int Group);

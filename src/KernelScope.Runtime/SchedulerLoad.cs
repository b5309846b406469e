namespace KernelScope.Runtime;

/// <summary>How busy the engine is.</summary>
/// <param name="Waiting">Requests that wait.</param>
/// <param name="Running">Requests that have a session.</param>
/// <param name="SessionBytes">Memory of those sessions.</param>
internal readonly record struct SchedulerLoad(int Waiting, int Running, long SessionBytes);

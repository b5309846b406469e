namespace KernelScope.Runtime;

/// <summary>How busy the engine is.</summary>
/// <param name="Waiting">Requests that wait.</param>
/// <param name="Running">Requests that have a session.</param>
/// <param name="SessionBytes">Memory of those sessions.</param>
/// <param name="KeptSessions">Sessions of ended requests.</param>
/// <param name="KeptBytes">Memory of those.</param>
internal readonly record struct SchedulerLoad(int Waiting, int Running, long SessionBytes, int KeptSessions, long KeptBytes);

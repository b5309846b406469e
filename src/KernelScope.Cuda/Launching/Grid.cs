namespace KernelScope.Cuda.Launching;

/// <summary>Blocks of a launch.</summary>
/// <param name="X">Along x.</param>
/// <param name="Y">Along y.</param>
/// <param name="Z">Along z.</param>
internal readonly record struct Grid(long X, long Y = 1, long Z = 1);

namespace KernelScope.PtxEmulator.Execution;

/// <summary>Where the state spaces lie in generic addresses.</summary>
internal static class AddressSpace
{
    /// <summary>First address of device memory; global and constant addresses are generic addresses.</summary>
    public const ulong GlobalBase = 0x7000_0000_0000;

    /// <summary>Generic address of shared address 0.</summary>
    public const ulong SharedWindow = 0x0001_0000_0000;

    /// <summary>Generic address of local address 0.</summary>
    public const ulong LocalWindow = 0x0002_0000_0000;

    /// <summary>Generic address of the first kernel parameter.</summary>
    public const ulong ParamWindow = 0x0003_0000_0000;

    /// <summary>Bytes of each window.</summary>
    public const ulong WindowBytes = 0x0001_0000_0000;

    /// <summary>Shared memory begins here, so that address 0 is never valid.</summary>
    public const int SharedBase = 1024;

    /// <summary>A thread's local frame begins here, for the same reason.</summary>
    public const int LocalBase = 1024;

    public static bool IsShared(ulong address) => address - SharedWindow < WindowBytes;

    public static bool IsLocal(ulong address) => address - LocalWindow < WindowBytes;

    public static bool IsParam(ulong address) => address - ParamWindow < WindowBytes;
}

using System.Runtime.InteropServices;

namespace KernelScope.Numerics;

/// <summary>Memory that is zero and costs nothing until it is written to.</summary>
/// <remarks>
/// On Linux larger blocks are mapped one by one. <c>calloc</c> of glibc takes blocks below a threshold, which grows up to 32 MB as blocks are freed, from a heap of its own: it clears them by writing,
/// so that caches which are hardly used take all their pages, and it keeps freed ones that lie between others.
/// </remarks>
internal static unsafe partial class ZeroedMemory
{
    private const nuint LeastMapped = 32 << 10;
    private const int ReadAndWrite = 3, PrivateAndAnonymous = 0x22;

    /// <summary>Asks for memory; <see cref="Free"/> gives it back.</summary>
    /// <exception cref="OutOfMemoryException">There is not so much.</exception>
    public static void* Allocate(nuint bytes)
    {
        if (!IsMapped(bytes))
            return NativeMemory.AllocZeroed(bytes);
        void* memory = Map(null, bytes, ReadAndWrite, PrivateAndAnonymous, -1, 0);
        return memory != (void*)-1 ? memory : throw new InsufficientMemoryException($"The system did not give {bytes} bytes.");
    }

    /// <summary>Gives memory back.</summary>
    public static void Free(void* memory, nuint bytes)
    {
        if (IsMapped(bytes))
            _ = Unmap(memory, bytes);
        else
            NativeMemory.Free(memory);
    }

    private static bool IsMapped(nuint bytes) => OperatingSystem.IsLinux() && bytes >= LeastMapped;

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial void* Map(void* address, nuint bytes, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    private static partial int Unmap(void* address, nuint bytes);
}

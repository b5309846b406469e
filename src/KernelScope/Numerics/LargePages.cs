using System.Runtime.InteropServices;

namespace KernelScope.Numerics;

/// <summary>
/// Asks the system to keep memory, or a file that is mapped, in large pages. Weights are read as streams of hundreds of megabytes: with pages of 4 kB the processor looks up addresses all the time, and its prefetchers stop at every page's end.
/// Reading packed weights took 8 % less time in pages of 2 MB; decoding from a mapped file 10 to 40 %, and its first reading from the disk 20 to 30 % (bench/results/products.md).
/// </summary>
/// <remarks>
/// Linux gives them to those who ask (<c>madvise</c> with <c>MADV_HUGEPAGE</c>, where transparent_hugepage is <c>madvise</c> or <c>always</c>); elsewhere nothing happens. It is a wish: memory works as before where it is not granted.
/// Of a mapped file, parts get them that are read from the disk from then on, on file systems that keep files in large pages (xfs, and ext4 from Linux 6.16 on; measured on ext4 of 6.18); what lies in the page cache in small ones, as after writing, stays so.
/// </remarks>
internal static unsafe partial class LargePages
{
    // Bytes of a large page on x64, and on arm64 with small pages of 4 kB; memory that begins with one loses none.
    private const int Size = 2 << 20;

    private const int HugePage = 14;

    /// <summary>Memory that is not yet cleared, in large pages where it holds some; <see cref="NativeMemory.AlignedFree"/> gives it back.</summary>
    /// <param name="bytes">How much.</param>
    /// <param name="alignment">What it is aligned to at least.</param>
    /// <exception cref="OutOfMemoryException">There is not so much.</exception>
    public static void* Allocate(long bytes, int alignment)
    {
        void* memory = NativeMemory.AlignedAlloc(checked((nuint)bytes), (nuint)(bytes >= 2 * Size ? Size : alignment));
        Want(memory, bytes);
        return memory;
    }

    /// <summary>Asks for the large pages that lie wholly in some memory.</summary>
    public static void Want(void* memory, long bytes)
    {
        if (!OperatingSystem.IsLinux())
            return;
        nuint first = ((nuint)memory + Size - 1) & ~(nuint)(Size - 1), end = ((nuint)memory + (nuint)bytes) & ~(nuint)(Size - 1);
        if (first < end)
            _ = Advise((void*)first, end - first, HugePage);
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(void* address, nuint bytes, int advice);
}

using System.Runtime.InteropServices;

namespace KernelScope.Cpu.MachineCode;

/// <summary>Machine code in memory of its own: written first, then made executable and read-only, so that no page is ever writable and executable at once.</summary>
internal sealed unsafe partial class ExecutableMemory : IDisposable
{
    private readonly nuint _bytes;
    private byte* _code;

    private ExecutableMemory(byte* code, nuint bytes)
    {
        _code = code;
        _bytes = bytes;
    }

    ~ExecutableMemory() => Free();

    /// <summary>The first instruction.</summary>
    public byte* Start => _code;

    /// <summary>Puts code into memory; null where the system does not allow that (no such call, a policy against new code).</summary>
    public static ExecutableMemory? TryCreate(ReadOnlySpan<byte> code)
    {
        nuint page = (nuint)Environment.SystemPageSize;
        nuint bytes = ((nuint)code.Length + page - 1) / page * page;
        byte* memory = Allocate(bytes);
        if (memory == null)
            return null;
        code.CopyTo(new Span<byte>(memory, code.Length));
        var result = new ExecutableMemory(memory, bytes);
        if (Protect(memory, bytes))
            return result;
        result.Dispose();
        return null;
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private static byte* Allocate(nuint bytes)
    {
        if (OperatingSystem.IsWindows())
            return (byte*)Windows.VirtualAlloc(null, bytes, Windows.CommitAndReserve, Windows.PageReadWrite);
        if (!OperatingSystem.IsLinux() && !OperatingSystem.IsMacOS())
            return null;
        void* memory = Unix.MemoryMap(null, bytes, Unix.Read | Unix.Write,
            Unix.Private | (OperatingSystem.IsMacOS() ? Unix.AnonymousOnMac : Unix.AnonymousOnLinux), -1, 0);
        return memory == (void*)-1 ? null : (byte*)memory;
    }

    private static bool Protect(byte* memory, nuint bytes) => OperatingSystem.IsWindows()
        ? Windows.VirtualProtect(memory, bytes, Windows.PageExecuteRead, out _) != 0
        : Unix.MemoryProtect(memory, bytes, Unix.Read | Unix.Execute) == 0;

    private void Free()
    {
        if (_code == null)
            return;
        if (OperatingSystem.IsWindows())
            _ = Windows.VirtualFree(_code, 0, Windows.Release);
        else
            _ = Unix.MemoryUnmap(_code, _bytes);
        _code = null;
    }

    /// <summary>sys/mman.h of Linux and macOS.</summary>
    private static partial class Unix
    {
        public const int Read = 1, Write = 2, Execute = 4, Private = 2, AnonymousOnLinux = 0x20, AnonymousOnMac = 0x1000;

        [LibraryImport("libc", EntryPoint = "mmap")]
        public static partial void* MemoryMap(void* address, nuint bytes, int protection, int flags, int file, nint offset);

        [LibraryImport("libc", EntryPoint = "mprotect")]
        public static partial int MemoryProtect(void* address, nuint bytes, int protection);

        [LibraryImport("libc", EntryPoint = "munmap")]
        public static partial int MemoryUnmap(void* address, nuint bytes);
    }

    /// <summary>memoryapi.h of Windows.</summary>
    private static partial class Windows
    {
        public const uint CommitAndReserve = 0x3000, PageReadWrite = 0x04, PageExecuteRead = 0x20, Release = 0x8000;

        [LibraryImport("kernel32")]
        public static partial void* VirtualAlloc(void* address, nuint bytes, uint kind, uint protection);

        [LibraryImport("kernel32")]
        public static partial int VirtualProtect(void* address, nuint bytes, uint protection, out uint before);

        [LibraryImport("kernel32")]
        public static partial int VirtualFree(void* address, nuint bytes, uint kind);
    }
}

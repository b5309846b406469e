using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace KernelScope.Files;

/// <summary>What Linux says of a file and .NET does not: its kind, its inode, and the time of its last change, which no program can set.</summary>
/// <param name="Mode">Kind and permissions, as in <c>st_mode</c>.</param>
/// <param name="Links">Names that the file has.</param>
/// <param name="Inode">Number of the inode.</param>
/// <param name="Device">Number of the file system.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Modified">Last write, in nanoseconds since 1970.</param>
/// <param name="Changed">Last change of bytes or of attributes, in nanoseconds since 1970.</param>
internal readonly unsafe partial record struct FileStatus(
    uint Mode, uint Links, ulong Inode, ulong Device, long Length, long Modified, long Changed)
{
    // linux/stat.h and linux/fcntl.h; struct statx is the same on every processor.
    private const int ResultBytes = 256, AtCurrentFolder = -100, EmptyPath = 0x1000;
    private const uint BasicFields = 0x7FF;
    private const uint KindMask = 0xF000, Regular = 0x8000, Folder = 0x4000, CharacterDevice = 0x2000, BlockDevice = 0x6000;

    /// <summary>What it is if it is neither a regular file nor a folder; else null.</summary>
    public string? OddKind => (Mode & KindMask) switch
    {
        Regular or Folder => null,
        0x1000 => "a pipe",
        0xC000 => "a socket",
        _ => "a device",
    };

    /// <summary>Whether it is a regular file.</summary>
    public bool IsRegular => (Mode & KindMask) == Regular;

    /// <summary>Whether it is a device, as /dev/null is.</summary>
    public bool IsDevice => (Mode & KindMask) is CharacterDevice or BlockDevice;

    /// <summary>The status of what a path leads to, links followed; null if nothing is there, or on other systems.</summary>
    public static FileStatus? Of(string path) => OperatingSystem.IsLinux() && path.Length > 0 ? Read(AtCurrentFolder, path, 0) : null;

    /// <summary>The status of an open file; null on other systems.</summary>
    public static FileStatus? Of(SafeFileHandle file)
    {
        if (!OperatingSystem.IsLinux())
            return null;
        bool added = false;
        try
        {
            file.DangerousAddRef(ref added);
            return Read((int)file.DangerousGetHandle(), "", EmptyPath);
        }
        finally
        {
            if (added)
                file.DangerousRelease();
        }
    }

    private static FileStatus? Read(int folder, string path, int flags)
    {
        byte* result = stackalloc byte[ResultBytes];
        try
        {
            if (StatX(folder, path, flags, BasicFields, result) != 0)
                return null;
        }
        catch (EntryPointNotFoundException)
        {
            // A C library from before 2018.
            return null;
        }

        var fields = new ReadOnlySpan<byte>(result, ResultBytes);
        ulong device = ((ulong)U32(fields, 136) << 32) | U32(fields, 140);
        ushort mode = BinaryPrimitives.ReadUInt16LittleEndian(fields[28..]);
        ulong inode = (ulong)I64(fields, 32);
        return new FileStatus(mode, U32(fields, 16), inode, device, I64(fields, 40), Time(fields, 112), Time(fields, 96));
    }

    private static long Time(ReadOnlySpan<byte> fields, int at) =>
        unchecked((I64(fields, at) * 1_000_000_000) + U32(fields, at + sizeof(long)));

    private static long I64(ReadOnlySpan<byte> fields, int at) => BinaryPrimitives.ReadInt64LittleEndian(fields[at..]);

    private static uint U32(ReadOnlySpan<byte> fields, int at) => BinaryPrimitives.ReadUInt32LittleEndian(fields[at..]);

    [LibraryImport("libc", EntryPoint = "statx", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int StatX(int folder, string path, int flags, uint mask, byte* result);
}

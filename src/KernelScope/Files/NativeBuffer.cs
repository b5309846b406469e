using System.Runtime.InteropServices;
using KernelScope.Numerics;

namespace KernelScope.Files;

/// <summary>Unmanaged memory for one expanded entry; freed on disposal, or by the finalizer if nobody holds it any more.</summary>
internal sealed unsafe class NativeBuffer : SafeHandle
{
    private NativeBuffer(byte* pointer, long length) : base(0, ownsHandle: true)
    {
        SetHandle((nint)pointer);
        Length = length;
    }

    public long Length { get; }

    public byte* Pointer => (byte*)handle;

    public override bool IsInvalid => handle == 0;

    /// <summary>Memory that is not yet cleared, aligned to 64 bytes or more; null if the machine has not that much.</summary>
    public static NativeBuffer? TryCreate(long length)
    {
        if (length > GC.GetGCMemoryInfo().TotalAvailableMemoryBytes)
            return null;
        try
        {
            return new NativeBuffer((byte*)LargePages.Allocate(Math.Max(length, 1), 64), length);
        }
        catch (OutOfMemoryException)
        {
            return null;
        }
    }

    protected override bool ReleaseHandle()
    {
        NativeMemory.AlignedFree((void*)handle);
        return true;
    }
}

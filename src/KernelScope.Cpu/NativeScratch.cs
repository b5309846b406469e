using System.Runtime.InteropServices;
using KernelScope.Numerics;

namespace KernelScope.Cpu;

/// <summary>Unmanaged memory that grows when more is asked for and is kept: nothing is allocated in a steady state.</summary>
internal sealed unsafe class NativeScratch : IDisposable
{
    private const int Alignment = 4096;

    private void* _memory;
    private long _bytes;

    ~NativeScratch() => Free();

    /// <summary>At least <paramref name="bytes"/> bytes with any content, valid until more is asked for.</summary>
    public byte* Bytes(long bytes)
    {
        if (bytes > _bytes)
        {
            Free();
            _memory = LargePages.Allocate(bytes, Alignment);
            _bytes = bytes;
        }

        return (byte*)_memory;
    }

    /// <summary>At least <paramref name="count"/> float32 values with any content, on a 64-byte line.</summary>
    public float* Floats(long count) => (float*)Bytes(count * sizeof(float));

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_memory);
        _memory = null;
        _bytes = 0;
    }
}

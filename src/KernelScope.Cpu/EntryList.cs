using System.Runtime.InteropServices;

namespace KernelScope.Cpu;

/// <summary>(index, value) pairs that one worker has found, in unmanaged memory that grows and is kept.</summary>
internal unsafe struct EntryList
{
    public int* Features;
    public float* Values;
    public long Count;
    private long _capacity;

    /// <summary>Makes room for <paramref name="more"/> pairs.</summary>
    public void MakeRoom(int more)
    {
        if (Count + more <= _capacity)
            return;
        long capacity = Math.Max(Count + more, Math.Max(4096, _capacity * 2));
        Features = (int*)NativeMemory.Realloc(Features, checked((nuint)capacity * sizeof(int)));
        Values = (float*)NativeMemory.Realloc(Values, checked((nuint)capacity * sizeof(float)));
        _capacity = capacity;
    }

    /// <summary>Gives the memory back.</summary>
    public void Free()
    {
        NativeMemory.Free(Features);
        NativeMemory.Free(Values);
        this = default;
    }
}

/// <summary>The lists of all workers.</summary>
internal sealed unsafe class EntryLists : IDisposable
{
    private readonly int _count;

    public EntryLists(int count)
    {
        _count = count;
        First = (EntryList*)NativeMemory.AllocZeroed((nuint)count, (nuint)sizeof(EntryList));
    }

    ~EntryLists() => Free();

    /// <summary>Worker 0's; the others' follow.</summary>
    public EntryList* First { get; }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        for (int n = 0; n < _count; n++)
            First[n].Free();
        NativeMemory.Free(First);
    }
}

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace KernelScope.PtxEmulator.Execution;

/// <summary>
/// Shared memory of the running block, with two stamps a byte: who wrote it last, and who read it since. A stamp holds warp, lane and the warp's
/// clock (<see cref="BlockClock"/>); 0 is nobody.
/// </summary>
internal sealed unsafe class SharedMemory : IDisposable
{
    private const int LaneShift = 20;
    private const int WarpShift = 26;
    private const uint ClockMask = (1u << LaneShift) - 1;

    /// <summary>Several lanes of the warp.</summary>
    private const uint ManyLanes = 1u << 25;

    /// <summary>Of a reader: several warps, and the barrier generation follows. Of a writer: a copy under way, and its thread follows.</summary>
    private const uint Special = 1u << 31;

    /// <summary>Of a writer: atomics, and the barrier generation follows.</summary>
    private const uint Atomics = Special | ManyLanes;

    private readonly uint* _writers;
    private readonly uint* _readers;
    private readonly int _capacity;

    public SharedMemory(int capacity)
    {
        _capacity = Math.Max(capacity, 64);
        Data = (byte*)NativeMemory.AlignedAlloc((nuint)_capacity, 64);
        _writers = (uint*)NativeMemory.AlignedAlloc((nuint)_capacity * 4, 64);
        _readers = (uint*)NativeMemory.AlignedAlloc((nuint)_capacity * 4, 64);
    }

    /// <summary>Bytes of the running launch; address = offset + <see cref="AddressSpace.SharedBase"/>.</summary>
    public byte* Data { get; }

    public int Bytes { get; private set; }

    public BlockClock Clock { get; } = new();

    public bool Checked { get; set; }

    public void Start(int bytes)
    {
        Bytes = bytes;
        Clock.Reset();
        if (Checked)
            ClearStamps();
        NativeMemory.Clear(Data, (nuint)bytes);
    }

    /// <summary>All threads have synchronised: stamps may be dropped, keeping that bytes were written. Done only when clocks run out.</summary>
    public void Restart()
    {
        for (int i = 0; i < Bytes; i++)
            if (_writers[i] != 0 && (_writers[i] & Atomics) != Special)
                _writers[i] = Stamp(0, 0, 1);
        NativeMemory.Clear(_readers, (nuint)Bytes * 4);
        Clock.Reset();
        Clock.Sync(uint.MaxValue, uint.MaxValue);
    }

    /// <summary>Offset of a checked range; throws where it is out of bounds or misaligned.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Range(Op op, Warp warp, int lane, ulong address, int bytes)
    {
        ulong offset = address - AddressSpace.SharedBase;
        if (offset > (ulong)Bytes || offset + (ulong)bytes > (ulong)Bytes)
            throw OutOfBounds(op, warp, lane, address, bytes);
        if ((address & (ulong)(bytes - 1)) != 0)
            throw warp.Fault(FaultKind.Misaligned, op, 1u << lane, address, $"shared address 0x{address:X} is not a multiple of {bytes}");
        return (int)offset;
    }

    public void Read(Op op, Warp warp, int lane, int offset, int bytes) =>
        Read(op, warp, lane, offset, bytes, Stamp(warp.Number, lane, Clock.Now(warp.Number)));

    /// <summary>A read whose bytes go to many lanes of the warp (ldmatrix).</summary>
    public void ReadForWarp(Op op, Warp warp, int lane, int offset, int bytes) =>
        Read(op, warp, lane, offset, bytes, Stamp(warp.Number, 0, Clock.Now(warp.Number)) | ManyLanes);

    private void Read(Op op, Warp warp, int lane, int offset, int bytes, uint self)
    {
        uint* writers = _writers + offset;
        uint* readers = _readers + offset;
        if (Uniform(writers, bytes, writers[0]))
            CheckWriter(op, warp, lane, offset, writers[0], "reads");
        else
            for (int i = 0; i < bytes; i++)
                CheckWriter(op, warp, lane, offset + i, writers[i], "reads");
        if (Uniform(readers, bytes, readers[0]))
        {
            uint next = NextReader(readers[0], warp.Number, self);
            if (next != readers[0])
                Fill(readers, bytes, next);
            return;
        }
        for (int i = 0; i < bytes; i++)
            readers[i] = NextReader(readers[i], warp.Number, self);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write(Op op, Warp warp, int lane, int offset, int bytes)
    {
        CheckWrite(op, warp, lane, offset, bytes);
        Fill(_writers + offset, bytes, Stamp(warp.Number, lane, Clock.Now(warp.Number)));
        Fill(_readers + offset, bytes, 0);
    }

    /// <summary>Bytes that a <c>cp.async</c> will write at some time before it is waited for.</summary>
    public void WriteLater(Op op, Warp warp, int lane, int offset, int bytes)
    {
        CheckWrite(op, warp, lane, offset, bytes);
        Fill(_writers + offset, bytes, Special | Stamp(warp.Number, lane, 0));
        Fill(_readers + offset, bytes, 0);
    }

    /// <summary>The copy has been waited for by the thread that issued it: from here it is an ordinary write of that thread.</summary>
    public void WriteArrived(Warp warp, int lane, int offset, int bytes) =>
        Fill(_writers + offset, bytes, Stamp(warp.Number, lane, Clock.Now(warp.Number)));

    public void Atomic(Op op, Warp warp, int lane, int offset, int bytes)
    {
        for (int i = offset; i < offset + bytes; i++)
        {
            if ((_writers[i] & Atomics) != Atomics)
                CheckWriter(op, warp, lane, i, _writers[i], "updates");
            CheckReader(op, warp, lane, i);
            _writers[i] = Atomics | Clock.Generation & ClockMask;
            _readers[i] = 0;
        }
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(Data);
        NativeMemory.AlignedFree(_writers);
        NativeMemory.AlignedFree(_readers);
    }

    private static uint Stamp(int warp, int lane, uint clock) => (uint)warp << WarpShift | (uint)lane << LaneShift | clock;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool Uniform(uint* stamps, int bytes, uint value)
    {
        if (bytes == 4)
            return Vector128.Load(stamps) == Vector128.Create(value);
        if (bytes == 16)
            return Vector512.Load(stamps) == Vector512.Create(value);
        return new ReadOnlySpan<uint>(stamps, bytes).IndexOfAnyExcept(value) < 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Fill(uint* stamps, int bytes, uint value)
    {
        if (bytes == 4)
            Vector128.Create(value).Store(stamps);
        else if (bytes == 16)
            Vector512.Create(value).Store(stamps);
        else
            new Span<uint>(stamps, bytes).Fill(value);
    }

    private void ClearStamps()
    {
        NativeMemory.Clear(_writers, (nuint)Bytes * 4);
        NativeMemory.Clear(_readers, (nuint)Bytes * 4);
    }

    private void CheckWrite(Op op, Warp warp, int lane, int offset, int bytes)
    {
        uint writer = _writers[offset];
        if (Uniform(_writers + offset, bytes, writer))
        {
            if (writer != 0)
                CheckWriter(op, warp, lane, offset, writer, "writes");
        }
        else
        {
            for (int i = 0; i < bytes; i++)
                if (_writers[offset + i] != 0)
                    CheckWriter(op, warp, lane, offset + i, _writers[offset + i], "writes");
        }
        if (Uniform(_readers + offset, bytes, 0) && _readers[offset] == 0)
            return;
        for (int i = 0; i < bytes; i++)
            CheckReader(op, warp, lane, offset + i);
    }

    private bool Ordered(uint stamp, int warp, int lane)
    {
        int other = (int)(stamp >> WarpShift) & 31;
        if (other == warp && (stamp & ManyLanes) == 0 && (stamp >> LaneShift & 31) == (uint)lane)
            return true;
        return Clock.HasSeen(warp, other, stamp & ClockMask);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void CheckWriter(Op op, Warp warp, int lane, int offset, uint writer, string verb)
    {
        if (writer == 0 || (writer & Special) != 0 || !Ordered(writer, warp.Number, lane))
            CheckOddWriter(op, warp, lane, offset, writer, verb);
    }

    private void CheckOddWriter(Op op, Warp warp, int lane, int offset, uint writer, string verb)
    {
        ulong address = (ulong)offset + AddressSpace.SharedBase;
        if (writer == 0)
            throw warp.Fault(FaultKind.UninitializedMemory,
                op, 1u << lane, address, $"{verb} shared byte 0x{address:X}, which nothing wrote");
        if ((writer & Atomics) == Atomics)
        {
            if (Clock.LastSync(warp.Number) <= (writer & ClockMask))
                throw warp.Fault(FaultKind.SharedRace, op, 1u << lane,
                    address, $"{verb} shared byte 0x{address:X}, which an atomic wrote with no barrier between");
            return;
        }
        string who = warp.Block.ThreadName((int)(writer >> WarpShift & 31) * 32 + (int)(writer >> LaneShift & 31));
        if ((writer & Special) != 0)
            throw warp.Fault(FaultKind.MissingAsyncWait, op, 1u << lane, address,
                $"{verb} shared byte 0x{address:X} while a cp.async of thread {who} to it has not been waited for");
        throw warp.Fault(FaultKind.SharedRace, op, 1u << lane, address,
            $"{verb} shared byte 0x{address:X}, which thread {who} wrote with no barrier between");
    }

    private void CheckReader(Op op, Warp warp, int lane, int offset)
    {
        uint reader = _readers[offset];
        if (reader == 0)
            return;
        bool ordered = (reader & Special) != 0 ? Clock.LastSync(warp.Number) > (reader & ~Special) : Ordered(reader, warp.Number, lane);
        if (ordered)
            return;
        ulong address = (ulong)offset + AddressSpace.SharedBase;
        string who = (reader & Special) != 0 ? "threads of several warps"
            : (reader & ManyLanes) != 0 ? $"several threads of warp {reader >> WarpShift & 31}"
            : "thread " + warp.Block.ThreadName((int)(reader >> WarpShift & 31) * 32 + (int)(reader >> LaneShift & 31));
        throw warp.Fault(FaultKind.SharedRace, op, 1u << lane,
            address, $"writes shared byte 0x{address:X}, which {who} read with no barrier between");
    }

    private uint NextReader(uint reader, int warp, uint self)
    {
        if (reader == self || reader == 0)
            return self;
        if ((reader & Special) != 0)
            return Clock.LastSync(warp) > (reader & ~Special) ? self : Special | Clock.Generation;
        int other = (int)(reader >> WarpShift) & 31;
        if (Clock.HasSeen(warp, other, reader & ClockMask))
            return self;
        return other == warp ? self & ~(31u << LaneShift) | ManyLanes : Special | Clock.Generation;
    }

    private EmulatorFault OutOfBounds(Op op, Warp warp, int lane, ulong address, int bytes) =>
        warp.Fault(FaultKind.OutOfBounds, op, 1u << lane, address,
            $"touches {bytes} bytes at shared address 0x{address:X}; the block has 0x{AddressSpace.SharedBase:X} to "
                + $"0x{AddressSpace.SharedBase + Bytes:X} ({Bytes} bytes)");
}

using System.Buffers;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace KernelScope.Training.Runs;

/// <summary>A reader's place as bytes: a mark, values one after the other, and their hash, so that a damaged state is seen.</summary>
internal sealed class RowState
{
    private const int MostBytes = 1 << 30;
    private static ReadOnlySpan<byte> Mark => "KSROWS01"u8;

    private readonly ArrayBufferWriter<byte> _bytes = new();
    private int _at;

    /// <summary>Adds an integer.</summary>
    public void Long(long value) => Longs([value]);

    /// <summary>Adds a text.</summary>
    public void Text(string value) => Bytes(Encoding.UTF8.GetBytes(value));

    /// <summary>Adds integers.</summary>
    public void Ints(ReadOnlySpan<int> values) => Bytes(MemoryMarshal.AsBytes(values));

    /// <summary>Adds what was added to another.</summary>
    public void Append(RowState other) => _bytes.Write(other._bytes.WrittenSpan);

    /// <summary>The same values, to be read from the first on.</summary>
    public RowState FromStart()
    {
        var copy = new RowState();
        copy.Append(this);
        return copy;
    }

    /// <summary>Adds a generator.</summary>
    public void Generator(Xoshiro256 generator)
    {
        byte[] state = new byte[Xoshiro256.StateLength];
        generator.WriteState(state);
        Bytes(state);
    }

    /// <summary>Writes all of it.</summary>
    public void WriteTo(Stream destination)
    {
        byte[] content = _bytes.WrittenSpan.ToArray();
        destination.Write(Mark);
        destination.Write(BitConverter.GetBytes((long)content.Length));
        destination.Write(content);
        destination.Write(SHA256.HashData(content));
    }

    /// <summary>Reads what <see cref="WriteTo"/> wrote.</summary>
    /// <exception cref="InvalidDataException">It is something else, or damaged.</exception>
    public static RowState ReadFrom(Stream source)
    {
        try
        {
            Span<byte> head = stackalloc byte[16];
            source.ReadExactly(head);
            long length = BitConverter.ToInt64(head[8..]);
            if (!head[..8].SequenceEqual(Mark) || length is < 0 or > MostBytes)
                throw Damaged();
            byte[] content = new byte[length], hash = new byte[SHA256.HashSizeInBytes];
            source.ReadExactly(content);
            source.ReadExactly(hash);
            if (!SHA256.HashData(content).AsSpan().SequenceEqual(hash))
                throw Damaged();
            var state = new RowState();
            state._bytes.Write(content);
            return state;
        }
        catch (EndOfStreamException)
        {
            throw Damaged();
        }
    }

    /// <summary>The next integer.</summary>
    public long Long() => Values<long>() is [long value] ? value : throw Damaged();

    /// <summary>The next integer, in a range.</summary>
    public int Int(int min, int max) => Long() is long value && value >= min && value <= max ? (int)value : throw Damaged();

    /// <summary>The next text.</summary>
    public string Text() => Encoding.UTF8.GetString(Values<byte>());

    /// <summary>The next integers, each from 0 to below a limit.</summary>
    public int[] Ints(int limit) => Values<int>() is int[] values && values.AsSpan().IndexOfAnyExceptInRange(0, limit - 1) < 0 ? values
        : throw Damaged();

    /// <summary>The next generator.</summary>
    public Xoshiro256 Generator() => Values<byte>() is { Length: Xoshiro256.StateLength } state ? new Xoshiro256(state) : throw Damaged();

    /// <summary>Refuses what is left over.</summary>
    public void End()
    {
        if (_at != _bytes.WrittenCount)
            throw Damaged();
    }

    /// <summary>The refusal.</summary>
    public static InvalidDataException Damaged() => new("the reader's state is damaged, or was written by another version.");

    private void Longs(ReadOnlySpan<long> values) => Bytes(MemoryMarshal.AsBytes(values));

    private void Bytes(ReadOnlySpan<byte> bytes)
    {
        _bytes.Write(BitConverter.GetBytes((long)bytes.Length));
        _bytes.Write(bytes);
    }

    private T[] Values<T>() where T : unmanaged
    {
        ReadOnlySpan<byte> rest = _bytes.WrittenSpan[_at..];
        long left = rest.Length - sizeof(long), length = left < 0 ? -1 : BitConverter.ToInt64(rest);
        if (length < 0 || length > left || length % Marshal.SizeOf<T>() != 0)
            throw Damaged();
        T[] values = new T[length / Marshal.SizeOf<T>()];
        rest.Slice(sizeof(long), (int)length).CopyTo(MemoryMarshal.AsBytes(values.AsSpan()));
        _at += sizeof(long) + (int)length;
        return values;
    }
}

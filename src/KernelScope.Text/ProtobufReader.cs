using System.Buffers.Binary;

namespace KernelScope.Text;

/// <summary>How a protobuf field's value is laid out (the low three bits of its tag).</summary>
internal enum WireType
{
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    GroupStart = 3,
    GroupEnd = 4,
    Fixed32 = 5,
}

/// <summary>
/// Walks the fields of one protobuf message that lies in a file's bytes. Nothing is trusted: every length is held against what is
/// left of the message, and an error names the file and the byte.
/// </summary>
internal ref struct ProtobufReader(ReadOnlySpan<byte> file, int start, int end, string name)
{
    /// <summary>Deeper nesting than any message needs; protobuf's own parsers stop here too.</summary>
    private const int MaxGroupDepth = 100;

    private readonly ReadOnlySpan<byte> _file = file;
    private readonly int _end = end;
    private readonly string _name = name;
    private int _at = start;

    /// <summary>The byte of the file where the current field's tag begins.</summary>
    public int FieldStart { get; private set; }

    /// <summary>The number of the current field.</summary>
    public int Number { get; private set; }

    /// <summary>The layout of the current field's value, which is read or skipped next.</summary>
    public WireType Wire { get; private set; }

    /// <summary>Moves to the next field's value; false at the end of the message.</summary>
    public bool Next()
    {
        if (_at == _end)
            return false;
        FieldStart = _at;
        ulong tag = ReadVarint();
        ulong wire = tag & 7;
        ulong number = tag >> 3;
        if (wire > (ulong)WireType.Fixed32)
            throw Malformed(FieldStart, $"wire type {wire} does not exist");
        if (number is 0 or >= 1 << 29)
            throw Malformed(FieldStart, $"field number {number} does not exist");
        Number = (int)number;
        Wire = (WireType)wire;
        return true;
    }

    /// <summary>Whether the current field is <paramref name="number"/>, laid out as <paramref name="wire"/>; any other layout makes it an unknown field.</summary>
    public readonly bool Is(int number, WireType wire) => Number == number && Wire == wire;

    /// <summary>The integer here: seven bits a byte, low ones first, at most ten bytes.</summary>
    public ulong ReadVarint()
    {
        int from = _at;
        ulong value = 0;
        for (int shift = 0; shift < 70; shift += 7)
        {
            if (_at == _end)
                throw Malformed(from, "the integer runs past the end of its message");
            byte b = _file[_at++];
            value |= (ulong)(b & 0x7F) << shift;
            if (b < 0x80)
                return value;
        }

        throw Malformed(from, "an integer of more than 10 bytes");
    }

    /// <summary>The float here.</summary>
    public float ReadFloat()
    {
        int from = Advance(sizeof(float));
        return BinaryPrimitives.ReadSingleLittleEndian(_file[from..]);
    }

    /// <summary>Steps over the length-prefixed bytes here.</summary>
    /// <returns>Where they begin in the file, and how many there are.</returns>
    public (int Start, int Length) ReadBytes()
    {
        int from = _at;
        ulong length = ReadVarint();
        if (length > (ulong)(_end - _at))
            throw Malformed(from, $"a length of {length} bytes where {_end - _at} are left");
        return (Advance((int)length), (int)length);
    }

    /// <summary>A reader of the message that is the current field's value.</summary>
    public ProtobufReader ReadMessage()
    {
        (int start, int length) = ReadBytes();
        return new ProtobufReader(_file, start, start + length, _name);
    }

    /// <summary>Steps over the current field's value, whatever it is.</summary>
    public void Skip()
    {
        switch (Wire)
        {
            case WireType.Varint:
                ReadVarint();
                break;
            case WireType.Fixed64:
                Advance(sizeof(ulong));
                break;
            case WireType.Bytes:
                ReadBytes();
                break;
            case WireType.Fixed32:
                Advance(sizeof(uint));
                break;
            case WireType.GroupStart:
                SkipGroup();
                break;
            default:
                throw Malformed(FieldStart, $"the end of a group {Number} that was not begun");
        }
    }

    private void SkipGroup()
    {
        Span<int> open = stackalloc int[MaxGroupDepth];
        int from = FieldStart;
        open[0] = Number;
        for (int depth = 1; depth > 0;)
        {
            if (!Next())
                throw Malformed(from, "a group that does not end");
            if (Wire == WireType.GroupStart)
            {
                if (depth == MaxGroupDepth)
                    throw Malformed(FieldStart, $"groups nested more than {MaxGroupDepth} deep");
                open[depth++] = Number;
            }
            else if (Wire == WireType.GroupEnd)
            {
                if (open[--depth] != Number)
                    throw Malformed(FieldStart, $"the end of group {Number} inside group {open[depth]}");
            }
            else
            {
                Skip();
            }
        }
    }

    private int Advance(int count)
    {
        if (count > _end - _at)
            throw Malformed(_at, $"a value of {count} bytes where {_end - _at} are left");
        int from = _at;
        _at += count;
        return from;
    }

    private readonly InvalidDataException Malformed(int at, string what) => new($"{_name}: not a sentencepiece model: {what} (byte {at}).");
}

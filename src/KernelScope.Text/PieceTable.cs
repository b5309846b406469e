using System.Buffers.Binary;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Text;

/// <summary>What a piece is for; the numbers are those of sentencepiece_model.proto.</summary>
internal enum PieceType : byte
{
    /// <summary>An id that stands for nothing; its text is empty.</summary>
    None = 0,
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// <summary>One entry of the vocabulary: its text is <paramref name="Length"/> bytes of UTF-8 from <paramref name="Start"/> on.</summary>
internal readonly record struct Piece(int Start, int Length, float Score, PieceType Type)
{
    /// <summary>Whether two neighbours in a text may merge into this piece.</summary>
    public bool IsMergeable => Type is PieceType.Normal or PieceType.UserDefined or PieceType.Unused;
}

/// <summary>
/// The vocabulary: pieces by id, and ids by text. The texts stay where the file has them; ids are found through a hash table with
/// open addressing, whose seed differs in every process so that no file can be made to collide.
/// </summary>
internal sealed class PieceTable
{
    /// <summary>
    /// Every buffer that is looked up in has this many readable bytes after its last one, so that hashing reads whole words.
    /// </summary>
    public const int Padding = sizeof(ulong);

    private static readonly ulong Seed = (ulong)Random.Shared.NextInt64(long.MinValue, long.MaxValue);

    private readonly byte[] _bytes;
    private readonly Piece[] _pieces;
    private readonly Slot[] _slots;

    private readonly record struct Slot(uint Hash, int IdPlusOne);

    private PieceTable(byte[] bytes, Piece[] pieces)
    {
        _bytes = bytes;
        _pieces = pieces;
        _slots = new Slot[(int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)pieces.Length * 2)];
    }

    public int Count => _pieces.Length;

    /// <summary>Bytes of the longest piece that two neighbours may merge into.</summary>
    public int LongestMergeable { get; private set; }

    public ref readonly Piece this[int id] => ref _pieces[id];

    /// <summary>The bytes of piece <paramref name="id"/>.</summary>
    public ReadOnlySpan<byte> Utf8(int id) => _bytes.AsSpan(_pieces[id].Start, _pieces[id].Length);

    /// <summary>Makes the table of <paramref name="pieces"/>, whose texts lie in <paramref name="bytes"/>.</summary>
    /// <exception cref="InvalidDataException">Two pieces have the same text.</exception>
    public static PieceTable Create(byte[] bytes, Piece[] pieces, string file)
    {
        var table = new PieceTable(bytes, pieces);
        for (int id = 0; id < pieces.Length; id++)
        {
            ref readonly Piece piece = ref pieces[id];
            if (piece.Type == PieceType.None)
                continue;
            if (!table.TryAdd(id, out int other))
                throw new InvalidDataException($"{file}: piece {id} (byte {piece.Start}) is {BadFile.Quote(table.Text(id))} again, which " +
                    $"is piece {other} already.");
            if (piece.IsMergeable)
                table.LongestMergeable = Math.Max(table.LongestMergeable, piece.Length);
        }

        return table;
    }

    public string Text(int id) => Encoding.UTF8.GetString(Utf8(id));

    /// <summary>
    /// The id of the piece that is <paramref name="length"/> bytes of <paramref name="padded"/> from <paramref name="start"/> on, or −1.
    /// </summary>
    public int Find(ReadOnlySpan<byte> padded, int start, int length)
    {
        uint hash = Hash(padded, start, length);
        int mask = _slots.Length - 1;
        for (int at = (int)hash & mask; ; at = (at + 1) & mask)
        {
            Slot slot = _slots[at];
            if (slot.IdPlusOne == 0)
                return -1;
            if (slot.Hash == hash && Utf8(slot.IdPlusOne - 1).SequenceEqual(padded.Slice(start, length)))
                return slot.IdPlusOne - 1;
        }
    }

    /// <summary>The id of the piece with this text, or −1.</summary>
    public int Find(ReadOnlySpan<byte> text)
    {
        byte[] padded = new byte[text.Length + Padding];
        text.CopyTo(padded);
        return Find(padded, 0, text.Length);
    }

    private bool TryAdd(int id, out int other)
    {
        uint hash = Hash(_bytes, _pieces[id].Start, _pieces[id].Length);
        int mask = _slots.Length - 1;
        int at = (int)hash & mask;
        for (; _slots[at].IdPlusOne != 0; at = (at + 1) & mask)
        {
            other = _slots[at].IdPlusOne - 1;
            if (_slots[at].Hash == hash && Utf8(other).SequenceEqual(Utf8(id)))
                return false;
        }

        _slots[at] = new Slot(hash, id + 1);
        other = -1;
        return true;
    }

    private static uint Hash(ReadOnlySpan<byte> padded, int start, int length)
    {
        // Odd constants with well-mixed bits (from the golden ratio and from pi).
        const ulong A = 0x9E3779B97F4A7C15, B = 0x243F6A8885A308D3;
        ulong h = Seed ^ ((ulong)length * A);
        while (length > sizeof(ulong))
        {
            h = Mix(h ^ BinaryPrimitives.ReadUInt64LittleEndian(padded[start..]), A ^ Seed);
            start += sizeof(ulong);
            length -= sizeof(ulong);
        }

        ulong last = BinaryPrimitives.ReadUInt64LittleEndian(padded[start..]) & (ulong.MaxValue >> (64 - (8 * length)));
        h = Mix(h ^ last, B);
        return (uint)(h ^ (h >> 32));
    }

    private static ulong Mix(ulong a, ulong b)
    {
        ulong high = Math.BigMul(a, b, out ulong low);
        return high ^ low;
    }
}

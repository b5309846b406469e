using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Evaluation;

/// <summary>
/// What an evaluation has measured so far, a record for each sequence, appended and flushed to the disk before the next begins. A run that was killed at any moment goes on from the last whole record
/// (each carries a checksum; a torn one at the end is dropped), and since results are sums over the records in order, they are those of an unbroken run bit for bit.
/// </summary>
/// <remarks>
/// Layout, little-endian: the magic; the identity (length, UTF-8 lines "name\tvalue", CRC-32); then records: kind, length, payload, CRC-32 of all three. The file first appears with its whole identity,
/// by renaming. It is kept when the run is complete: running again then only sums up.
/// </remarks>
internal sealed class EvaluationJournal : IDisposable
{
    private const int MeansKind = 1;
    private const int ScoresKind = 2;
    private const int HeadLength = 12;

    // The number goes up when sums run in another order: an evaluation is not finished with other last bits than it began with.
    private static ReadOnlySpan<byte> Magic => "KernelScope evaluation 2\n"u8;

    private readonly FileStream _stream;
    private readonly string _path;
    private readonly List<long> _scores = [];
    private long _lastMeans = -1;
    private uint _crc;

    private EvaluationJournal(FileStream stream, string path) => (_stream, _path) = (stream, path);

    /// <summary>Number of sequences whose values are in the sums of the first pass.</summary>
    public int MeansCount { get; private set; }

    /// <summary>Number of sequences whose scores are there.</summary>
    public int ScoresCount => _scores.Count;

    /// <summary>Opens or begins a journal.</summary>
    /// <param name="path">The file.</param>
    /// <param name="identity">What it belongs to: names and values.</param>
    /// <exception cref="InvalidDataException">The file belongs to something else, or is no journal; the message says what differs, and the file is as it was.</exception>
    /// <exception cref="IOException">It cannot be written, or another run uses it.</exception>
    public static EvaluationJournal Open(string path, IReadOnlyList<KeyValuePair<string, string>> identity)
    {
        if (!RawFile.IsThere(path))
        {
            using AtomicFile file = AtomicFile.Create(path);
            WriteHeader(file.Stream, identity);
            file.Commit();
        }

        FileStream stream;
        try
        {
            // A pipe has no length either, and reading it would wait for ever.
            if (new FileInfo(path) is { Exists: true, Length: 0 })
                throw BadFile.Of(path, "this is no resume file of an evaluation; it was left as it is.");
            stream = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None, 1 << 16);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            throw new IOException($"{path}: the resume file cannot be opened ({e.Message.TrimEnd('.')}).", e);
        }

        return Owning(stream, path, journal =>
        {
            journal.CheckIdentity(identity);
            journal.Scan();
        });
    }

    /// <summary>A journal that is deleted when it is closed, for arrays that are put together at the end.</summary>
    public static EvaluationJournal Temporary(string path)
    {
        try
        {
            var stream = new FileStream(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Delete, 1 << 16, FileOptions.DeleteOnClose);
            // Where a name may go before the file does, not even a killed process leaves it behind.
            if (!OperatingSystem.IsWindows())
                File.Delete(path);
            return new(stream, path);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            throw new IOException($"{path}: the file cannot be written ({e.Message.TrimEnd('.')}).", e);
        }
    }

    /// <summary>Records the first pass's sums after <paramref name="count"/> sequences.</summary>
    public void AppendMeans(int count, SiteSums[] sums)
    {
        _lastMeans = Begin(MeansKind, sizeof(int) + sums.Sum(s => 8L * (s.Counts.Length + s.Sums.Length)));
        Write<int>([count]);
        foreach (SiteSums site in sums)
        {
            Write<long>(site.Counts);
            Write<double>(site.Sums);
        }

        End();
        MeansCount = count;
    }

    /// <summary>Reads the last such record.</summary>
    public void ReadMeans(SiteSums[] sums)
    {
        _stream.Position = _lastMeans + sizeof(int);
        foreach (SiteSums site in sums)
        {
            Read<long>(site.Counts);
            Read<double>(site.Sums);
        }
    }

    /// <summary>Records the next sequence.</summary>
    public void Append(SequenceScores scores)
    {
        long codes = scores.Codes.Sum(c => (8L * (c.Rows + 1)) + (8L * c.Count));
        long start = Begin(ScoresKind, (8L * scores.Row.Length) + scores.Values.Sum(v => 4L * v.Length) + codes);
        Write<double>(scores.Row);
        foreach (float[] values in scores.Values)
            Write<float>(values);
        foreach (CodeList list in scores.Codes)
        {
            Write<long>(list.RowStart.AsSpan(0, list.Rows + 1));
            Write<int>(list.Feature.AsSpan(0, list.Count));
            Write<float>(list.Value.AsSpan(0, list.Count));
        }

        End();
        _scores.Add(start);
    }

    /// <summary>Reads a sequence's record into scores of the right layout.</summary>
    public void Read(int sequence, SequenceScores scores)
    {
        _stream.Position = _scores[sequence];
        Read<double>(scores.Row);
        foreach (float[] values in scores.Values)
            Read<float>(values);
        foreach (CodeList list in scores.Codes)
        {
            int rows = scores.Layout.Length;
            list.Resize(rows, 0);
            Read<long>(list.RowStart.AsSpan(0, rows + 1));
            list.Resize(rows, list.Count);
            Read<int>(list.Feature.AsSpan(0, list.Count));
            Read<float>(list.Value.AsSpan(0, list.Count));
        }
    }

    /// <summary>Reads part of a sequence's row of numbers.</summary>
    public void ReadRow(int sequence, int offset, Span<double> destination)
    {
        _stream.Position = _scores[sequence] + (8L * offset);
        Read(destination);
    }

    /// <summary>Reads a kept array of a sequence.</summary>
    public void ReadArray(int sequence, SequenceScores scores, int array)
    {
        _stream.Position = _scores[sequence] + (8L * scores.Row.Length) + scores.Values.Take(array).Sum(v => 4L * v.Length);
        Read<float>(scores.Values[array]);
    }

    public void Dispose() => _stream.Dispose();

    private static EvaluationJournal Owning(FileStream stream, string path, Action<EvaluationJournal> check)
    {
        var journal = new EvaluationJournal(stream, path);
        try
        {
            check(journal);
            return journal;
        }
        catch
        {
            journal.Dispose();
            throw;
        }
    }

    private static void WriteHeader(FileStream stream, IReadOnlyList<KeyValuePair<string, string>> identity)
    {
        byte[] text = Encoding.UTF8.GetBytes(string.Join('\n', identity.Select(p => $"{p.Key}\t{p.Value}")));
        Span<byte> number = stackalloc byte[sizeof(int)];
        stream.Write(Magic);
        BinaryPrimitives.WriteInt32LittleEndian(number, text.Length);
        stream.Write(number);
        stream.Write(text);
        BinaryPrimitives.WriteUInt32LittleEndian(number, Crc32.Append(0, text));
        stream.Write(number);
    }

    private void CheckIdentity(IReadOnlyList<KeyValuePair<string, string>> identity)
    {
        byte[] magic = new byte[Magic.Length];
        Span<byte> number = stackalloc byte[sizeof(int)];
        if (_stream.ReadAtLeast(magic, magic.Length, throwOnEndOfStream: false) < magic.Length || !Magic.SequenceEqual(magic) || _stream.ReadAtLeast(number, number.Length, throwOnEndOfStream: false) < number.Length)
            throw BadFile.Of(_path, "this is no resume file of an evaluation; it was left as it is.");
        int length = BinaryPrimitives.ReadInt32LittleEndian(number);
        if (length < 0 || length > _stream.Length - _stream.Position - sizeof(uint))
            throw BadFile.Of(_path, "the resume file ends within its header.");
        byte[] text = new byte[length];
        _stream.ReadExactly(text);
        _stream.ReadExactly(number);
        if (Crc32.Append(0, text) != BinaryPrimitives.ReadUInt32LittleEndian(number))
            throw BadFile.Of(_path, "the resume file's header is damaged.");
        var stored = Encoding.UTF8.GetString(text).Split('\n').Select(line => line.Split('\t', 2)).ToDictionary(p => p[0], p => p[^1], StringComparer.Ordinal);
        List<string> different = [.. identity.Where(p => !stored.TryGetValue(p.Key, out string? value) || value != p.Value).Select(p => p.Key)];
        different.AddRange(stored.Keys.Except(identity.Select(p => p.Key)));
        if (different.Count > 0)
            throw BadFile.Of(_path, $"the resume file belongs to another evaluation; what differs: {string.Join(", ", different)}. It was left as it is; name another file, or delete this one.");
    }

    /// <summary>Finds the whole records and cuts off what follows them.</summary>
    private void Scan()
    {
        long end = _stream.Position;
        while (TryRecord(end, out int kind, out long length))
        {
            long payload = end + HeadLength;
            if (kind == MeansKind)
            {
                _stream.Position = payload;
                int[] count = new int[1];
                Read<int>(count);
                MeansCount = count[0];
                _lastMeans = payload;
            }
            else
            {
                _scores.Add(payload);
            }

            end = payload + length + sizeof(uint);
        }

        _stream.SetLength(end);
    }

    private bool TryRecord(long at, out int kind, out long length)
    {
        (kind, length) = (0, 0);
        Span<byte> head = stackalloc byte[HeadLength];
        if (at + HeadLength + sizeof(uint) > _stream.Length)
            return false;
        _stream.Position = at;
        _stream.ReadExactly(head);
        kind = BinaryPrimitives.ReadInt32LittleEndian(head);
        length = BinaryPrimitives.ReadInt64LittleEndian(head[4..]);
        if (kind is not (MeansKind or ScoresKind) || length < 0 || length > _stream.Length - at - HeadLength - sizeof(uint))
            return false;
        uint crc = Crc32.Append(0, head);
        byte[] buffer = new byte[1 << 16];
        for (long left = length; left > 0;)
        {
            int count = (int)Math.Min(left, buffer.Length);
            _stream.ReadExactly(buffer, 0, count);
            crc = Crc32.Append(crc, buffer.AsSpan(0, count));
            left -= count;
        }

        Span<byte> stored = stackalloc byte[sizeof(uint)];
        _stream.ReadExactly(stored);
        return crc == BinaryPrimitives.ReadUInt32LittleEndian(stored);
    }

    private long Begin(int kind, long length)
    {
        _stream.Position = _stream.Length;
        Span<byte> head = stackalloc byte[HeadLength];
        BinaryPrimitives.WriteInt32LittleEndian(head, kind);
        BinaryPrimitives.WriteInt64LittleEndian(head[4..], length);
        _crc = Crc32.Append(0, head);
        _stream.Write(head);
        return _stream.Position;
    }

    private void End()
    {
        Span<byte> crc = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(crc, _crc);
        _stream.Write(crc);
        _stream.Flush(flushToDisk: true);
    }

    private void Write<T>(ReadOnlySpan<T> values) where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(values);
        _crc = Crc32.Append(_crc, bytes);
        _stream.Write(bytes);
    }

    private void Read<T>(Span<T> values) where T : unmanaged => _stream.ReadExactly(MemoryMarshal.AsBytes(values));
}

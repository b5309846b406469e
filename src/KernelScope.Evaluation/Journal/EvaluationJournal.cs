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
/// by renaming. It is kept when the run is complete: running again then only sums up. Records of the first pass, one for each sequence: the number of sequences (i32), and of each site counts and sums. Then those of the second:
/// the sequence (i32), its row of numbers, kept arrays, and of each SAE row starts, features and values. When a journal is opened every record is held to <see cref="JournalRules"/>.
/// </remarks>
internal sealed class EvaluationJournal : IDisposable
{
    private const int MeansKind = 1;
    private const int ScoresKind = 2;
    private const int HeadLength = 12;

    // The number goes up when records change, or sums run in another order: an evaluation is not finished with other last bits than it began with.
    private static ReadOnlySpan<byte> Magic => "KernelScope evaluation 4\n"u8;

    private static ReadOnlySpan<byte> AnyMagic => "KernelScope evaluation "u8;

    private readonly FileStream _stream;
    private readonly string _path, _what;
    private readonly List<long> _scores = [];
    private long _lastMeans = -1;
    private uint _crc;

    private EvaluationJournal(FileStream stream, string path, string what) => (_stream, _path, _what) = (stream, path, what);

    /// <summary>Number of sequences whose values are in the sums of the first pass.</summary>
    public int MeansCount { get; private set; }

    /// <summary>Number of sequences whose scores are there.</summary>
    public int ScoresCount => _scores.Count;

    /// <summary>Opens or begins a journal.</summary>
    /// <param name="path">The file.</param>
    /// <param name="identity">What it belongs to: names and values.</param>
    /// <param name="rules">What its records must be like.</param>
    /// <exception cref="InvalidDataException">The file belongs to something else, is not a journal, or holds records that no such evaluation writes; the message says what, and the file is as it was.</exception>
    /// <exception cref="IOException">It cannot be written, or another run uses it.</exception>
    public static EvaluationJournal Open(string path, IReadOnlyList<KeyValuePair<string, string>> identity, JournalRules rules)
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
                throw BadFile.At(path, "this is not a resume file of an evaluation; it was left as it is.");
            stream = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None, 1 << 16);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            throw new IOException($"{path}: the resume file cannot be opened ({e.Message.TrimEnd('.')}).", e);
        }

        return Owning(stream, path, journal =>
        {
            journal.CheckIdentity(identity);
            journal.Scan(rules);
        });
    }

    /// <summary>A journal that is deleted when it is closed, for arrays that are put together at the end.</summary>
    /// <param name="target">The file of the arrays, beside which it is; failures name that one.</param>
    public static EvaluationJournal Temporary(string target)
    {
        string path = TemporaryName.For(FilePlace.TargetOf(target));
        try
        {
            var stream =
                new FileStream(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Delete, 1 << 16, FileOptions.DeleteOnClose);
            // Where a name may go before the file does, not even a killed process leaves it behind.
            if (!OperatingSystem.IsWindows())
                File.Delete(path);
            return new(stream, target, "file");
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            throw new IOException(
                $"{BadFile.Printable(target, 4096)}: the file cannot be written ({AtomicFile.Named(e, path, target).Message}).", e);
        }
    }

    /// <summary>Records the first pass's sums after <paramref name="count"/> sequences.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public void AppendMeans(int count, SiteSums[] sums) => Writing(() =>
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
    });

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
    /// <exception cref="IOException">It cannot be written.</exception>
    public void Append(SequenceScores scores) => Writing(() =>
    {
        long codes = scores.Codes.Sum(c => (8L * (c.Rows + 1)) + (8L * c.Count));
        long start = Begin(ScoresKind, sizeof(int) + (8L * scores.Row.Length) + scores.Values.Sum(v => 4L * v.Length) + codes);
        Write<int>([_scores.Count]);
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
        _scores.Add(start + sizeof(int));
    });

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

    public void Dispose()
    {
        try
        {
            _stream.Dispose();
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            // The rest of a record that could not be written, which was said then.
        }
    }

    private static EvaluationJournal Owning(FileStream stream, string path, Action<EvaluationJournal> check)
    {
        var journal = new EvaluationJournal(stream, path, "resume file");
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

    private static void WriteHeader(Stream stream, IReadOnlyList<KeyValuePair<string, string>> identity)
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
        if (_stream.ReadAtLeast(magic, magic.Length, throwOnEndOfStream: false) < magic.Length
            || !AnyMagic.SequenceEqual(magic.AsSpan(0, AnyMagic.Length)))
            throw BadFile.At(_path, "this is not a resume file of an evaluation; it was left as it is.");
        if (!Magic.SequenceEqual(magic))
            throw BadFile.At(
                _path, "this is a resume file of another version's format, which this version does not go on from; it was left as it "
                    + "is. Name another file, or delete this one.");
        if (_stream.ReadAtLeast(number, number.Length, throwOnEndOfStream: false) < number.Length)
            throw BadFile.At(_path, "the resume file ends within its header.");
        int length = BinaryPrimitives.ReadInt32LittleEndian(number);
        if (length < 0 || length > _stream.Length - _stream.Position - sizeof(uint))
            throw BadFile.At(_path, "the resume file ends within its header.");
        byte[] text = new byte[length];
        _stream.ReadExactly(text);
        _stream.ReadExactly(number);
        if (Crc32.Append(0, text) != BinaryPrimitives.ReadUInt32LittleEndian(number))
            throw BadFile.At(_path, "the resume file's header is damaged.");
        var stored = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (string line in Encoding.UTF8.GetString(text).Split('\n'))
        {
            string[] pair = line.Split('\t', 2);
            if (!stored.TryAdd(pair[0], pair[^1]))
                throw BadFile.At(_path, "the resume file's header is damaged.");
        }

        List<string> different =
            [.. identity.Where(p => !stored.TryGetValue(p.Key, out string? value) || value != p.Value).Select(p => p.Key)];
        different.AddRange(stored.Keys.Except(identity.Select(p => p.Key)));
        if (different.Count > 0)
            throw BadFile.At(
                _path, $"the resume file belongs to another evaluation; what differs: {string.Join(", ", different)}. It was left as "
                    + "it is; name another file, or delete this one.");
    }

    /// <summary>Finds the whole records and cuts off what follows them: a record that was being written when the process ended.</summary>
    private void Scan(JournalRules rules)
    {
        long end = _stream.Position;
        while (TryRecord(end, out int kind, out long length))
        {
            long payload = end + HeadLength;
            bool belongs = length >= sizeof(int) && kind switch
            {
                MeansKind => ScanMeans(payload, length, rules),
                ScoresKind => ScanScores(payload, length, rules),
                _ => false,
            };
            if (!belongs)
                throw BadFile.At(
                    _path, $"the record at byte {end} of the resume file is none that this evaluation writes there; the file was left "
                        + "as it is. Name another file, or delete this one.");
            end = payload + length + sizeof(uint);
        }

        _stream.SetLength(end);
    }

    private bool ScanMeans(long payload, long length, JournalRules rules)
    {
        SiteSums[] sums = rules.NewSums();
        if (_scores.Count > 0 || MeansCount == rules.Sequences
            || length != sizeof(int) + sums.Sum(s => 8L * (s.Counts.Length + s.Sums.Length)))
            return false;
        _lastMeans = payload;
        if (NumberAt(payload) != ++MeansCount)
            return false;
        ReadMeans(sums);
        return rules.Allow(MeansCount, sums);
    }

    private bool ScanScores(long payload, long length, JournalRules rules)
    {
        if (MeansCount < rules.Sequences || _scores.Count == rules.Sequences || NumberAt(payload) != _scores.Count)
            return false;
        SequenceScores scores = rules.NewScores(_scores.Count);
        long left = length - sizeof(int) - (8L * scores.Row.Length) - scores.Values.Sum(v => 4L * v.Length);
        _stream.Position = payload + length - left;
        for (int s = 0; s < scores.Codes.Length; s++)
        {
            long[] starts = new long[scores.Layout.Length + 1];
            left -= 8L * starts.Length;
            if (left < 0)
                return false;
            Read<long>(starts);
            if (!JournalRules.AllowStarts(starts, rules.FeatureCount(s), left))
                return false;
            left -= 8 * starts[^1];
            _stream.Position += 8 * starts[^1];
        }

        if (left != 0)
            return false;
        _scores.Add(payload + sizeof(int));
        Read(_scores.Count - 1, scores);
        return rules.Allow(scores);
    }

    private int NumberAt(long position)
    {
        int[] number = new int[1];
        _stream.Position = position;
        Read<int>(number);
        return number[0];
    }

    private void Writing(Action write)
    {
        try
        {
            write();
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            throw new IOException(
                $"{BadFile.Printable(_path, 4096)}: the {_what} cannot be written "
                    + $"({BadFile.Printable(e.Message.Split(" (Parameter '")[0].TrimEnd('.'), 300)}).", e);
        }
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
        if (length < 0 || length > _stream.Length - at - HeadLength - sizeof(uint))
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

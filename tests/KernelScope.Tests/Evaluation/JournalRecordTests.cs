using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Evaluation;

/// <summary>Records with right checksums and wrong contents: refused by the file's name, and the file stays.</summary>
public sealed class JournalRecordTests
{
    private const int Means = 1, Scores = 2;

    public static TheoryData<string> Kinds() => new(
        "count -1", "count 99", "count most", "count twice", "empty", "half", "longer", "twice", "swapped", "another's number",
        "second part first", "first part after", "one too many", "unknown kind",
        "ones at 3/10", "ones at 5/10", "ones at 7/10", "ones at the end", "sums not finite", "feature too large", "features out of order",
        "counts of others", "the header twice");

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_record_that_this_evaluation_does_not_write_there_is_refused(string kind)
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Residual);
        string whole = folder.At("whole"), wanted = Json(evaluation.Run(new() { ResumePath = whole }));
        (byte[] head, List<(int Kind, byte[] Payload)> records) = Parse(File.ReadAllBytes(whole));
        Assert.Equal(2 * evaluation.Tokens.Count, records.Count);
        Assert.Equal(wanted, Json(evaluation.Run(new() { ResumePath = folder.Write("same", Build(head, records)) })));
        byte[] crafted = kind == "the header twice" ? Build(TwiceTheSameName(head), records)
            : Build(head, Craft(kind, records, evaluation.Tokens.Count));
        string path = folder.Write("crafted", crafted);
        string message = Assert.Throws<InvalidDataException>(() => evaluation.Run(new() { ResumePath = path })).Message;
        Assert.Contains(path, message, StringComparison.Ordinal);
        Assert.Equal(crafted, File.ReadAllBytes(path));
    }

    [Theory]
    [InlineData("KernelScope evaluation 2\n", "another version")]
    [InlineData("KernelScope evaluation 9\n", "another version")]
    [InlineData("KernelScope something\n something else", "not a resume file")]
    public void A_journal_of_another_format_is_named_and_kept(string content, string words)
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Residual);
        string path = folder.Write("journal", content);
        Assert.Contains(words, Assert.Throws<InvalidDataException>(() => evaluation.Run(new() { ResumePath = path })).Message,
            StringComparison.Ordinal);
        Assert.Equal(content, File.ReadAllText(path));
    }

    private static List<(int Kind, byte[] Payload)> Craft(string kind, List<(int Kind, byte[] Payload)> records, int sequences)
    {
        int s = sequences;
        byte[] means = records[0].Payload, scores = records[s].Payload;
        List<(int, byte[])> With(int index, byte[] payload) =>
            [.. records[..index], (records[index].Kind, payload), .. records[(index + 1)..]];
        List<(int, byte[])> Ones(int tenths) => With(s, Put(scores, scores.Length * tenths / 10 / 8 * 8, -1L));
        return kind switch
        {
            "count -1" => With(0, Put(means, 0, -1)),
            "count 99" => With(0, Put(means, 0, 99)),
            "count most" => With(0, Put(means, 0, int.MaxValue)),
            "count twice" => With(1, Put(records[1].Payload, 0, 1)),
            "empty" => With(s, []),
            "half" => With(s, scores[..(scores.Length / 2)]),
            "longer" => With(s, [.. scores, 0, 0, 0, 0, 0, 0, 0, 0]),
            "twice" => [.. records[..s], records[s], .. records[s..(s + 2)]],
            "swapped" => [.. records[..s], records[s + 1], records[s]],
            "another's number" => With(s, Put(scores, 0, 1)),
            "second part first" => records[s..],
            "first part after" => [.. records[..(s + 1)], records[0]],
            "one too many" => [.. records, (Scores, Put(scores, 0, s))],
            "unknown kind" => [.. records[..s], (7, scores)],
            "ones at 3/10" => Ones(3),
            "ones at 5/10" => Ones(5),
            "ones at 7/10" => Ones(7),
            "ones at the end" => With(s, Put(scores, scores.Length - 8, -1L)),
            "sums not finite" =>
                With(s - 1, Put(records[s - 1].Payload, means.Length - 8, BitConverter.DoubleToInt64Bits(double.PositiveInfinity))),
            "counts of others" => With(s - 1, Put(records[s - 1].Payload, 4, 12345L)),
            "feature too large" => With(s, Feature(scores, last: true, int.MaxValue)),
            "features out of order" => With(s, Feature(scores, last: false, 1_000_000)),
            _ => throw new ArgumentOutOfRangeException(nameof(kind)),
        };
    }

    // Codes are last: features, then as many values of the same size. The number of them is what stands before, at the end of the row starts.
    private static byte[] Feature(byte[] scores, bool last, int feature)
    {
        for (int count = 1; count < scores.Length / 8; count++)
        {
            int at = scores.Length - (8 * count);
            if (BitConverter.ToInt64(scores, at - 8) == count)
                return Put(scores, last ? at + (4 * (count - 1)) : at, feature);
        }

        throw new InvalidOperationException("There are no codes in this record.");
    }

    private static byte[] Put(byte[] bytes, int at, int value)
    {
        byte[] copy = [.. bytes];
        BinaryPrimitives.WriteInt32LittleEndian(copy.AsSpan(at), value);
        return copy;
    }

    private static byte[] Put(byte[] bytes, int at, long value)
    {
        byte[] copy = [.. bytes];
        BinaryPrimitives.WriteInt64LittleEndian(copy.AsSpan(at), value);
        return copy;
    }

    private static byte[] TwiceTheSameName(byte[] head)
    {
        int magic = Array.IndexOf(head, (byte)'\n') + 1;
        byte[] text = head[(magic + 4)..^4];
        text = [.. text, (byte)'\n', .. text.AsSpan(0, Array.IndexOf(text, (byte)'\n'))];
        return [.. head[..magic], .. BitConverter.GetBytes(text.Length), .. text, .. BitConverter.GetBytes(Crc32.Append(0, text))];
    }

    private static (byte[] Head, List<(int Kind, byte[] Payload)> Records) Parse(byte[] journal)
    {
        int magic = Array.IndexOf(journal, (byte)'\n') + 1, at = magic + 4 + BitConverter.ToInt32(journal, magic) + 4;
        byte[] head = journal[..at];
        var records = new List<(int, byte[])>();
        while (at < journal.Length)
        {
            int length = (int)BitConverter.ToInt64(journal, at + 4);
            records.Add((BitConverter.ToInt32(journal, at), journal[(at + 12)..(at + 12 + length)]));
            at += 12 + length + 4;
        }

        return (head, records);
    }

    private static byte[] Build(byte[] head, List<(int Kind, byte[] Payload)> records)
    {
        using var journal = new MemoryStream();
        journal.Write(head);
        foreach ((int kind, byte[] payload) in records)
        {
            Assert.InRange(kind, Means, 7);
            byte[] record = [.. BitConverter.GetBytes(kind), .. BitConverter.GetBytes((long)payload.Length), .. payload];
            journal.Write(record);
            journal.Write(BitConverter.GetBytes(Crc32.Append(0, record)));
        }

        return journal.ToArray();
    }

    private static string Json(EvaluationResult result)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
            EvaluationJson.Write(json, result, "model");
        return Encoding.UTF8.GetString(stream.ToArray());
    }
}

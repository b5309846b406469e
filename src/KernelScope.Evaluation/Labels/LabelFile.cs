using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Evaluation;

/// <summary>
/// The labels of one source as a file: a safetensors file with a <see cref="LabelTable"/> and its <see cref="LabelWords"/>, and the
/// CRC-32 of its values. It is mapped, not read.
/// </summary>
internal static class LabelFile
{
    public const string Extension = ".labels";

    private const string Format = "kernelscope-labels-1";

    // In the order of the file: what is wider than a byte first, so that it is aligned.
    private static readonly string[] Numbers = ["index", "type", "maker", "text_end", "id_end", "name_end", "word_end", "row_end", "row"];
    private static readonly string[] Texts = ["text", "id", "name", "word"];

    /// <summary>Why a model or a source of this name has no file; null: it may have one.</summary>
    public static string? WrongName(string name) =>
        name.Length is > 0 and <= 200 && name[0] != '.' && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-') ? null
            : $"{BadFile.Quote(name)} cannot be the name of a file of labels, which has letters, digits, '.', '_' and '-' only.";

    /// <summary>Writes a file; it appears when it is complete.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Write(string path, LabelTable table)
    {
        LabelWords words = table.Words;
        ReadOnlyMemory<int>[] numbers =
        [
            table.Indexes, table.Types, table.Makers, table.Texts.Ends, table.Ids.Ends, table.Names.Ends, words.Words.Ends,
            words.Rows.Ends, words.Rows.Values,
        ];
        ReadOnlyMemory<byte>[] texts = [table.Texts.Values, table.Ids.Values, table.Names.Values, words.Words.Values];
        TensorInfo[] tensors =
        [
            .. numbers.Select((v, i) => new TensorInfo(Numbers[i], DType.I32, [v.Length])),
            .. texts.Select((v, i) => new TensorInfo(Texts[i], DType.U8, [v.Length])),
        ];
        using var writer = new SafetensorsWriter(path, tensors, new Dictionary<string, string>
        {
            ["format"] = Format,
            ["model"] = table.ModelId,
            ["source"] = table.Source,
            ["crc32"] = Checksum(table.ModelId, table.Source, numbers, texts),
        });
        foreach (ReadOnlyMemory<int> values in numbers)
            writer.Append(values.Span);
        foreach (ReadOnlyMemory<byte> values in texts)
            writer.Append(values.Span);
        writer.Commit();
        GC.KeepAlive(table);
    }

    /// <summary>Maps a file, and checks it whole.</summary>
    /// <exception cref="InvalidDataException">It is not such a file, or damaged.</exception>
    public static LabelTable Open(string path)
    {
        var file = SafetensorsFile.Open(path);
        try
        {
            return Read(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static LabelTable Read(SafetensorsFile file)
    {
        if (file.Metadata.GetValueOrDefault("format") != Format || !file.Metadata.TryGetValue("model", out string? model)
            || !file.Metadata.TryGetValue("source", out string? source))
            throw BadFile.At(file.Path, "it is not what labels import --out-dir writes.");
        ReadOnlyMemory<int>[] numbers = Array.ConvertAll(Numbers, name => Mapped<int>(file, name));
        ReadOnlyMemory<byte>[] texts = Array.ConvertAll(Texts, name => Mapped<byte>(file, name));
        if (file.Metadata.GetValueOrDefault("crc32") != Checksum(model, source, numbers, texts))
            throw BadFile.At(file.Path, "its values have another CRC-32 than its header says: it is damaged; import the labels anew.");
        var words = new LabelWords(new Ragged<byte>(numbers[6], texts[3]), new Ragged<int>(numbers[7], numbers[8]));
        var table = new LabelTable(words)
        {
            ModelId = model,
            Source = source,
            Indexes = numbers[0],
            Types = numbers[1],
            Makers = numbers[2],
            Texts = new Ragged<byte>(numbers[3], texts[0]),
            Ids = new Ragged<byte>(numbers[4], texts[1]),
            Names = new Ragged<byte>(numbers[5], texts[2]),
        };
        if (!IsSound(table))
            throw BadFile.At(file.Path, "its lists do not fit together: it is damaged; import the labels anew.");
        return table;
    }

    private static bool IsSound(LabelTable table)
    {
        LabelWords words = table.Words;
        int[] counts = [table.Types.Length, table.Makers.Length, table.Texts.Count, table.Ids.Count];
        return counts.All(c => c == table.Count) && words.Words.Count == words.Rows.Count
            && table.Texts.IsSound && table.Ids.IsSound && table.Names.IsSound && words.Words.IsSound && words.Rows.IsSound
            && AreWithin(words.Rows.Values, 0, table.Count) && AreWithin(table.Types, -1, table.Names.Count)
            && AreWithin(table.Makers, -1, table.Names.Count) && AreWithin(table.Indexes, 0, int.MaxValue) && Ascend(table.Indexes.Span);
    }

    private static bool AreWithin(ReadOnlyMemory<int> values, int first, int end) =>
        values.Span.IndexOfAnyExceptInRange(first, end - 1) < 0;

    private static bool Ascend(ReadOnlySpan<int> values)
    {
        for (int i = 1; i < values.Length; i++)
        {
            if (values[i] < values[i - 1])
                return false;
        }

        return true;
    }

    private static ReadOnlyMemory<T> Mapped<T>(SafetensorsFile file, string name)
        where T : unmanaged
    {
        if (!file.TryGet(name, out TensorView tensor) || tensor.DType != DTypes.Of<T>() || tensor.Shape.Length != 1
            || tensor.ElementCount > int.MaxValue)
            throw BadFile.At(file.Path, $"a list of labels misses {name}, or has it in another type; import the labels anew.");
        return new MappedValues<T>(tensor).Memory;
    }

    /// <summary>CRC-32 of the names and all values.</summary>
    private static string Checksum(string model, string source, ReadOnlyMemory<int>[] numbers, ReadOnlyMemory<byte>[] texts)
    {
        uint checksum = Crc32.Append(0, Encoding.UTF8.GetBytes($"{model}\n{source}\n"));
        foreach (ReadOnlyMemory<int> values in numbers)
            checksum = Crc32.Append(checksum, MemoryMarshal.AsBytes(values.Span));
        foreach (ReadOnlyMemory<byte> values in texts)
            checksum = Crc32.Append(checksum, values.Span);
        return checksum.ToString("x8", CultureInfo.InvariantCulture);
    }

    /// <summary>Values in a mapped file, which stays mapped while somebody can reach them.</summary>
    private sealed class MappedValues<T>(TensorView tensor) : MemoryManager<T>
        where T : unmanaged
    {
        public override unsafe Span<T> GetSpan() => new(tensor.Pointer, (int)tensor.ElementCount);

        public override MemoryHandle Pin(int elementIndex = 0) => throw new NotSupportedException();

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}

using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace KernelScope.Files;

/// <summary>
/// Writes a safetensors file: the header first, from the list of tensors, then their values in that order. The data begins at a multiple of 8, or of what is asked for.
/// The file appears on <see cref="Commit"/>; without it nothing is left.
/// </summary>
/// <remarks>For one caller at a time.</remarks>
public sealed class SafetensorsWriter : IDisposable
{
    private readonly AtomicFile? _file;
    private readonly Stream _stream;
    private readonly TensorInfo[] _tensors;
    private int _current;
    private long _left;

    /// <summary>Starts a file that will hold these tensors, in this order.</summary>
    /// <param name="path">Where.</param>
    /// <param name="tensors">Names, types and shapes; row-major.</param>
    /// <param name="metadata">Texts for the header's __metadata__; null for none.</param>
    /// <param name="alignment">The data begins at a multiple of it.</param>
    /// <exception cref="ArgumentException">A name is there twice, or a tensor is column-major.</exception>
    /// <exception cref="IOException">It cannot be written there.</exception>
    public SafetensorsWriter(string path, IEnumerable<TensorInfo> tensors, IReadOnlyDictionary<string, string>? metadata = null,
        int alignment = sizeof(ulong))
    {
        _tensors = [.. tensors];
        byte[] header = Header(_tensors, metadata, alignment);
        HeaderChecksum = Crc32.Append(0, header);
        _file = AtomicFile.Create(path);
        _stream = _file.Stream;
        try
        {
            Begin(header);
        }
        catch
        {
            _file.Dispose();
            throw;
        }
    }

    /// <summary>The same to a stream, which stays its owner's: <see cref="Commit"/> only says what is missing.</summary>
    internal SafetensorsWriter(Stream destination, IEnumerable<TensorInfo> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        _tensors = [.. tensors];
        byte[] header = Header(_tensors, metadata, sizeof(ulong));
        HeaderChecksum = Crc32.Append(0, header);
        _stream = destination;
        Begin(header);
    }

    /// <summary>CRC-32 of the header, for those who keep it.</summary>
    internal uint HeaderChecksum { get; }

    /// <summary>Writes the next values of the tensor whose turn it is; a tensor may come in pieces.</summary>
    /// <exception cref="ArgumentException">The values are of another type, or too many.</exception>
    public void Append<T>(ReadOnlySpan<T> values) where T : unmanaged
    {
        GoOn();
        if (!values.IsEmpty && _current < _tensors.Length && DTypes.Of<T>() != _tensors[_current].DType)
            throw new ArgumentException($"Values of {typeof(T).Name} are not {Current}.", nameof(values));
        AppendBytes(MemoryMarshal.AsBytes(values));
    }

    /// <summary>Writes the next values as they are stored, whatever their type.</summary>
    /// <exception cref="ArgumentException">They are too many.</exception>
    internal void AppendBytes(ReadOnlySpan<byte> bytes)
    {
        GoOn();
        if (bytes.IsEmpty)
            return;
        if (_current >= _tensors.Length || bytes.Length > _left)
            throw new ArgumentException($"{bytes.Length} more bytes do not fit {Current}.", nameof(bytes));
        _stream.Write(bytes);
        _left -= bytes.Length;
    }

    /// <summary>Ends the file and gives it its name; before, there is nothing under it.</summary>
    /// <exception cref="InvalidOperationException">Values are missing.</exception>
    /// <exception cref="IOException">It cannot be written.</exception>
    public void Commit()
    {
        long missing = _left + _tensors.Skip(_current + 1).Sum(t => t.ByteLength);
        if (missing > 0)
            throw new InvalidOperationException($"{missing} bytes from {Current} on are missing.");
        _file?.Commit();
    }

    /// <summary>Without a commit, deletes what was written.</summary>
    public void Dispose() => _file?.Dispose();

    private string Current => _current < _tensors.Length ? _tensors[_current].ToString() : "a file without tensors";

    private void Begin(byte[] header)
    {
        Span<byte> length = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        _stream.Write(length);
        _stream.Write(header);
        _left = _tensors.Length > 0 ? _tensors[0].ByteLength : 0;
    }

    private void GoOn()
    {
        while (_left == 0 && _current < _tensors.Length - 1)
            _left = _tensors[++_current].ByteLength;
    }

    private static byte[] Header(TensorInfo[] tensors, IReadOnlyDictionary<string, string>? metadata, int alignment)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (metadata is not null)
            {
                json.WriteStartObject("__metadata__");
                foreach ((string key, string value) in metadata)
                    json.WriteString(key, value);
                json.WriteEndObject();
            }
            long at = 0;
            var names = new HashSet<string>(StringComparer.Ordinal) { "__metadata__" };
            foreach (TensorInfo tensor in tensors)
            {
                if (!names.Add(tensor.Name))
                    throw new ArgumentException($"There is already a tensor {BadFile.Quote(tensor.Name)}.", nameof(tensors));
                if (tensor.ColumnMajor)
                    throw new ArgumentException($"{tensor} is column-major; tensors are written row-major.", nameof(tensors));
                WriteTensor(json, tensor, ref at);
            }
            json.WriteEndObject();
        }
        // Spaces behind the JSON, so that the data is aligned.
        int length = ((sizeof(ulong) + buffer.WrittenCount + alignment - 1) / alignment * alignment) - sizeof(ulong);
        byte[] header = new byte[length];
        header.AsSpan().Fill((byte)' ');
        buffer.WrittenSpan.CopyTo(header);
        return header;
    }

    private static void WriteTensor(Utf8JsonWriter json, TensorInfo tensor, ref long at)
    {
        json.WriteStartObject(tensor.Name);
        json.WriteString("dtype", tensor.DType.SafetensorsName());
        json.WriteStartArray("shape");
        foreach (long dimension in tensor.Shape)
            json.WriteNumberValue(dimension);
        json.WriteEndArray();
        json.WriteStartArray("data_offsets");
        json.WriteNumberValue(at);
        json.WriteNumberValue(at + tensor.ByteLength);
        json.WriteEndArray();
        json.WriteEndObject();
        at += tensor.ByteLength;
    }
}

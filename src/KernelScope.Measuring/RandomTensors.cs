using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Measuring;

/// <summary>A safetensors file of random values: mapped from a disk, as a model's are, or in memory, where nothing needs to be written.</summary>
internal sealed class RandomTensors : IDisposable
{
    private readonly Action _dispose;

    private RandomTensors(SafetensorsFile file, Action dispose)
    {
        File = file;
        _dispose = dispose;
    }

    /// <summary>The file; disposed by whoever reads it, or with this.</summary>
    public SafetensorsFile File { get; }

    /// <summary>A tensor by name.</summary>
    public TensorView this[string name] => File[name];

    /// <summary>Bytes that such a file needs, within a header.</summary>
    public static long BytesFor(IEnumerable<TensorInfo> tensors) => tensors.Sum(t => t.ByteLength);

    /// <summary>Writes a file into a folder and maps it; it goes when this is disposed.</summary>
    public static RandomTensors InFile(string folder, params IReadOnlyList<TensorInfo> tensors)
    {
        string path = Path.Combine(folder, $"kernelscope-bench-{Guid.NewGuid():n}.safetensors");
        using (var writer = new SafetensorsWriter(path, tensors))
        {
            foreach (TensorInfo tensor in tensors)
            {
                byte[] values = RandomValues.Bytes(tensor.DType);
                for (long left = tensor.ByteLength; left > 0; left -= values.Length)
                    writer.AppendBytes(values.AsSpan(0, (int)Math.Min(left, values.Length)));
            }

            writer.Commit();
        }

        return new RandomTensors(SafetensorsFile.Open(path), () => System.IO.File.Delete(path));
    }

    /// <summary>Fills memory with such a file: loading and computing are what they are with real weights.</summary>
    /// <exception cref="InsufficientMemoryException">There is not so much memory.</exception>
    public static unsafe RandomTensors InMemory(string name, IReadOnlyList<TensorInfo> tensors, IProgress<double> progress,
        CancellationToken cancellation)
    {
        byte[] header = Header(tensors);
        long data = BytesFor(tensors), length = sizeof(long) + header.Length + data;
        NativeBuffer memory = NativeBuffer.TryCreate(length)
            ?? throw new InsufficientMemoryException($"{name}: there are no {length >> 20} MiB of memory for random weights.");
        try
        {
            BinaryPrimitives.WriteInt64LittleEndian(new Span<byte>(memory.Pointer, sizeof(long)), header.Length);
            header.CopyTo(new Span<byte>(memory.Pointer + sizeof(long), header.Length));
            byte* at = memory.Pointer + sizeof(long) + header.Length;
            long done = 0;
            foreach (TensorInfo tensor in tensors)
            {
                Fill(at + done, tensor, cancellation);
                progress.Report((done += tensor.ByteLength) / (double)data);
            }

            return new RandomTensors(SafetensorsFile.Parse(RawFile.OfMemory(name, memory.Pointer, length)), memory.Dispose);
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    /// <summary>Whether these are the tensors, in this order.</summary>
    public bool Holds(IReadOnlyList<TensorInfo> tensors) =>
        tensors.Select(t => t.ToString()).SequenceEqual(File.Contents.Select(t => t.ToString()));

    public void Dispose()
    {
        File.Dispose();
        _dispose();
    }

    private static unsafe void Fill(byte* first, TensorInfo tensor, CancellationToken cancellation)
    {
        byte[] values = RandomValues.Bytes(tensor.DType);
        long blocks = (tensor.ByteLength + values.Length - 1) / values.Length;
        Parallel.For(0, blocks, new ParallelOptions { CancellationToken = cancellation }, b =>
        {
            long start = b * values.Length;
            int count = (int)Math.Min(values.Length, tensor.ByteLength - start);
            values.AsSpan(0, count).CopyTo(new Span<byte>(first + start, count));
        });
    }

    private static byte[] Header(IReadOnlyList<TensorInfo> tensors)
    {
        var text = new StringBuilder("{");
        long at = 0;
        foreach (TensorInfo t in tensors)
        {
            text.Append(text.Length > 1 ? "," : "").Append(CultureInfo.InvariantCulture,
                $"\"{t.Name}\":{{\"dtype\":\"{t.DType.SafetensorsName()}\",\"shape\":[{string.Join(',', t.Shape.ToArray())}]," +
                $"\"data_offsets\":[{at},{at += t.ByteLength}]}}");
        }

        // Spaces behind the JSON, so that the data is aligned to a line of 64 bytes.
        text.Append('}');
        return Encoding.ASCII.GetBytes(text.ToString().PadRight(((text.Length + sizeof(long) + 63) / 64 * 64) - sizeof(long)));
    }
}

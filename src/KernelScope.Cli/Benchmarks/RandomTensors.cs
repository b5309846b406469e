using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Numerics;

namespace KernelScope.Cli;

/// <summary>A safetensors file of random values that was never on a disk: the bytes lie in memory as a mapped file's do, so loading and computing are what they are with real weights.</summary>
internal sealed unsafe class RandomTensors : IDisposable
{
    /// <summary>Values lie between minus and plus this; their standard deviation is <see cref="Deviation"/>.</summary>
    private const float Largest = 0.025f;

    /// <summary>Largest / √3, of a uniform distribution.</summary>
    public const double Deviation = 0.0144338;

    // Not a power of two, and prime: no two rows are alike.
    private const int TableLength = 1_000_003;

    private static readonly Lazy<float[]> Table = new(() =>
    {
        var random = new Random(1);
        float[] values = new float[TableLength];
        foreach (ref float value in values.AsSpan())
            value = ((2 * random.NextSingle()) - 1) * Largest;
        return values;
    });

    private readonly NativeBuffer _memory;

    private RandomTensors(NativeBuffer memory, SafetensorsFile file)
    {
        _memory = memory;
        File = file;
    }

    /// <summary>The file; disposed by whoever reads it.</summary>
    public SafetensorsFile File { get; }

    /// <summary>Bytes that such a file needs, within a header.</summary>
    public static long BytesFor(IEnumerable<TensorInfo> tensors) => tensors.Sum(t => t.ByteLength);

    /// <summary>Fills memory with such a file.</summary>
    /// <exception cref="WorkException">There is not so much memory.</exception>
    public static RandomTensors Create(string name, IReadOnlyList<TensorInfo> tensors, IProgress<double> progress,
        CancellationToken cancellation)
    {
        byte[] header = Header(tensors);
        long data = BytesFor(tensors), length = sizeof(long) + header.Length + data;
        NativeBuffer memory = NativeBuffer.TryCreate(length)
            ?? throw new WorkException($"{name}: there are no {MemoryCheck.InMiB(length)} MiB of memory for random weights.");
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

            return new RandomTensors(memory, SafetensorsFile.Parse(RawFile.OfMemory(name, memory.Pointer, length)));
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        File.Dispose();
        _memory.Dispose();
    }

    /// <summary>The tensors of a Gemma 2 model.</summary>
    public static List<TensorInfo> OfModel(Gemma2Config c, DType type)
    {
        long model = c.ModelDim, mlp = c.MlpDim, query = (long)c.HeadCount * c.HeadDim, keyValue = (long)c.KvHeadCount * c.HeadDim;
        List<TensorInfo> tensors = [new(TensorNames.Embedding, type, [c.VocabSize, model]), new(TensorNames.FinalNorm, type, [model])];
        for (int l = 0; l < c.LayerCount; l++)
        {
            foreach (string norm in (string[])[TensorNames.InputNorm(l), TensorNames.PostAttentionNorm(l),
                TensorNames.PreFeedForwardNorm(l), TensorNames.PostFeedForwardNorm(l)])
                tensors.Add(new(norm, type, [model]));
            tensors.Add(new(TensorNames.Query(l), type, [query, model]));
            tensors.Add(new(TensorNames.Key(l), type, [keyValue, model]));
            tensors.Add(new(TensorNames.Value(l), type, [keyValue, model]));
            tensors.Add(new(TensorNames.Output(l), type, [model, query]));
            tensors.Add(new(TensorNames.Gate(l), type, [mlp, model]));
            tensors.Add(new(TensorNames.Up(l), type, [mlp, model]));
            tensors.Add(new(TensorNames.Down(l), type, [model, mlp]));
        }

        return tensors;
    }

    /// <summary>The two matrices of an SAE.</summary>
    public static List<TensorInfo> OfSae(int modelDim, int features, DType type) =>
        [new("W_enc", type, [modelDim, features]), new("W_dec", type, [features, modelDim])];

    private static void Fill(byte* first, TensorInfo tensor, CancellationToken cancellation)
    {
        byte[] table = tensor.DType == DType.F32 ? MemoryMarshal.AsBytes<float>(Table.Value).ToArray() : Narrow();
        long blocks = (tensor.ByteLength + table.Length - 1) / table.Length;
        Parallel.For(0, blocks, new ParallelOptions { CancellationToken = cancellation }, b =>
        {
            long start = b * table.Length;
            int count = (int)Math.Min(table.Length, tensor.ByteLength - start);
            table.AsSpan(0, count).CopyTo(new Span<byte>(first + start, count));
        });
    }

    private static byte[] Narrow()
    {
        var narrow = new BFloat16[TableLength];
        BFloat16.Narrow(Table.Value, narrow);
        return MemoryMarshal.AsBytes<BFloat16>(narrow).ToArray();
    }

    private static byte[] Header(IReadOnlyList<TensorInfo> tensors)
    {
        var text = new StringBuilder("{");
        long at = 0;
        foreach (TensorInfo t in tensors)
        {
            text.Append(text.Length > 1 ? "," : "").Append(System.Globalization.CultureInfo.InvariantCulture,
                $"\"{t.Name}\":{{\"dtype\":\"{t.DType.SafetensorsName()}\",\"shape\":[{string.Join(',', t.Shape.ToArray())}]," +
                $"\"data_offsets\":[{at},{at += t.ByteLength}]}}");
        }

        // Spaces behind the JSON, so that the data is aligned to a line of 64 bytes.
        text.Append('}');
        return Encoding.ASCII.GetBytes(text.ToString().PadRight(((text.Length + sizeof(long) + 63) / 64 * 64) - sizeof(long)));
    }
}

using System.Buffers.Binary;
using System.Security.Cryptography;

namespace KernelScope.Files;

/// <summary>What ties a panel file to the weight files that it was made from.</summary>
/// <remarks>
/// SHA-256 over, of every file in order: its length, the time of its last write, its header, and of each tensor the first, the middle and the last 4 KiB. Reading all of 5 GB would take longer than loading does.
/// Why it is enough: whoever writes weights anew leaves another time, and whoever keeps the time (an archive that sets all times alike) leaves other lengths, another header or other samples,
/// because training, merging and rounding move values everywhere. What it cannot see is a file with a few values changed between the samples whose time was put back on purpose;
/// <c>kernelscope pack</c> without conditions makes the panels anew. Bytes that lie in memory, such as the demo's, have no time: they are hashed whole.
/// </remarks>
internal static class SourceHash
{
    public const int Length = SHA256.HashSizeInBytes;

    private const int SampleBytes = 4096;
    private const int BufferBytes = 1 << 18;

    /// <summary>The hash of weight files.</summary>
    /// <exception cref="InvalidDataException">A file cannot be read.</exception>
    public static byte[] Of(IEnumerable<SafetensorsFile> files)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[BufferBytes];
        foreach (SafetensorsFile file in files)
        {
            BinaryPrimitives.WriteInt64LittleEndian(buffer, file.Length);
            BinaryPrimitives.WriteInt64LittleEndian(buffer.AsSpan(sizeof(long)), file.Raw.LastWrite?.Ticks ?? 0);
            hash.AppendData(buffer, 0, 2 * sizeof(long));
            if (file.Raw.LastWrite is null)
                Append(hash, file, 0, file.Length, buffer);
            else
                AppendSamples(hash, file, buffer);
        }

        return hash.GetHashAndReset();
    }

    private static void AppendSamples(IncrementalHash hash, SafetensorsFile file, byte[] buffer)
    {
        Append(hash, file, 0, file.DataStart, buffer);
        foreach (TensorInfo tensor in file.Contents)
        {
            long begin = file.OffsetOf(tensor.Name), length = tensor.ByteLength;
            if (length <= 3 * SampleBytes)
            {
                Append(hash, file, begin, length, buffer);
                continue;
            }

            foreach (long at in (ReadOnlySpan<long>)[begin, begin + ((length - SampleBytes) / 2), begin + length - SampleBytes])
                Append(hash, file, at, SampleBytes, buffer);
        }
    }

    // With ordinary reads: pages of the mapping would count as this process's memory.
    private static void Append(IncrementalHash hash, SafetensorsFile file, long offset, long length, byte[] buffer)
    {
        for (long done = 0; done < length;)
        {
            Span<byte> piece = buffer.AsSpan(0, (int)Math.Min(buffer.Length, length - done));
            file.Raw.Read(offset + done, piece);
            hash.AppendData(piece);
            done += piece.Length;
        }
    }
}

using System.Buffers.Binary;
using System.Security.Cryptography;
using KernelScope.Files;

namespace KernelScope.Evaluation;

/// <summary>Tells files apart by content: SHA-256 of the length and of the bytes, of all of them up to <see cref="WholeLimit"/>.</summary>
/// <remarks>
/// Of a larger file the first and last MiB and <see cref="Samples"/> blocks of 64 KiB at equal distances are hashed: reading 20 GB to look for a resume file's owner would take longer than what is
/// resumed. Two checkpoints of a training run differ in nearly every block; a file with a few weights patched by hand may pass for the same.
/// </remarks>
public static class FileFingerprint
{
    /// <summary>Files of at most this many bytes are hashed whole.</summary>
    public const long WholeLimit = 256L << 20;

    /// <summary>Number of blocks that stand for a larger file.</summary>
    public const int Samples = 256;

    private const int EdgeLength = 1 << 20;
    private const int BlockLength = 1 << 16;

    /// <summary>The fingerprint of files in the order given, in hexadecimal.</summary>
    /// <exception cref="InvalidDataException">A file cannot be read.</exception>
    public static string Of(params IEnumerable<string> paths)
    {
        ArgumentNullException.ThrowIfNull(paths);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string path in paths)
            Add(hash, path, WholeLimit);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    internal static void Add(IncrementalHash hash, string path, long wholeLimit)
    {
        using RawFile file = RawFile.Open(path);
        byte[] buffer = new byte[EdgeLength];
        BinaryPrimitives.WriteInt64LittleEndian(buffer, file.Length);
        hash.AppendData(buffer, 0, sizeof(long));
        if (file.Length <= wholeLimit || file.Length <= 2 * EdgeLength)
        {
            for (long at = 0; at < file.Length; at += EdgeLength)
                Append(at, (int)Math.Min(EdgeLength, file.Length - at));
            return;
        }

        Append(0, EdgeLength);
        long span = file.Length - BlockLength;
        for (int i = 1; i <= Samples; i++)
            Append((long)((Int128)span * i / (Samples + 1)), BlockLength);
        Append(file.Length - EdgeLength, EdgeLength);

        void Append(long offset, int length)
        {
            file.Read(offset, buffer.AsSpan(0, length));
            hash.AppendData(buffer, 0, length);
        }
    }
}

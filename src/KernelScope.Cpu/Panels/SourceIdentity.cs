using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Cpu.Panels;

/// <summary>What ties a panel file to the matrices that it was made from.</summary>
/// <remarks>
/// <see cref="Contents"/> is the identity: a SHA-256 over every byte of every matrix. Reading 5 GB for it takes seconds, so there is also a <see cref="Stamp"/>: which file each matrix comes from, where it lies there,
/// and each file's length, inode, time of last write and time of last change, which no program can set. Where the stamp is the one of the time of packing, nothing can have been written since, because before it was taken
/// <list type="bullet">
/// <item>the files were flushed, so that every later store through a mapping moves their times;</item>
/// <item>the last write lay <see cref="Settled"/> back, longer than the clock of any file system takes to move on;</item>
/// <item>they lay on a file system of which both are known to hold.</item>
/// </list>
/// Where one of the three is not so there is no stamp, and where the stamp differs (a copied folder, another machine) it proves nothing: then the contents are compared.
/// </remarks>
internal static class SourceIdentity
{
    /// <summary>Bytes of either.</summary>
    public const int Length = SHA256.HashSizeInBytes;

    private const int PieceBytes = 1 << 23;
    private static readonly TimeSpan Settled = TimeSpan.FromSeconds(2);

    // Names as DriveInfo gives them. Left out: tmpfs, which does not see stores through mappings; what other machines share (nfs, cifs, fuse), whose clocks and caches are their own.
    private static readonly string[] Reliable = ["ext", "xfs", "btrfs", "f2fs", "overlay", "ntfs", "refs", "apfs", "hfs"];

    /// <summary>The hash of all bytes of some matrices, with their names, types and shapes.</summary>
    /// <exception cref="InvalidDataException">A file cannot be read.</exception>
    public static byte[] Contents(ShardedTensors source, IReadOnlyList<string> names, CancellationToken cancellationToken = default)
    {
        var pieces = new List<(SafetensorsFile File, long At, int Bytes)>();
        using var all = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string name in names)
        {
            SafetensorsFile file = FileOf(source, name, out TensorInfo info);
            all.AppendData(Encoding.UTF8.GetBytes(info + "\n"));
            for (long at = 0; at < info.ByteLength; at += PieceBytes)
                pieces.Add((file, file.OffsetOf(name) + at, (int)Math.Min(PieceBytes, info.ByteLength - at)));
        }

        byte[][] hashes = new byte[pieces.Count][];
        // With ordinary reads: pages of the mapping would count as this process's memory.
        var options = new ParallelOptions { CancellationToken = cancellationToken, MaxDegreeOfParallelism = Environment.ProcessorCount };
        try
        {
            Parallel.For(0, pieces.Count, options, () => GC.AllocateUninitializedArray<byte>(PieceBytes), (p, _, buffer) =>
            {
                Span<byte> bytes = buffer.AsSpan(0, pieces[p].Bytes);
                pieces[p].File.Raw.Read(pieces[p].At, bytes);
                hashes[p] = SHA256.HashData(bytes);
                return buffer;
            }, _ => { });
        }
        catch (AggregateException e) when (e.InnerExceptions.OfType<InvalidDataException>().FirstOrDefault() is InvalidDataException first)
        {
            throw new InvalidDataException(first.Message, e);
        }

        foreach (byte[] hash in hashes)
            all.AppendData(hash);
        return all.GetHashAndReset();
    }

    /// <summary>Has what was stored into the files written to the disk, so that a <see cref="Stamp"/> means something.</summary>
    public static void Flush(ShardedTensors source)
    {
        foreach (SafetensorsFile file in source.Files)
            file.Raw.Flush();
    }

    /// <summary>The stamp of the files as they are now; null for bytes in memory, which have none.</summary>
    public static byte[]? Stamp(ShardedTensors source, IReadOnlyList<string> names)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> numbers = stackalloc byte[4 * sizeof(long)];
        foreach (SafetensorsFile file in source.Files)
        {
            if (file.Raw.LastWrite is not DateTime written)
                return null;
            FileStatus status = file.Raw.Status ?? new FileStatus(0, 1, 0, 0, file.Length, written.Ticks, 0);
            BinaryPrimitives.WriteInt64LittleEndian(numbers, status.Length);
            BinaryPrimitives.WriteInt64LittleEndian(numbers[8..], (long)status.Inode);
            BinaryPrimitives.WriteInt64LittleEndian(numbers[16..], status.Modified);
            BinaryPrimitives.WriteInt64LittleEndian(numbers[24..], status.Changed);
            hash.AppendData(numbers);
        }

        SafetensorsFile[] files = [.. source.Files];
        foreach (string name in names)
        {
            SafetensorsFile file = FileOf(source, name, out TensorInfo info);
            hash.AppendData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture,
                $"{info} {Array.IndexOf(files, file)} {file.OffsetOf(name)}\n")));
        }

        return hash.GetHashAndReset();
    }

    /// <summary>Whether a stamp that is taken now may be trusted later.</summary>
    public static bool IsSettled(ShardedTensors source)
    {
        long now = (DateTime.UtcNow - DateTime.UnixEpoch).Ticks * 100;
        foreach (SafetensorsFile file in source.Files)
        {
            if (file.Raw.LastWrite is not DateTime written || !IsReliable(file.Path))
                return false;
            long last = file.Raw.Status is FileStatus status ? Math.Max(status.Modified, status.Changed)
                : (written - DateTime.UnixEpoch).Ticks * 100;
            if (now - last < Settled.Ticks * 100)
                return false;
        }

        return true;
    }

    private static bool IsReliable(string path)
    {
        try
        {
            string folder = Path.GetDirectoryName(FilePlace.TargetOf(path))!;
            string format = new DriveInfo(OperatingSystem.IsWindows() ? Path.GetPathRoot(folder)! : folder).DriveFormat;
            return Array.Exists(Reliable, name => format.StartsWith(name, StringComparison.OrdinalIgnoreCase));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return false;
        }
    }

    private static SafetensorsFile FileOf(ShardedTensors source, string name, out TensorInfo info)
    {
        if (!source.TryGet(name, out TensorView tensor))
            throw BadFile.At(source.Path, $"the tensor {name} is missing.");
        info = tensor.Info;
        return (SafetensorsFile)tensor.Owner;
    }
}

using System.Security.Cryptography;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Training;

/// <summary>A log of JSON lines that a resumed run continues where its checkpoint was written.</summary>
internal sealed class TrainingLog : IDisposable
{
    // Elsewhere than on Windows whoever shares at all shares with writers, too; other programs read it in any case.
    private static readonly FileShare Share = OperatingSystem.IsWindows() ? FileShare.Read : FileShare.None;
    private readonly FileStream _file;

    /// <param name="path">Where.</param>
    /// <param name="length">What is kept of it; 0 begins anew.</param>
    /// <exception cref="InvalidDataException">It is shorter than the checkpoint says.</exception>
    /// <exception cref="IOException">It cannot be written, or another training writes it: two in one folder would spoil each
    /// other's checkpoints.</exception>
    public TrainingLog(string path, long length)
    {
        Path = path;
        long found = File.Exists(path) ? new FileInfo(path).Length : 0;
        if (found < length)
            throw new InvalidDataException($"{path}: the log has {found} bytes; the checkpoint was written after {length}.");
        try
        {
            _file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, Share, bufferSize: 0);
            _file.SetLength(length);
            _file.Position = length;
        }
        catch (Exception e) when (IsFailure(e))
        {
            _file?.Dispose();
            throw OutputPlace.NotWritten(path, e);
        }
    }

    public string Path { get; }

    public long Length => _file.Position;

    public void Write(Action<Utf8JsonWriter> content)
    {
        byte[] line = [.. JsonFile.Line(content), (byte)'\n'];
        Do(() => _file.Write(line));
    }

    public void FlushToDisk() => Do(() => _file.Flush(flushToDisk: true));

    public string Hash()
    {
        long at = _file.Position;
        _file.Position = 0;
        string hash = Convert.ToHexStringLower(SHA256.HashData(_file));
        _file.Position = at;
        return hash;
    }

    public void Dispose() => _file.Dispose();

    private void Do(Action write)
    {
        try
        {
            write();
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            throw OutputPlace.NotWritten(Path, e);
        }
    }

    // A pipe cannot seek.
    private static bool IsFailure(Exception e) => AtomicFile.IsFailure(e) || e is NotSupportedException;
}

using System.Security.Cryptography;
using System.Text.Json;

namespace KernelScope.Training;

/// <summary>A log of JSON lines that a resumed run continues where its checkpoint was written.</summary>
internal sealed class TrainingLog : IDisposable
{
    private readonly FileStream _file;

    /// <param name="path">Where.</param>
    /// <param name="length">What is kept of it; 0 begins anew.</param>
    /// <exception cref="InvalidDataException">It is shorter than the checkpoint says.</exception>
    public TrainingLog(string path, long length)
    {
        Path = path;
        long found = File.Exists(path) ? new FileInfo(path).Length : 0;
        if (found < length)
            throw new InvalidDataException($"{path}: the log has {found} bytes; the checkpoint was written after {length}.");
        _file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        _file.SetLength(length);
        _file.Position = length;
    }

    public string Path { get; }

    public long Length => _file.Position;

    public void Write(Action<Utf8JsonWriter> content)
    {
        _file.Write(JsonFile.Line(content));
        _file.Write("\n"u8);
        _file.Flush();
    }

    public void FlushToDisk() => _file.Flush(flushToDisk: true);

    public string Hash()
    {
        long at = _file.Position;
        _file.Position = 0;
        string hash = Convert.ToHexStringLower(SHA256.HashData(_file));
        _file.Position = at;
        return hash;
    }

    public void Dispose() => _file.Dispose();
}

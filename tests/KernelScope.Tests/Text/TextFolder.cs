using System.IO.Compression;
using KernelScope.Files;

namespace KernelScope.Tests.Text;

/// <summary>A folder with a tokenizer's files, deleted with the test.</summary>
internal sealed class TextFolder : IDisposable
{
    private readonly string _path = Directory.CreateTempSubdirectory("kernelscope-text-").FullName;

    public ModelFolder Model => new(_path);

    /// <summary>With the demo's tokenizer.model.</summary>
    public static TextFolder WithModel()
    {
        var folder = new TextFolder();
        File.Copy(TextFixtures.PathOf("demo.model"), folder.At("tokenizer.model"));
        return folder;
    }

    /// <summary>With a tokenizer.json of the same vocabulary, and no tokenizer.model.</summary>
    public static TextFolder WithJson()
    {
        var folder = new TextFolder();
        using var packed = new GZipStream(File.OpenRead(TextFixtures.PathOf("tokenizer.json.gz")), CompressionMode.Decompress);
        using FileStream file = File.Create(folder.At("tokenizer.json"));
        packed.CopyTo(file);
        return folder;
    }

    public TextFolder Write(string name, string text)
    {
        File.WriteAllText(At(name), text);
        return this;
    }

    public string At(string name) => Path.Combine(_path, name);

    public void Dispose() => Directory.Delete(_path, recursive: true);
}

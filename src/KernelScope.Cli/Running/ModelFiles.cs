using KernelScope.Chat;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>A model's files, opened and checked, before any weight is touched.</summary>
internal sealed class ModelFiles : IDisposable
{
    // A tokenizer.json of Gemma's has 34 MB.
    private const int MostCompanionBytes = 1 << 29;

    private readonly Gemma2Checkpoint _checkpoint;
    private ChatFormat? _chat;
    private bool _handedOver;

    private ModelFiles(string name, Gemma2Checkpoint checkpoint, GemmaTokenizer? tokenizer, bool intoMemory)
    {
        IntoMemory = intoMemory;
        Name = name;
        _checkpoint = checkpoint;
        Tokenizer = tokenizer;
    }

    /// <summary>The name or path that was given.</summary>
    public string Name { get; }

    /// <summary>Whether files were asked to be read into memory, not mapped.</summary>
    public bool IntoMemory { get; }

    public bool IsDemo => Name == Demo.ModelName;

    /// <summary>The weight files and settings.</summary>
    public Gemma2Checkpoint Checkpoint => _checkpoint;

    public Gemma2Config Config => _checkpoint.Config;

    /// <summary>Bytes of the weights in their files.</summary>
    public long WeightBytes => _checkpoint.WeightBytes;

    /// <summary>Bytes of the weights that a run on a device reads: on the cpu those of the packed file instead of the matrices in it, if there is one.</summary>
    /// <param name="device">The device's name on the command line.</param>
    /// <param name="panels">Which packed weights are used.</param>
    public long WeightBytesOn(string device, PanelUse panels = PanelUse.Exact)
    {
        if (device is not ("auto" or "cpu"))
            return WeightBytes;
        string? path = PanelCache.Find(_checkpoint, Environment.GetEnvironmentVariable, rounded: panels == PanelUse.Rounded);
        return path is not null && PackedWeights.LengthOf(path) is long packed ? WeightBytes - MatrixBytes + packed : WeightBytes;
    }

    /// <summary>The bytes of config.json.</summary>
    public byte[] ConfigBytes => IsDemo ? BytesOf("model/config.json")
        : RawFile.ReadAll(_checkpoint.Folder.ConfigPath, Gemma2Config.MaxFileLength);

    private long MatrixBytes =>
        _checkpoint.MatrixNames.Sum(n => _checkpoint.Weights.TryGet(n, out TensorView matrix) ? matrix.ByteLength : 0);

    /// <summary>What is unusual about the files, in sentences.</summary>
    public IReadOnlyList<string> Remarks => _checkpoint.Remarks;

    /// <summary>The files that it is read from, its packed weights too.</summary>
    public IEnumerable<string> InputPaths
    {
        get
        {
            IEnumerable<string> own = IsDemo ? [] : _checkpoint.InputPaths;
            return PanelCache.Find(_checkpoint, Environment.GetEnvironmentVariable) is string panels ? own.Append(panels) : own;
        }
    }

    /// <summary>Hash of the file that the tokenizer is read from; null if there is none.</summary>
    public string? TokenizerSha256
    {
        get
        {
            if (Tokenizer is null)
                return null;
            using RawFile file = IsDemo ? Demo.Raw("model/tokenizer.model") : RawFile.Open(_checkpoint.TokenizerPath!);
            return Training.Runs.PlacedFile.HashOf(file);
        }
    }

    /// <summary>The bytes of a small file beside the weights; null if there is none.</summary>
    public byte[]? Companion(string name)
    {
        if (IsDemo)
            return name is "generation_config.json" or "tokenizer.model" ? BytesOf("model/" + name) : null;
        string path = Path.Combine(_checkpoint.Folder.Path, name);
        return RawFile.IsThere(path) ? RawFile.ReadAll(path, MostCompanionBytes) : null;
    }

    /// <summary>The tokenizer; null if the folder has none, in which case only ids go in and out.</summary>
    public GemmaTokenizer? Tokenizer { get; }

    /// <summary>The tokenizer, where a text needs one.</summary>
    public GemmaTokenizer RequiredTokenizer => Tokenizer ?? throw new WorkException(
        $"{Name}: the folder has no tokenizer.model and no tokenizer.json, so a text cannot be read; give token ids with --tokens.");

    /// <summary>How the folder writes conversations; the demo, and a folder without a template, in Gemma's turns.</summary>
    /// <exception cref="InvalidDataException">The folder's template cannot be used.</exception>
    public ChatFormat Chat => _chat ??= IsDemo
        ? ChatFormat.Gemma(RequiredTokenizer) : ChatFormat.Open(_checkpoint.Folder, RequiredTokenizer);

    /// <summary>What begins every text: the tokenizer's BOS, else the one of config.json.</summary>
    public int BosId => Tokenizer is { BosId: >= 0 } tokenizer ? tokenizer.BosId : Config.BosId;

    /// <summary>Opens a model.</summary>
    /// <param name="name">Which.</param>
    /// <param name="intoMemory">Whether weights are read into memory, not mapped.</param>
    /// <exception cref="InvalidDataException">A file is missing or malformed.</exception>
    public static ModelFiles Open(string name, bool intoMemory = false)
    {
        // The name is the default, so a folder that happens to be called that must not stand in its way; ./demo names the folder.
        if (name == Demo.ModelName)
            return new ModelFiles(name, Demo.OpenCheckpoint(), Demo.OpenTokenizer(), intoMemory);
        Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(ModelName.Resolve(name), intoMemory);
        try
        {
            return new ModelFiles(name, checkpoint, checkpoint.OpenTokenizer(), intoMemory);
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    /// <summary>Packs the weights into a file; null: that of the cache.</summary>
    public PackResult Pack(string? path, bool rounded, Streams streams, CancellationToken cancellation)
    {
        path ??= PanelCache.CachePath(_checkpoint, Environment.GetEnvironmentVariable, rounded);
        IReadOnlyList<PackedMatrixInfo> matrices = PackedWeights.Make(_checkpoint, Name, path, rounded, streams, cancellation);
        return PackResult.From(Name, path, new FileInfo(path).Length, rounded, matrices);
    }

    /// <summary>The packed weights that the cpu device would use, or why it would not; null if there are none.</summary>
    public (string Path, string? Problem)? Packed() =>
        PanelCache.Find(_checkpoint, Environment.GetEnvironmentVariable) is string path
            ? (path, PackedWeights.Problem(_checkpoint, path, verify: false)) : null;

    private static byte[] BytesOf(string resource)
    {
        using RawFile file = Demo.Raw(resource);
        byte[] bytes = new byte[file.Length];
        file.Read(0, bytes);
        return bytes;
    }

    /// <summary>Gives the files to somebody who disposes them.</summary>
    public Gemma2Checkpoint HandOver()
    {
        _handedOver = true;
        return _checkpoint;
    }

    public void Dispose()
    {
        if (!_handedOver)
            _checkpoint.Dispose();
    }
}

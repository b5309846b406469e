using KernelScope.Chat;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Cli;

/// <summary>A model's files, opened and checked, before any weight is touched.</summary>
internal sealed class ModelFiles : IDisposable
{
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

    /// <summary>Bytes of the weights.</summary>
    public long WeightBytes => _checkpoint.WeightBytes;

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

    /// <summary>Brings the weights to a device; the model then owns them.</summary>
    /// <param name="device">Where.</param>
    /// <param name="streams">For progress, and for what is said of packed weights.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <param name="pack">Whether packed weights are made if there are none.</param>
    /// <param name="usePacked">Whether packed weights are used where there are some: sums then run in another order.</param>
    public Gemma2Model Load(Device device, Streams streams, CancellationToken cancellation, bool pack = false, bool usePacked = true)
    {
        if (usePacked)
            PackedWeights.Use(_checkpoint, Name, device, pack, streams, cancellation);
        if (_checkpoint.Unread is string unread)
            SaeDoubt.Warn(streams, $"{Printable.Escape(Name)}: {unread}");
        using var progress = new Progress(streams, $"Loading {Printable.Escape(Name)}");
        Gemma2Model model = Gemma2Model.Load(device, _checkpoint, default, progress, cancellation);
        _handedOver = true;
        return model;
    }

    /// <summary>Packs the weights into a file; null: that of the cache.</summary>
    public PackResult Pack(string? path, Streams streams, CancellationToken cancellation)
    {
        path ??= PanelCache.CachePath(_checkpoint, Environment.GetEnvironmentVariable);
        PackedWeights.Make(_checkpoint, Name, path, streams, cancellation);
        using PanelFile panels = PanelFile.Open(path);
        return new PackResult(Name, path, panels.Length, panels.Matrices.Count);
    }

    /// <summary>The packed weights that the cpu device would use, or why it would not; null if there are none.</summary>
    public (string Path, string? Problem)? Packed() =>
        PanelCache.Find(_checkpoint, Environment.GetEnvironmentVariable) is string path
            ? (path, PackedWeights.Problem(_checkpoint, path, verify: false)) : null;

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

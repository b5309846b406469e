using KernelScope.Chat;
using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Text;
using Microsoft.Extensions.Logging;

namespace KernelScope.Runtime;

/// <summary>What an engine has open, and must close: device, model, tokenizer, SAEs.</summary>
internal sealed class EngineParts : IDisposable
{
    private readonly List<IDisposable> _owned = [];
    private readonly Lazy<ChatFormat> _chat;

    private EngineParts(EngineOptions options, ILogger logger, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        try
        {
            cancellationToken.ThrowIfCancellationRequested();
            Device = Own(options.Device?.Invoke() ?? new CpuDevice(options.Threads));
            Gemma2Checkpoint checkpoint = Own(options.Checkpoint?.Invoke() ?? Gemma2Checkpoint.Open(options.Model!));
            WeightBytes = checkpoint.WeightBytes;
            ModelName = options.Model ?? checkpoint.Folder.Path;
            Tokenizer = options.Tokenizer?.Invoke() ?? checkpoint.OpenTokenizer();
            // Not before somebody chats: other requests need no template, also where it is one that cannot be used.
            ModelFolder folder = checkpoint.Folder;
            _chat = new Lazy<ChatFormat>(() => ChatFormat.Open(
                folder, Tokenizer ?? throw new ArgumentException("The model has no tokenizer, which a chat needs.")));
            if (options.UsePackedWeights && ModelPanels.StoreOf(Device) is PanelStore store)
                UsePanels(store, checkpoint, logger);
            Model = Gemma2Model.Load(Device, checkpoint, default, progress, cancellationToken);
            Own(Model);
            Model.CacheType = options.CacheType;
            foreach (SaeSource source in options.Saes)
            {
                cancellationToken.ThrowIfCancellationRequested();
                Saes.Add(source.Name, Open(source));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Device Device { get; }

    /// <summary>Bytes of the model's weights.</summary>
    public long WeightBytes { get; }

    public string ModelName { get; }

    public Gemma2Model Model { get; }

    public GemmaTokenizer? Tokenizer { get; }

    /// <summary>How the model's folder writes conversations.</summary>
    public ChatFormat Chat => _chat.Value;

    public Dictionary<string, EngineSae> Saes { get; } = new(StringComparer.Ordinal);

    /// <summary>What begins every text: the tokenizer's BOS, else the one of config.json.</summary>
    public int BosId => Tokenizer is { BosId: >= 0 } tokenizer ? tokenizer.BosId : Model.Config.BosId;

    /// <summary>Opens everything, or nothing: what was open when it failed or was cancelled is closed.</summary>
    public static EngineParts Open(
        EngineOptions options, ILogger logger, IProgress<double>? progress, CancellationToken cancellationToken) =>
        new(options, logger, progress, cancellationToken);

    /// <summary>Last first: SAEs and model go before the device that they lie on.</summary>
    public void Dispose()
    {
        for (int n = _owned.Count - 1; n >= 0; n--)
            _owned[n].Dispose();
        _owned.Clear();
    }

    private EngineSae Open(SaeSource source)
    {
        SaeCheckpoint checkpoint = Own(source.Checkpoint?.Invoke() ?? SaeCheckpoint.Open(source.Path!));
        (Hooks.HookPoint site, Hooks.HookPoint? siteOut) = EngineSae.Place(source, checkpoint.Config, Model.Config);
        // A larger file is not read whole for that.
        if (checkpoint.TotalBytes <= SaeCheckpoint.VerifyOnOpenLimit)
            FiniteParameters.Require(checkpoint);
        // The encoder has a row to encode for every token of every stream, which is what packing is for.
        return new EngineSae(source.Name, Own(JumpReluSae.Load(Device, checkpoint, packEncoder: true)), site, siteOut);
    }

    /// <summary>
    /// Uses packed weights, if there are any that were made from this model. Without them the engine is slower, so why not is logged.
    /// </summary>
    private static void UsePanels(PanelStore store, Gemma2Checkpoint checkpoint, ILogger logger)
    {
        if (PanelCache.Find(checkpoint, Environment.GetEnvironmentVariable) is not string path)
            return;
        PanelFile? panels = null;
        try
        {
            panels = PanelFile.Open(path);
            ModelPanels.Use(store, checkpoint, panels);
        }
        catch (InvalidDataException e)
        {
            panels?.Dispose();
            logger.PanelsNotUsed(e.Message);
        }
    }

    private T Own<T>(T part)
        where T : IDisposable
    {
        _owned.Add(part);
        return part;
    }
}

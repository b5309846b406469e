using System.Diagnostics.Metrics;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Text;
using Microsoft.Extensions.Logging;

namespace KernelScope.Runtime;

/// <summary>What a <see cref="KernelScopeEngine"/> opens, and how much it takes on at once.</summary>
/// <example>
/// <code>
/// var options = new EngineOptions { Model = "google/gemma-2-2b-it", MaxRunning = 8 };
/// options.Saes.Add(new SaeSource { Name = "res20", Path = "layer_20/width_16k/average_l0_71/params.npz" });
/// </code>
/// </example>
/// <remarks>Read once, when the engine opens; a later change has no effect. Not for several threads at once.</remarks>
public class EngineOptions
{
    /// <summary>The model: a folder with config.json and safetensors, a hub-cache entry, or a hub name that is in the cache.</summary>
    public string? Model { get; set; }

    /// <summary>
    /// Opens the model's files instead of <see cref="Model"/>, for example <c>Demo.OpenCheckpoint</c>. The engine owns the result.
    /// </summary>
    public Func<Gemma2Checkpoint>? Checkpoint { get; set; }

    /// <summary>Opens the tokenizer; null: the one in the model's folder. Without any, requests are made of token ids only.</summary>
    public Func<GemmaTokenizer>? Tokenizer { get; set; }

    /// <summary>The SAEs whose features requests may read and edit, each with a name of its own.</summary>
    public IList<SaeSource> Saes { get; } = [];

    /// <summary>Makes the device; null: a <see cref="Cpu.CpuDevice"/>. The engine owns the result.</summary>
    public Func<Device>? Device { get; set; }

    /// <summary>Threads of the default device; 0: one for each core.</summary>
    public int Threads { get; set; }

    /// <summary>Whether packed weights that lie beside the model or in the user's cache are used, if they were made from it.</summary>
    public bool UsePackedWeights { get; set; } = true;

    /// <summary>Most tokens of one request, prompt and new ones together; 0: what the model allows.</summary>
    public int ContextLength { get; set; }

    /// <summary>
    /// How keys and values are kept: F32, or BF16, which takes half the memory of every request and rounds them, so that results change.
    /// </summary>
    public DType CacheType { get; set; }

    /// <summary>Most requests that run at once; a decode step has a row for each.</summary>
    public int MaxRunning { get; set; } = 8;

    /// <summary>
    /// Most requests that wait while <see cref="MaxRunning"/> others run; the next is refused with an <see cref="EngineBusyException"/>.
    /// </summary>
    public int MaxWaiting { get; set; } = 64;

    /// <summary>Most bytes of the caches of all running requests; 0: half of the memory that the weights leave.</summary>
    public long MaxSessionBytes { get; set; }

    /// <summary>
    /// Most sessions of ended texts that are kept, so that what a prompt has in common with one of them (the turns of a chat, a system prompt) is
    /// not computed again; 0: none. They take at most a quarter of <see cref="MaxSessionBytes"/> together, count towards it, and make room for
    /// requests.
    /// </summary>
    /// <remarks>
    /// Texts with edits keep nothing and use nothing that was kept, nor do <see cref="KernelScopeEngine.FeaturesAsync"/> and
    /// <see cref="KernelScopeEngine.EmbedAsync"/>, which need every row. Of a text longer than the model's sliding window, a prompt must share
    /// all but the last <see cref="PrefillRows"/> tokens that are kept. Who sends prompts can tell from the time of the first token whether
    /// others sent their beginning before: set 0 where that matters.
    /// </remarks>
    public int KeptSessions { get; set; } = 4;

    /// <summary>How much of a kept session a prompt takes over: whole pieces, bit for bit as without it, or everything, to float32 noise.</summary>
    public PrefixReuse PrefixReuse { get; set; }

    /// <summary>
    /// Tokens of a prompt that are fed in one call. Between two such pieces every running request gets a token, so a stream pauses for
    /// one piece and one step at most.
    /// It does not depend on the load, so that results do not either.
    /// </summary>
    public int PrefillRows { get; set; } = 64;

    /// <summary>
    /// Tokens that are kept for a reader who is slower than the model. When they are full, that request pauses; no other does.
    /// </summary>
    public int BufferedTokens { get; set; } = 256;

    /// <summary>
    /// How long a reader may leave its kept tokens full and read none: then its request ends with a <see cref="TimeoutException"/>, after
    /// the tokens that were kept, and its place goes to the next. <see cref="Timeout.InfiniteTimeSpan"/>: for ever.
    /// </summary>
    public TimeSpan ReaderTimeout { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>Where the engine logs; null: nowhere. Texts and tokens are never logged.</summary>
    public ILoggerFactory? LoggerFactory { get; set; }

    /// <summary>Makes the meter <see cref="KernelScopeEngine.TelemetryName"/>; null: one of the engine's own.</summary>
    public IMeterFactory? MeterFactory { get; set; }

    /// <summary>Refuses what cannot be meant.</summary>
    /// <exception cref="ArgumentException">An option is out of its range, or neither or both of two are given; the message names
    /// it.</exception>
    public virtual void Validate()
    {
        if (string.IsNullOrEmpty(Model) == Checkpoint is null)
            throw new ArgumentException("Give either Model, the name or folder of a model, or Checkpoint, which opens one.");
        Require(Threads >= 0, nameof(Threads), Threads, "0 (one for each core) or a positive number");
        Require(ContextLength >= 0, nameof(ContextLength), ContextLength, "0 (what the model allows) or a positive number");
        Require(MaxRunning >= 1, nameof(MaxRunning), MaxRunning, "at least 1");
        Require(MaxWaiting >= 0, nameof(MaxWaiting), MaxWaiting, "0 or a positive number");
        Require(MaxSessionBytes >= 0, nameof(MaxSessionBytes), MaxSessionBytes,
            "0 (half of the memory that the weights leave) or a positive number");
        Require(KeptSessions >= 0, nameof(KeptSessions), KeptSessions, "0 (none) or a positive number");
        if (CacheType is not (DType.F32 or DType.BF16))
            throw new ArgumentException($"CacheType is {CacheType}; keys and values are kept as F32 or BF16.");
        if (!Enum.IsDefined(PrefixReuse))
            throw new ArgumentException($"There is no PrefixReuse {(int)PrefixReuse}.");
        Require(PrefillRows >= 1, nameof(PrefillRows), PrefillRows, "at least 1");
        Require(BufferedTokens >= 1, nameof(BufferedTokens), BufferedTokens, "at least 1");
        if (ReaderTimeout <= TimeSpan.Zero && ReaderTimeout != Timeout.InfiniteTimeSpan)
            throw new ArgumentException($"ReaderTimeout is {ReaderTimeout}; it must be positive, or Timeout.InfiniteTimeSpan.");
        foreach (SaeSource sae in Saes)
            sae.Validate();
        if (Saes.GroupBy(s => s.Name, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new ArgumentException($"Two SAEs are called '{twice.Key}'; requests name them, so each needs a name of its own.");
    }

    private static void Require(bool holds, string name, long value, string range)
    {
        if (!holds)
            throw new ArgumentException($"{name} is {value}; it must be {range}.");
    }
}

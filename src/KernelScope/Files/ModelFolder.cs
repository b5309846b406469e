namespace KernelScope.Files;

/// <summary>A folder with a model: config.json, weights in one safetensors file or in shards with an index, and perhaps a generation_config.json and a tokenizer.</summary>
/// <remarks>Any number of threads may use it.</remarks>
public sealed class ModelFolder
{
    private const string SingleName = "model.safetensors";
    private const string AdapterName = "adapter_model.safetensors";
    private const string IndexName = "model.safetensors.index.json";

    private static readonly string[] KnownNames =
    [
        SingleName, IndexName, AdapterName, "config.json", "generation_config.json", "tokenizer.model", "tokenizer.json",
        "tokenizer_config.json",
        "added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json",
    ];

    /// <summary>The layout below a path, of which nothing is looked at yet; it need not exist.</summary>
    internal ModelFolder(string path) => Path = path;

    /// <summary>The folder that holds the files: of a hub-cache entry, the snapshot.</summary>
    public string Path { get; }

    /// <summary>Where config.json is, or should be.</summary>
    public string ConfigPath => At("config.json");

    /// <summary>Paths of the files with a name that belongs to a model, as far as they are there, whether or not this run reads them.</summary>
    internal IEnumerable<string> KnownPaths => KnownNames.Select(IfThere).OfType<string>();

    /// <summary>Path of generation_config.json; null if there is none.</summary>
    public string? GenerationConfigPath => IfThere("generation_config.json");

    /// <summary>Path of tokenizer.model, or of tokenizer.json if that is missing; null if there is neither. A model runs on token ids without it; text needs it.</summary>
    public string? TokenizerPath => IfThere("tokenizer.model") ?? IfThere("tokenizer.json");

    /// <summary>The weights: the single file if there is one, as transformers prefers, else the index; null if there is neither.</summary>
    public string? WeightsPath => IfThere(SingleName) ?? IfThere(IndexName);

    /// <summary>
    /// Finds a model: a folder; a hub-cache entry (<c>models--google--gemma-2-2b</c> with refs and snapshots); or a hub id such as <c>google/gemma-2-2b</c>,
    /// looked up in HF_HUB_CACHE, HF_HOME/hub and ~/.cache/huggingface/hub. Looks at no file of the model yet.
    /// </summary>
    /// <exception cref="InvalidDataException">There is no such folder; the message says where it was looked for.</exception>
    public static ModelFolder Resolve(string nameOrPath) => Resolve(nameOrPath, Environment.GetEnvironmentVariable);

    /// <summary>As the other overload, with the environment given: a name to its value, null if it is not set. HOME is where ~ is.</summary>
    /// <exception cref="InvalidDataException">There is no such folder; the message says where it was looked for.</exception>
    public static ModelFolder Resolve(string nameOrPath, Func<string, string?> environment)
    {
        ArgumentException.ThrowIfNullOrEmpty(nameOrPath);
        ArgumentNullException.ThrowIfNull(environment);
        try
        {
            if (Directory.Exists(nameOrPath))
                return OfFolder(nameOrPath);
            if (RawFile.IsThere(nameOrPath))
                throw BadFile.At(nameOrPath, "this is not a folder; a model is a folder with config.json, safetensors and " +
                    "tokenizer.model.");
            var looked = new List<string> { nameOrPath };
            if (HubCache.EntryName(nameOrPath) is string entry)
            {
                foreach (string root in HubCache.Roots(environment))
                {
                    string folder = System.IO.Path.Combine(root, entry);
                    if (Directory.Exists(folder))
                        return OfFolder(folder);
                    looked.Add(folder);
                }
            }
            throw BadFile.At(nameOrPath, "there is no such model; looked for the folder " +
                $"{string.Join(", ", looked.Select(f => BadFile.Printable(f, 4096)))}.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw BadFile.At(nameOrPath, $"the folder cannot be read ({BadFile.Printable(e.Message.TrimEnd('.'), 200)}).", e);
        }
    }

    /// <summary>Opens the weights and checks their headers.</summary>
    /// <exception cref="InvalidDataException">There are none, a shard is missing, or one is malformed.</exception>
    /// <param name="intoMemory">Reads the files into memory instead of mapping them; see <see cref="TensorFile"/>.</param>
    public ShardedTensors OpenWeights(bool intoMemory = false) => WeightsPath switch
    {
        null => throw BadFile.At(Path, $"the folder holds neither {SingleName} nor {IndexName}."),
        string path when path.EndsWith(".json", StringComparison.Ordinal) => ShardedTensors.OpenIndex(path, intoMemory),
        string path => ShardedTensors.OpenSingle(path, intoMemory),
    };

    /// <summary>Refuses a folder that holds an adapter instead of a model.</summary>
    /// <exception cref="InvalidDataException">It does.</exception>
    internal void RefuseAdapter()
    {
        if (WeightsPath is null && IfThere(AdapterName) is string adapter)
            throw BadFile.At(adapter, "the folder holds an adapter and no model; merge the adapter into its model (merge_and_unload in " +
                "PEFT) and save the result.");
    }

    private static ModelFolder OfFolder(string folder) => new(HubCache.IsEntry(folder) ? HubCache.Snapshot(folder) : folder);

    private string At(string name) => System.IO.Path.Combine(Path, name);

    // A link that leads nowhere counts: whoever opens it says so.
    private string? IfThere(string name) => RawFile.IsThere(At(name)) ? At(name) : null;
}

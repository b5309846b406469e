using System.Globalization;
using System.Text.Json;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Text;

namespace KernelScope;

/// <summary>
/// The demo: a small trained Gemma 2 (6 layers, d_model 224, 5.57 M parameters in bfloat16), its tokenizer of 4,096 pieces and twelve JumpReLU SAEs, a transcoder of each layer among them, embedded in this assembly.
/// They are used where they lie in the assembly's image, through the same readers as files. <c>NOTICE.md</c> says what they were trained on.
/// </summary>
/// <remarks>Any number of threads may call it; what it opens is the caller's.</remarks>
/// <example>
/// <code>
/// using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
/// using var sae = JumpReluSae.Load(device, Demo.OpenSae(Demo.DefaultSae));
/// GemmaTokenizer tokenizer = Demo.OpenTokenizer();
/// </code>
/// </example>
public static unsafe class Demo
{
    /// <summary>What the model is called.</summary>
    public const string ModelName = "demo";

    /// <summary>The SAE of the examples: the residual stream after layer 3, 2,048 features.</summary>
    public const string DefaultSae = "res.3.2k.l0_19";

    private const string SaeFolder = "saes/";
    private const string ParamsFile = "/" + SaeCheckpoint.ParamsName;

    /// <summary>Names of the SAEs, <c>kind.layer.width.l0_n</c>, in ordinal order.</summary>
    public static IReadOnlyList<string> SaeNames => field ??= [.. SaeResources().Keys.Order(StringComparer.Ordinal)];

    /// <summary>What the model was trained on, and the licences of that.</summary>
    public static string Notice => System.Text.Encoding.UTF8.GetString(Resource("NOTICE.md"));

    /// <summary>A small text for examples, UTF-8: a paragraph of each kind of text that the model knows, one on each line, less than its context in all.</summary>
    public static ReadOnlySpan<byte> Corpus => Resource("corpus.txt");

    /// <summary>The model's weights and settings.</summary>
    public static Gemma2Checkpoint OpenCheckpoint()
    {
        const string ConfigName = "model/config.json", GenerationName = "model/generation_config.json";
        Gemma2Config config = Gemma2Config.Parse(Resource(ConfigName), In(ConfigName))
            .WithGeneration(Resource(GenerationName), In(GenerationName));
        return Gemma2Checkpoint.Open(new ModelFolder(In("model")),
            config, ShardedTensors.OfFile(SafetensorsFile.Parse(Raw("model/model.safetensors"))));
    }

    /// <summary>The model's tokenizer, of 4,096 pieces.</summary>
    public static GemmaTokenizer OpenTokenizer() => GemmaTokenizer.Load(Resource("model/tokenizer.model"), In("model/tokenizer.model"));

    /// <summary>One of the SAEs, by its name in <see cref="SaeNames"/>.</summary>
    /// <exception cref="ArgumentException">There is no such name; the message lists those that there are.</exception>
    public static SaeCheckpoint OpenSae(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return SaeResources().TryGetValue(name, out string? resource)
            ? SaeCheckpoint.OfNpz(NpzFile.Parse(Raw(resource)))
            : throw new ArgumentException($"The demo has no SAE of that name; it has {string.Join(", ", SaeNames)}.", nameof(name));
    }

    /// <summary>Labels of an SAE's features, by index: a few words for each of the more than 300 that somebody has looked at. Empty for SAEs without labels.</summary>
    public static IReadOnlyDictionary<int, string> Meanings(string saeName)
    {
        using JsonDocument document = JsonDocument.Parse(Resource("features.json").ToArray());
        var meanings = new Dictionary<int, string>();
        if (document.RootElement.TryGetProperty(saeName, out JsonElement features))
        {
            foreach (JsonProperty feature in features.EnumerateObject())
                meanings.Add(int.Parse(feature.Name, CultureInfo.InvariantCulture), feature.Value.GetString()!);
        }

        return meanings;
    }

    /// <summary>
    /// Features of an SAE that fire on more than a fifth of all tokens, counted on the 97,587 tokens of the training text's validation documents: they say little about a token. Empty for SAEs that are not the demo's.
    /// </summary>
    public static IReadOnlySet<int> DenseFeatures(string saeName)
    {
        using JsonDocument document = JsonDocument.Parse(Resource("dense.json").ToArray());
        return document.RootElement.TryGetProperty(saeName, out JsonElement features)
            ? features.EnumerateArray().Select(f => f.GetInt32()).ToHashSet()
            : new HashSet<int>();
    }

    /// <summary>Resource by SAE name: <c>saes/res/layer_3/width_2k/average_l0_19/params.npz</c> is <c>res.3.2k.l0_19</c>.</summary>
    private static Dictionary<string, string> SaeResources()
    {
        var resources = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (string resource in typeof(Demo).Assembly.GetManifestResourceNames())
        {
            if (!resource.StartsWith(SaeFolder, StringComparison.Ordinal) || !resource.EndsWith(ParamsFile, StringComparison.Ordinal))
                continue;
            string name = resource[SaeFolder.Length..^ParamsFile.Length]
                .Replace("layer_", "", StringComparison.Ordinal).Replace("width_", "", StringComparison.Ordinal)
                .Replace("average_", "", StringComparison.Ordinal).Replace('/', '.');
            resources.Add(name, resource);
        }

        return resources;
    }

    // The resource is part of the loaded image, which is never unloaded: the pointer stays good.
    private static ReadOnlySpan<byte> Resource(string name)
    {
        (nint first, long length) = Locate(name);
        return new ReadOnlySpan<byte>((byte*)first, checked((int)length));
    }

    internal static RawFile Raw(string name)
    {
        (nint first, long length) = Locate(name);
        return RawFile.OfMemory(In(name), (byte*)first, length);
    }

    private static (nint First, long Length) Locate(string name)
    {
        using Stream stream = typeof(Demo).Assembly.GetManifestResourceStream(name)
            ?? throw new InvalidOperationException($"The assembly KernelScope.Demo lacks its resource {name}.");
        var memory = (UnmanagedMemoryStream)stream;
        return ((nint)memory.PositionPointer, memory.Length);
    }

    private static string In(string resource) => $"{ModelName}:{resource}";
}

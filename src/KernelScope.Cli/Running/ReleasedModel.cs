using KernelScope.Files;
using KernelScope.Measuring;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>One of the six Gemma 2 models that were published: its sizes are known before it is downloaded.</summary>
/// <param name="Name">On the hub: <c>google/gemma-2-2b</c>.</param>
/// <param name="Config">Its sizes.</param>
/// <param name="Stored">The type of its weights there: base models are published in float32, instruction-tuned ones in bfloat16.</param>
internal sealed record ReleasedModel(string Name, Gemma2Config Config, DType Stored)
{
    private const string Owner = "google/", Family = "gemma-2-";

    /// <summary>All of them.</summary>
    public static IReadOnlyList<ReleasedModel> All { get; } =
    [
        .. from size in new[] { "2b", "9b", "27b" }
           from tuned in new[] { false, true }
           let name = $"{Owner}{Family}{size}{(tuned ? "-it" : "")}"
           select new ReleasedModel(name, ModelSizes.ConfigOf(Family + size), tuned ? DType.BF16 : DType.F32),
    ];

    /// <summary>Its name without the owner: <c>gemma-2-2b</c>.</summary>
    public string ShortName => Name[Owner.Length..];

    /// <summary>The model of a name, also without its owner, or of its size alone (<c>2b</c>, <c>2b-it</c>); null if it is none.</summary>
    public static ReleasedModel? Find(string name) =>
        All.FirstOrDefault(m => new[] { m.Name, m.ShortName, m.ShortName[Family.Length..] }.Contains(name,
        StringComparer.OrdinalIgnoreCase));

    /// <summary>Number of weights.</summary>
    public long Parameters => (long)ModelSizes.Weights(Config);

    /// <summary>Bytes of the weights in a type.</summary>
    public long BytesIn(DType type) => Parameters * (type == DType.F32 ? 4 : 2);

    /// <summary>The command that fetches it, and how much that is: <c>'kernelscope pull google/gemma-2-2b' fetches it (10.5 GB in float32)</c>.</summary>
    public string HowToGet => $"'kernelscope pull {Name}' fetches it ({ByteText.Of(BytesIn(Stored))} in {NameOf(Stored)})";

    /// <summary>What a type is called in a sentence.</summary>
    public static string NameOf(DType type) => type == DType.F32 ? "float32" : "bfloat16";

    /// <summary>Whether the hub's cache has it, or enough of it that what is lacking can be named: its config.json.</summary>
    public bool IsCached => HubCache.Roots(Environment.GetEnvironmentVariable)
        .Select(root => Path.Combine(root, HubCache.EntryName(Name)!, "snapshots"))
        .Any(snapshots => Directory.Exists(snapshots) && Directory.EnumerateDirectories(snapshots)
        .Any(s => RawFile.IsThere(Path.Combine(s, "config.json"))));
}

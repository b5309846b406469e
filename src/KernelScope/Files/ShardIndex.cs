using System.Text.Json;

namespace KernelScope.Files;

/// <summary>
/// A <c>*.safetensors.index.json</c>: {"metadata": {...}, "weight_map": {tensor: shard}}. The index decides which shard a tensor is read from.
/// Shards are plain names of safetensors files beside the index; a path that leaves the folder is refused, even if something is there.
/// </summary>
/// <remarks>Any number of threads may read it.</remarks>
internal sealed class ShardIndex
{
    // 27B has 508 tensors in 24 kB.
    private const int MaxLength = 1 << 26;

    private ShardIndex(string path, Dictionary<string, string> shardOf)
    {
        Path = path;
        ShardOf = shardOf;
        Shards = [.. shardOf.Values.Distinct().Order(StringComparer.Ordinal)];
    }

    /// <summary>The path it was read from.</summary>
    public string Path { get; }

    /// <summary>Tensor name to shard file name.</summary>
    public IReadOnlyDictionary<string, string> ShardOf { get; }

    /// <summary>The shard file names, each once, in ordinal order.</summary>
    public IReadOnlyList<string> Shards { get; }

    /// <summary>Reads and checks an index; opens no shard.</summary>
    /// <exception cref="InvalidDataException">It cannot be read or is malformed.</exception>
    public static ShardIndex Read(string path)
    {
        using JsonDocument document = JsonText.ReadObject(path, MaxLength);
        if (!document.RootElement.TryGetProperty("weight_map", out JsonElement map) || map.ValueKind != JsonValueKind.Object)
            throw BadFile.At(path, "the index has no object weight_map.");
        var shardOf = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (JsonProperty property in map.EnumerateObject())
        {
            if (property.Value.ValueKind != JsonValueKind.String)
                throw BadFile.At(path, $"the index puts {BadFile.Quote(property.Name)} into {JsonText.Kind(property.Value)}; a file name " +
                    "was expected.");
            string shard = property.Value.GetString()!;
            if (!IsPlainName(shard))
                throw BadFile.At(path, $"the index puts {BadFile.Quote(property.Name)} into {BadFile.Quote(shard)}, which is not the " +
                    "plain name of a .safetensors file.");
            shardOf.Add(property.Name, shard);
        }
        return shardOf.Count > 0 ? new ShardIndex(path, shardOf) : throw BadFile.At(path, "the index lists no tensors.");
    }

    // Both separators and the drive colon everywhere: a folder moves between systems.
    private static bool IsPlainName(string name) => name.EndsWith(".safetensors", StringComparison.Ordinal) && !name.StartsWith('.')
        && !name.AsSpan().ContainsAny("/\\:") && !name.Any(char.IsControl);
}

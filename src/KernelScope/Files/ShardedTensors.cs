namespace KernelScope.Files;

/// <summary>The tensors of one safetensors file, or of all shards of an index, as one set of names.</summary>
/// <remarks>Any number of threads may read it.</remarks>
public sealed class ShardedTensors : IDisposable
{
    private readonly List<SafetensorsFile> _files = [];
    private readonly Dictionary<string, SafetensorsFile> _fileOf = new(StringComparer.Ordinal);

    private ShardedTensors(string path) => Path = path;

    /// <summary>The single file, or the index.</summary>
    public string Path { get; }

    /// <summary>The mapped files.</summary>
    public IReadOnlyList<SafetensorsFile> Files => _files;

    /// <summary>Bytes of all files.</summary>
    public long Length => _files.Sum(f => f.Length);

    /// <summary>Opens one safetensors file.</summary>
    /// <exception cref="InvalidDataException">It cannot be read or is malformed.</exception>
    /// <param name="path">Where.</param>
    /// <param name="intoMemory">Reads the file into memory instead of mapping it; see <see cref="TensorFile"/>.</param>
    public static ShardedTensors OpenSingle(string path, bool intoMemory = false) => OfFile(SafetensorsFile.Open(path, intoMemory));

    /// <summary>The tensors of a file that is open already; this then owns the file.</summary>
    internal static ShardedTensors OfFile(SafetensorsFile file) => Open(file.Path, tensors =>
    {
        tensors._files.Add(file);
        foreach (TensorInfo info in file.Contents)
            tensors._fileOf.Add(info.Name, file);
    });

    /// <summary>Opens an index and every shard it names; each tensor must be in the shard where the index puts it.</summary>
    /// <exception cref="InvalidDataException">The index or a shard is missing or malformed, or they contradict each other.</exception>
    /// <param name="path">Where.</param>
    /// <param name="intoMemory">Reads the file into memory instead of mapping it; see <see cref="TensorFile"/>.</param>
    public static ShardedTensors OpenIndex(string path, bool intoMemory = false) => Open(path, tensors =>
    {
        ShardIndex index = ShardIndex.Read(path);
        string folder = System.IO.Path.GetDirectoryName(path) ?? "";
        var shards = new Dictionary<string, SafetensorsFile>(StringComparer.Ordinal);
        foreach (string shard in index.Shards)
            shards.Add(shard, tensors.Add(System.IO.Path.Combine(folder, shard), intoMemory));
        foreach ((string name, string shard) in index.ShardOf)
        {
            if (!shards[shard].TryGet(name, out _))
                throw BadFile.At(path, $"the index puts the tensor {BadFile.Quote(name)} into {BadFile.Quote(shard)}, which does not " +
                    "hold it.");
            tensors._fileOf.Add(name, shards[shard]);
        }
    });

    /// <summary>The names of all tensors, in the order of the files.</summary>
    internal IEnumerable<string> Names => _fileOf.Keys;

    /// <summary>The names of tensors that lie in a shard and that the index does not name.</summary>
    internal IEnumerable<string> Unlisted =>
        _files.SelectMany(f => f.Contents).Select(t => t.Name).Where(n => !_fileOf.ContainsKey(n)).Distinct(StringComparer.Ordinal);

    /// <summary>The tensor of this name, if there is one.</summary>
    public bool TryGet(string name, out TensorView tensor)
    {
        tensor = default;
        return _fileOf.TryGetValue(name, out SafetensorsFile? file) && file.TryGet(name, out tensor);
    }

    /// <summary>Gives the mapped files back.</summary>
    public void Dispose()
    {
        foreach (SafetensorsFile file in _files)
            file.Dispose();
    }

    private static ShardedTensors Open(string path, Action<ShardedTensors> fill)
    {
        var tensors = new ShardedTensors(path);
        try
        {
            fill(tensors);
            return tensors;
        }
        catch
        {
            tensors.Dispose();
            throw;
        }
    }

    private SafetensorsFile Add(string path, bool intoMemory)
    {
        SafetensorsFile file = SafetensorsFile.Open(path, intoMemory);
        _files.Add(file);
        return file;
    }
}

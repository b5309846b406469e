using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Web.Dashboards;

/// <summary>
/// Writes a folder of dashboards: <c>features.bin</c>, a gzip member of JSON for each feature; <c>features.idx</c>, a safetensors file with
/// where each begins, how often it fires and how strongly; <c>dash.json</c>, last; and an offline site over the same members. All is made
/// in a scratch folder inside; without <see cref="Commit"/> nothing of it stays.
/// </summary>
/// <remarks>For one caller at a time.</remarks>
internal sealed class DashboardWriter : IDisposable
{
    /// <summary>Features of a file of the site.</summary>
    private const int Chunk = 16;

    private const string Mark = ".dashboards", ScratchPrefix = ".tmp-", SiteFolder = "site";

    private readonly string _folder;
    private readonly DashboardInfo _info;
    private readonly FileStream _lock;
    private readonly FileStream _members;
    private readonly long[] _offsets;
    private readonly long[] _firing;
    private readonly float[] _max;
    private readonly NeuronpediaExport? _export;
    private readonly string? _graph;
    private readonly int _layer;
    private readonly StringBuilder _chunk = new();
    private readonly List<PackedFeature> _listed = [];
    private int _chunkNumber = -1;
    private int _next;

    private DashboardWriter(string folder, DashboardInfo info, FileStream held, DashboardExports exports, int layers, int width)
    {
        (_folder, _info, _lock) = (folder, info, held);
        Scratch = Path.Combine(folder, $"{ScratchPrefix}{Environment.ProcessId}-{Guid.NewGuid():N}");
        Directory.CreateDirectory(Path.Combine(Scratch, SiteFolder));
        _members = new FileStream(Path.Combine(Scratch, DashboardFolder.MembersName), FileMode.CreateNew, FileAccess.ReadWrite);
        _layer = info.Layer;
        _offsets = new long[info.Features + 1];
        _firing = new long[info.Features];
        _max = new float[info.Features];
        if (exports.HasFlag(DashboardExports.Graph))
            _graph = Directory.CreateDirectory(Path.Combine(Scratch, info.ModelId, info.Source, "graph", "features")).FullName;
        _export = exports.HasFlag(DashboardExports.Neuronpedia)
            ? new NeuronpediaExport(Path.Combine(Scratch, info.ModelId), info, layers, width) : null;
    }

    /// <summary>A folder for what must not stay.</summary>
    public string Scratch { get; }

    /// <summary>Starts a folder.</summary>
    /// <param name="folder">Where: a new or empty folder, or one that such a writer made.</param>
    /// <param name="info">What the pages are of.</param>
    /// <param name="exports">What is written besides.</param>
    /// <param name="layers">The model's layers, for the export.</param>
    /// <param name="width">Width of its MLP, for the export.</param>
    /// <exception cref="IOException">The folder holds something else, is being written, or cannot be.</exception>
    public static DashboardWriter Create(string folder, DashboardInfo info, DashboardExports exports, int layers, int width)
    {
        try
        {
            if (File.Exists(folder))
                throw new IOException("a file of that name is there, not a folder");
            Directory.CreateDirectory(folder);
            string mark = Path.Combine(folder, Mark);
            if (!File.Exists(mark) && Directory.EnumerateFileSystemEntries(folder).Any())
                throw new IOException("the folder holds other files; name a new or empty one");
            FileStream held = Hold(mark);
            try
            {
                foreach (string left in Directory.EnumerateDirectories(folder, ScratchPrefix + "*"))
                    Directory.Delete(left, recursive: true);
                return new DashboardWriter(folder, info, held, exports, layers, width);
            }
            catch
            {
                held.Dispose();
                throw;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new IOException($"{BadFile.Printable(folder, 4096)}: {e.Message.TrimEnd('.')}.", e);
        }
    }

    /// <summary>Adds a feature; indices ascend.</summary>
    public void Add(PackedFeature feature)
    {
        if (feature.Index < _next)
        {
            throw new ArgumentException(
                $"Feature {feature.Index} comes after {_next - 1}; they are added in ascending order.", nameof(feature));
        }

        for (; _next <= feature.Index; _next++)
            _offsets[_next] = _members.Position;
        _members.Write(feature.Member);
        _firing[feature.Index] = feature.Firing;
        _max[feature.Index] = feature.Max;
        _listed.Add(feature with { Member = [], FeatureLine = [], ExampleLines = [], GraphFile = [] });
        AddToSite(feature);
        _export?.Add(feature);
        if (_graph is not null)
            File.WriteAllBytes(Path.Combine(_graph, GraphFeature.NameOf(_layer, feature.Index)), feature.GraphFile);
    }

    /// <summary>Finishes all files and gives them their places, <c>dash.json</c> last.</summary>
    /// <returns>Bytes of all.</returns>
    public long Commit()
    {
        _offsets.AsSpan(_next).Fill(_members.Position);
        _members.Dispose();
        _export?.Finish();
        EndChunk();
        WriteIndex();
        WriteSite();
        string[] hashed = [DashboardFolder.MembersName, DashboardFolder.IndexName];
        var files = hashed.ToDictionary(n => n, n => FileOf(Path.Combine(Scratch, n)));
        DashboardInfo info = _info with { Written = _listed.Count, Files = files };
        string written = Path.Combine(Scratch, DashboardFolder.InfoName), place = Path.Combine(_folder, DashboardFolder.InfoName);
        File.WriteAllBytes(written, [.. JsonSerializer.SerializeToUtf8Bytes(info, DashboardInfoJson.Default.DashboardInfo), (byte)'\n']);
        long bytes = new DirectoryInfo(Scratch).EnumerateFiles("*", SearchOption.AllDirectories).Sum(f => f.Length);
        // Until the new one is whole there is none; an export of earlier pages would be of others.
        File.Delete(place);
        if (Directory.Exists(Path.Combine(_folder, _info.ModelId)))
            Directory.Delete(Path.Combine(_folder, _info.ModelId), recursive: true);
        foreach (string folder in Directory.EnumerateDirectories(Scratch))
            Replace(folder, Path.Combine(_folder, Path.GetFileName(folder)));
        foreach (string file in Directory.EnumerateFiles(Scratch).Where(f => f != written))
            File.Move(file, Path.Combine(_folder, Path.GetFileName(file)), overwrite: true);
        File.Move(written, place);
        return bytes;
    }

    public void Dispose()
    {
        _members.Dispose();
        _export?.Dispose();
        if (Directory.Exists(Scratch))
            Directory.Delete(Scratch, recursive: true);
        _lock.Dispose();
        if (Directory.EnumerateFileSystemEntries(_folder).All(e => Path.GetFileName(e) == Mark))
            Directory.Delete(_folder, recursive: true);
    }

    private static FileStream Hold(string mark)
    {
        try
        {
            return new FileStream(mark, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException e)
        {
            throw new IOException("another process writes there", e);
        }
    }

    private static void Replace(string from, string to)
    {
        if (Directory.Exists(to))
            Directory.Delete(to, recursive: true);
        Directory.Move(from, to);
    }

    private static DashboardFile FileOf(string path)
    {
        using FileStream file = File.OpenRead(path);
        return new DashboardFile(file.Length, Convert.ToHexStringLower(SHA256.HashData(file)));
    }

    private void WriteIndex()
    {
        using var writer = new SafetensorsWriter(
            Path.Combine(Scratch, DashboardFolder.IndexName), DashboardFolder.Tensors(_info.Features), null);
        writer.Append<long>(_offsets);
        writer.Append<long>(_firing);
        writer.Append<float>(_max);
        writer.Commit();
    }

    private void AddToSite(PackedFeature feature)
    {
        if (feature.Index / Chunk != _chunkNumber)
        {
            EndChunk();
            _chunkNumber = feature.Index / Chunk;
        }

        _chunk.Append(CultureInfo.InvariantCulture, $"{(_chunk.Length == 0 ? "" : ",\n")}{feature.Index}:\"")
            .Append(Convert.ToBase64String(feature.Member)).Append('"');
    }

    private void EndChunk()
    {
        if (_chunk.Length > 0)
        {
            string name = string.Create(CultureInfo.InvariantCulture, $"{_chunkNumber:D6}.js");
            WriteText(name, $"KernelScope.chunk({_chunkNumber},{{{_chunk}}});\n");
        }

        _chunk.Clear();
    }

    private void WriteSite()
    {
        var index = new SiteIndex(
            _info with { Written = _listed.Count }, [.. _listed.Select(f => f.Index)], [.. _listed.Select(f => f.Firing)],
            [.. _listed.Select(f => f.Max)], [.. _listed.Select(f => f.Label)], [.. _listed.Select(f => f.SearchWords)]);
        byte[] packed = PackedFeature.Compress(JsonSerializer.SerializeToUtf8Bytes(index, DashboardJson.SiteIndex));
        WriteText("index.js", $"KernelScope.index(\"{Convert.ToBase64String(packed)}\");\n");
        File.WriteAllBytes(Path.Combine(Scratch, SiteFolder, "app.css"), Resources.Read("pages/app.css"));
        foreach (string name in Resources.Names.Where(n => n.StartsWith(DashboardFolder.SitePrefix, StringComparison.Ordinal)))
        {
            string file = name[DashboardFolder.SitePrefix.Length..];
            File.WriteAllBytes(
                file == "index.html" ? Path.Combine(Scratch, file) : Path.Combine(Scratch, SiteFolder, file), Resources.Read(name));
        }
    }

    private void WriteText(string name, string text) => File.WriteAllText(Path.Combine(Scratch, SiteFolder, name), text);
}

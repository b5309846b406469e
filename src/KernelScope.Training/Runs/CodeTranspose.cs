using System.Security.Cryptography;
using System.Text;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>
/// Codes by feature, in bounded memory: each shard is transposed into a file of its own, then all are read feature by feature.
/// A file holds 4,096 features: <c>feature_ptr</c> i64 [features + 1], <c>row</c> i64, ascending for each feature and counted over the
/// run's rows, and <c>value</c> f32.
/// </summary>
internal sealed class CodeTranspose : IDisposable
{
    private const int FileFeatures = 4096;
    private readonly string _path;
    private readonly int _features;
    private readonly List<SafetensorsFile> _parts = [];
    private readonly string _scratch;
    private long[][]? _starts;

    public CodeTranspose(string path, int features)
    {
        (_path, _features) = (path, features);
        _scratch = Path.Combine(path, WorkerName.Temporary());
        OutputPlace.CreateFolder(_scratch);
    }

    /// <summary>Adds a shard.</summary>
    /// <param name="codes">Its codes.</param>
    /// <param name="firstRow">Number of its first row over the run.</param>
    public void Add(CodeShard codes, long firstRow)
    {
        long[] start = new long[_features + 1];
        foreach (int feature in codes.Feature)
            start[feature + 1]++;
        for (int f = 0; f < _features; f++)
            start[f + 1] += start[f];
        long[] next = [.. start], row = new long[codes.Feature.Length];
        float[] value = new float[codes.Feature.Length];
        for (int r = 0; r < codes.Rows; r++)
        {
            for (long i = codes.RowStart[r]; i < codes.RowStart[r + 1]; i++)
            {
                long place = next[codes.Feature[i]]++;
                (row[place], value[place]) = (firstRow + r, codes.Value[i]);
            }
        }

        string path = Path.Combine(_scratch, RunFolder.Number(_parts.Count));
        using (var writer = new SafetensorsWriter(path, Tensors(_features, row.Length)))
        {
            writer.Append<long>(start);
            writer.Append<long>(row);
            writer.Append<float>(value);
            writer.Commit();
        }

        _parts.Add(SafetensorsFile.Open(path));
    }

    /// <summary>Where a feature fires, as rows of the run, ascending, and how strongly. Any number of threads may ask.</summary>
    public unsafe (long Row, float Value)[] Of(int feature)
    {
        _starts ??= Starts();
        var all = new (long Row, float Value)[_starts.Sum(s => s[feature + 1] - s[feature])];
        int next = 0;
        for (int n = 0; n < _parts.Count; n++)
        {
            TensorView rows = _parts[n]["row"], values = _parts[n]["value"];
            using TensorView.Reading readingRows = rows.Read();
            using TensorView.Reading readingValues = values.Read();
            for (long i = _starts[n][feature]; i < _starts[n][feature + 1]; i++)
                all[next++] = (((long*)rows.Pointer)[i], ((float*)values.Pointer)[i]);
        }

        return all;
    }

    /// <summary>Whether a folder holds nothing but what <see cref="Write"/> writes: another may take its place.</summary>
    public static bool IsFolder(string path) => Directory.EnumerateFileSystemEntries(path).All(IsPart);

    private static bool IsPart(string path)
    {
        try
        {
            using var file = SafetensorsFile.Open(path);
            return file.Metadata.GetValueOrDefault("what") == "transpose";
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            return false;
        }
    }

    /// <summary>Writes the files; gives the hash of their hashes.</summary>
    public string Write(IReadOnlyDictionary<string, string> metadata, CancellationToken cancellationToken)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        long[][] starts = Starts();
        for (int first = 0; first < _features; first += FileFeatures)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int count = Math.Min(FileFeatures, _features - first);
            string path = Path.Combine(_path, $"{RunFolder.Number(first / FileFeatures)}.safetensors");
            WriteFile(path, first, count, starts, metadata);
            hash.AppendData(Encoding.ASCII.GetBytes(PlacedFile.Measure(path, cancellationToken).Sha256));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    public void Dispose()
    {
        _parts.ForEach(p => p.Dispose());
        if (Directory.Exists(_scratch))
            Directory.Delete(_scratch, recursive: true);
    }

    private long[][] Starts() => [.. _parts.Select(p => TokenShard.Values<long>(p["feature_ptr"]))];

    private void WriteFile(string path, int first, int count, long[][] starts, IReadOnlyDictionary<string, string> metadata)
    {
        long[] start = new long[count + 1];
        for (int f = 0; f < count; f++)
            start[f + 1] = start[f] + starts.Sum(s => s[first + f + 1] - s[first + f]);
        var described = new SortedDictionary<string, string>(metadata.ToDictionary(),
            StringComparer.Ordinal)
        { ["first_feature"] = FormattableString.Invariant($"{first}") };
        using var writer = new SafetensorsWriter(path, Tensors(count, start[^1]), described);
        writer.Append<long>(start);
        Copy(writer, "row", sizeof(long), first, count, starts);
        Copy(writer, "value", sizeof(float), first, count, starts);
        writer.Commit();
    }

    private unsafe void Copy(SafetensorsWriter writer, string name, int size, int first, int count, long[][] starts)
    {
        for (int f = first; f < first + count; f++)
        {
            for (int n = 0; n < _parts.Count; n++)
            {
                TensorView tensor = _parts[n][name];
                using TensorView.Reading reading = tensor.Read();
                writer.AppendBytes(new ReadOnlySpan<byte>(tensor.Pointer + (starts[n][f] * size),
                    checked((int)((starts[n][f + 1] - starts[n][f]) * size))));
            }
        }
    }

    private static TensorInfo[] Tensors(long features, long active) =>
        [new TensorInfo("feature_ptr", DType.I64, [features + 1]), new TensorInfo("row", DType.I64, [active]),
            new TensorInfo("value", DType.F32, [active])];
}

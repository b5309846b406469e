using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>Reference outputs under tests/fixtures, and the demo's content.</summary>
internal static class Fixtures
{
    public static string Root { get; } = FindRoot();

    public static string DemoModel { get; } = System.IO.Path.Combine(Root, "src", "KernelScope.Demo", "content", "model");

    public static string DemoSaes { get; } = System.IO.Path.Combine(Root, "src", "KernelScope.Demo", "content", "saes");

    public static string Path(params string[] parts) => System.IO.Path.Combine([Root, "tests", "fixtures", .. parts]);

    public static JsonElement Json(params string[] parts) => JsonElement.Parse(File.ReadAllBytes(Path(parts)));

    /// <summary>The text of a golden of the demo.</summary>
    public static string DemoText(string name) =>
        Json("demo", "goldens", "cases.json").GetProperty("texts").EnumerateArray().Single(t => t.GetProperty("name").GetString() == name)
            .GetProperty("text").GetString()!;

    /// <summary>Rows of a gzipped file with a JSON object on each line.</summary>
    public static List<JsonElement> Rows(string name)
    {
        using var stream = new GZipStream(File.OpenRead(Path("text", name)), CompressionMode.Decompress);
        using var reader = new StreamReader(stream);
        return [.. reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonElement.Parse(line))];
    }

    public static int[] Ints(this JsonElement element, string name) =>
        [.. element.GetProperty(name).EnumerateArray().Select(e => e.GetInt32())];

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(System.IO.Path.Combine(folder.FullName, "KernelScope.sln")))
                return folder.FullName;
        }

        throw new InvalidOperationException("The tests run from a checkout: KernelScope.sln was not found above them.");
    }
}

/// <summary>Arrays of an npz by name.</summary>
internal sealed class Arrays(string path) : IDisposable
{
    private readonly NpzFile _file = NpzFile.Open(path);

    public string[] Names => [.. _file.Contents.Select(c => c.Name)];

    public long[] Shape(string name) => _file[name].Shape.ToArray();

    public DType Type(string name) => _file[name].DType;

    public float[] Floats(string name) => _file[name].ToFloats();

    public int[] Ints(string name) => Array.ConvertAll(_file[name].ToInt64s(), v => (int)v);

    public unsafe double[] Doubles(string name)
    {
        TensorView view = _file[name];
        Assert.Equal(DType.F64, view.DType);
        return MemoryMarshal.Cast<byte, double>(new ReadOnlySpan<byte>(view.Pointer, checked((int)view.ByteLength))).ToArray();
    }

    public void Dispose() => _file.Dispose();
}

/// <summary>A folder of a test's own, deleted with what is in it.</summary>
internal sealed class TempFolder : IDisposable
{
    public TempFolder() => Directory.CreateDirectory(Path);

    public string Path { get; } =
        System.IO.Path.Combine(System.IO.Path.GetTempPath(), "kernelscope-cli-tests-" + System.IO.Path.GetRandomFileName());

    public string[] Files => [.. Directory.GetFiles(Path).Select(f => System.IO.Path.GetFileName(f)).Order(StringComparer.Ordinal)];

    public string At(params string[] names) => System.IO.Path.Combine([Path, .. names]);

    public string Write(string name, ReadOnlySpan<byte> bytes)
    {
        File.WriteAllBytes(At(name), bytes);
        return At(name);
    }

    /// <summary>A copy of a folder's files.</summary>
    public string Copy(string folder, string name)
    {
        Directory.CreateDirectory(At(name));
        foreach (string file in Directory.GetFiles(folder))
            File.Copy(file, System.IO.Path.Combine(At(name), System.IO.Path.GetFileName(file)));
        return At(name);
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

internal static class Close
{
    /// <summary>Asserts that no value departs by more than a share of the largest expected one.</summary>
    public static void Assert(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, double share)
    {
        Xunit.Assert.Equal(expected.Length, actual.Length);
        double largest = 0, worst = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            double difference = Math.Abs((double)expected[i] - actual[i]);
            worst = double.IsNaN(difference) ? double.PositiveInfinity : Math.Max(worst, difference);
            largest = Math.Max(largest, Math.Abs(expected[i]));
        }

        Xunit.Assert.True(worst <= share * largest, $"departs by {worst}, {worst / largest:G3} of the largest value {largest}");
    }
}

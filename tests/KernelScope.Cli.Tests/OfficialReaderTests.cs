using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>Files of runs as the official safetensors package and NumPy read them (<c>tools/reference/runs/read_shards.py</c>).</summary>
public sealed class OfficialReaderTests
{
    private const string Sae = "res.1.1k.l0_26", Site = "resid_post.1";
    private static readonly JsonElement Official = Fixtures.Json("runs", "official.json");

    public static TheoryData<string> Files => [.. Official.GetProperty("files").EnumerateObject().Select(f => f.Name)];

    /// <summary>Shards that harvest wrote, and a file that the official package wrote: both read the same in them.</summary>
    [Theory]
    [MemberData(nameof(Files))]
    public void Both_read_the_same(string name)
    {
        JsonElement official = Official.GetProperty("files").GetProperty(name);
        using var file = SafetensorsFile.Open(Fixtures.Path("runs", name));
        Assert.Equal(official.GetProperty("metadata").EnumerateObject().Select(m => (m.Name, m.Value.GetString()!)).Order(),
            file.Metadata.Select(m => (m.Key, m.Value)).Order());
        AssertEqual(official.GetProperty("tensors"), file, t => t.SafetensorsName());
    }

    /// <summary>From what the official package read, the writer gives the bytes of the file that it read.</summary>
    [Theory]
    [InlineData("rows-f32")]
    [InlineData("codes")]
    [InlineData("firing")]
    [InlineData("tokens")]
    public void The_writer_gives_these_bytes(string name)
    {
        JsonElement official = Official.GetProperty("files").GetProperty($"{name}.safetensors"), tensors = official.GetProperty("tensors");
        string path = Fixtures.Path("runs", $"{name}.safetensors");
        TensorInfo[] order;
        using (var file = SafetensorsFile.Open(path))
            order = [.. file.Contents];
        using var bytes = new MemoryStream();
        var metadata = new SortedDictionary<string, string>(official.GetProperty("metadata").EnumerateObject()
            .ToDictionary(m => m.Name, m => m.Value.GetString()!), StringComparer.Ordinal);
        using (var writer = new SafetensorsWriter(bytes, order, metadata))
        {
            foreach (TensorInfo tensor in order)
            {
                JsonElement.ArrayEnumerator values = tensors.GetProperty(tensor.Name).GetProperty("values").EnumerateArray();
                if (tensor.DType == DType.F32)
                    writer.Append<float>([.. values.Select(v => v.GetSingle())]);
                else if (tensor.DType == DType.I32)
                    writer.Append<int>([.. values.Select(v => v.GetInt32())]);
                else
                    writer.Append<long>([.. values.Select(v => v.GetInt64())]);
            }

            writer.Commit();
        }

        Assert.Equal(File.ReadAllBytes(path), bytes.ToArray());
    }

    /// <summary>What harvest writes today has the names, types and shapes that were read, and the values.</summary>
    [Theory]
    [InlineData("f32", 1e-6)]
    [InlineData("bf16", 4e-3)]
    [InlineData("f16", 5e-4)]
    public void Harvest_writes_such_files(string type, double tolerance)
    {
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json", "[[2,15,207],[2,99]]"u8);
        Program.Json("harvest", "--out", folder.At("run"), "--tokens-file", tokens, "--sites", Site, "--sae", Sae, "--dtype", type,
            "--device", "reference");
        string run = folder.At("run");
        Assert.Equal(File.ReadAllBytes(Fixtures.Path("runs", "tokens.safetensors")),
            File.ReadAllBytes(Path.Combine(run, "tokens", "000000.safetensors")));
        // Values come from the system's exponential functions: the last bit may differ from system to system.
        foreach ((string written, string read) in new[] { ($"acts/{Site}/000000", $"rows-{type}"), ($"codes/{Sae}/000000", "codes"),
            ($"codes/{Sae}/000000.firing", "firing") })
        {
            using var file = SafetensorsFile.Open(Path.Combine(run, $"{written}.safetensors"));
            AssertEqual(Official.GetProperty("files").GetProperty($"{read}.safetensors").GetProperty("tensors"), file,
                t => t.SafetensorsName(), tolerance);
        }
    }

    /// <summary>NumPy reads what run stores.</summary>
    [Fact]
    public void NumPy_reads_what_run_stores()
    {
        JsonElement arrays = Official.GetProperty("npz").GetProperty("run.npz");
        using (var file = NpzFile.Open(Fixtures.Path("runs", "run.npz")))
            AssertEqual(arrays, file, t => t.NpyDescr()!);
        using var folder = new TempFolder();
        string tokens = folder.Write("tokens.json", "[[2,15,207],[2,99]]"u8);
        Assert.Equal(0, Program.Run("run", "--tokens-file", tokens, "--capture", Site, "--out", folder.At("run.npz"), "--device",
            "reference").ExitCode);
        using var today = NpzFile.Open(folder.At("run.npz"));
        AssertEqual(arrays, today, t => t.NpyDescr()!, 1e-6);
    }

    /// <summary>Rows that the official package wrote are trained on as rows of any origin are.</summary>
    [Fact]
    public void Rows_that_the_official_package_wrote_are_trained_on()
    {
        using var folder = new TempFolder();
        foreach (string key in new[] { "rows", "half", "brain" })
            Assert.Equal(5, Program.Json("train", "--from", Fixtures.Path("runs", "official.safetensors"), "--key", key, "--site",
                "resid_post.0", "--width", "8", "--sparsity", "1e-3", "--steps", "1", "--batch", "5", "--validation", "0", "--out",
                folder.At(key)).GetProperty("rows").GetInt32());
    }

    private static void AssertEqual(JsonElement expected, TensorFile actual, Func<DType, string> nameOf, double tolerance = 0)
    {
        Assert.Equal(expected.EnumerateObject().Select(t => t.Name).Order(StringComparer.Ordinal),
            actual.Contents.Select(t => t.Name).Order(StringComparer.Ordinal));
        foreach (TensorInfo info in actual.Contents)
        {
            JsonElement tensor = expected.GetProperty(info.Name);
            Assert.Equal(tensor.GetProperty("dtype").GetString(), nameOf(info.DType));
            Assert.Equal(tensor.GetProperty("shape").EnumerateArray().Select(d => d.GetInt64()), info.Shape.ToArray());
            JsonElement[] values = [.. tensor.GetProperty("values").EnumerateArray()];
            if (info.DType is DType.I32 or DType.I64)
            {
                Assert.Equal(values.Select(v => v.GetInt64()), actual[info.Name].ToInt64s());
                continue;
            }

            float[] floats = actual[info.Name].ToFloats(), wanted = [.. values.Select(v => v.GetSingle())];
            if (tolerance == 0)
                Assert.Equal(wanted, floats);
            float limit = (float)tolerance * wanted.Max(Math.Abs);
            Assert.All(wanted.Zip(floats), v => Assert.InRange(v.Second, v.First - limit, v.First + limit));
        }
    }
}

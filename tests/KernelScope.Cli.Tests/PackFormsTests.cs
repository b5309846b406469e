using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>float32 checkpoints: packed without loss or rounded, and folders for other programs, which are read here by the words of the safetensors format.</summary>
public sealed class PackFormsTests : IDisposable
{
    private const string Prompt = "And the king said to the men of the city";
    private readonly TempFolder _folder = new(), _cache = new();

    public void Dispose()
    {
        _folder.Dispose();
        _cache.Dispose();
    }

    [Fact]
    public void A_folder_for_other_programs_holds_the_model_in_any_type_and_back_again()
    {
        string wide = _folder.At("f32"), back = _folder.At("bf16");
        JsonElement result = Run("pack", "--safetensors", wide, "--as", "f32", "--json").Json();
        Dictionary<string, Stored> demo = Read(Path.Combine(Fixtures.DemoModel, "model.safetensors"), out _);
        Dictionary<string, Stored> single = Read(Path.Combine(wide, "model.safetensors"), out JsonElement metadata);
        Assert.Equal("pt", metadata.GetProperty("format").GetString());
        Assert.Equal(demo.Keys.Order(StringComparer.Ordinal), single.Keys.Order(StringComparer.Ordinal));
        foreach ((string name, Stored tensor) in single)
        {
            Assert.Equal("F32", tensor.Type);
            Assert.Equal(demo[name].Shape, tensor.Shape);
            ushort[] narrow = MemoryMarshal.Cast<byte, ushort>(demo[name].Bytes).ToArray();
            Assert.Equal(narrow.Select(b => (uint)b << 16), MemoryMarshal.Cast<byte, uint>(tensor.Bytes).ToArray());
        }

        Assert.Equal((0L, 1), (result.GetProperty("changed").GetInt64(), result.GetProperty("shards").GetInt32()));
        Assert.Equal("float32", result.GetProperty("dtype").GetString());
        JsonElement config = JsonElement.Parse(File.ReadAllBytes(Path.Combine(wide, "config.json")));
        JsonElement before = JsonElement.Parse(File.ReadAllBytes(Path.Combine(Fixtures.DemoModel, "config.json")));
        Assert.Equal("float32", config.GetProperty("torch_dtype").GetString());
        foreach (JsonProperty setting in before.EnumerateObject().Where(s => s.Name is not ("dtype" or "torch_dtype")))
            Assert.True(JsonElement.DeepEquals(setting.Value, config.GetProperty(setting.Name)), setting.Name);
        foreach (string name in (string[])["tokenizer.model", "generation_config.json"])
            Assert.Equal(File.ReadAllBytes(Path.Combine(Fixtures.DemoModel, name)), File.ReadAllBytes(Path.Combine(wide, name)));

        // Without --as: bfloat16, because no value is changed by it.
        Assert.Equal(0, Run("pack", "--model", wide, "--safetensors", back).ExitCode);
        foreach ((string name, Stored tensor) in Read(Path.Combine(back, "model.safetensors"), out _))
            Assert.Equal(demo[name], tensor);
        string[] run = ["run", Prompt, "--json", "--device", "reference"];
        string expected = Run(run).Output;
        Assert.Equal(expected, Run([.. run, "--model", wide]).Output);
        Assert.Equal(expected, Run([.. run, "--model", back]).Output);
    }

    [Fact]
    public void Larger_models_are_written_in_shards_with_an_index()
    {
        string model = Fixtures.Path("gemma2", "models", "sharded"), target = _folder.At("shards");
        const long ShardBytes = 50_000;
        using (ModelFiles files = ModelFiles.Open(model))
        using (var streams = new Streams(CancellationToken.None))
            ModelExport.Write(files, target, DType.BF16, streams, CancellationToken.None, ShardBytes);
        JsonElement index = JsonElement.Parse(File.ReadAllBytes(Path.Combine(target, "model.safetensors.index.json")));
        var map = index.GetProperty("weight_map").EnumerateObject().ToDictionary(e => e.Name, e => e.Value.GetString()!);
        string[] shards = [.. map.Values.Distinct().Order(StringComparer.Ordinal)];
        Assert.True(shards.Length > 2);
        Assert.Equal(Enumerable.Range(1, shards.Length).Select(n => $"model-{n:00000}-of-{shards.Length:00000}.safetensors"), shards);
        long bytes = 0;
        var written = new Dictionary<string, Stored>();
        foreach (string shard in shards)
        {
            Dictionary<string, Stored> tensors = Read(Path.Combine(target, shard), out _);
            Assert.True(tensors.Count == 1 || tensors.Values.Sum(t => (long)t.Bytes.Length) <= ShardBytes);
            foreach ((string name, Stored tensor) in tensors)
            {
                Assert.Equal(shard, map[name]);
                written.Add(name, tensor);
                bytes += tensor.Bytes.Length;
            }
        }

        Assert.Equal(bytes, index.GetProperty("metadata").GetProperty("total_size").GetInt64());
        Dictionary<string, Stored> source = Directory.GetFiles(model, "*.safetensors").SelectMany(f => Read(f, out _)).ToDictionary();
        Assert.Equal(source.Keys.Order(StringComparer.Ordinal), map.Keys.Order(StringComparer.Ordinal));
        Assert.All(source, t => Assert.Equal(t.Value, written[t.Key]));
        string[] run = ["run", "--tokens", "2,5,7", "--json"];
        Assert.Equal(Run([.. run, "--model", model]).Output, Run([.. run, "--model", target]).Output);
    }

    [Fact]
    public void A_head_of_its_own_and_names_of_another_form_are_kept_and_set_right()
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "base"), "headed"), target = _folder.At("out");
        string path = Path.Combine(model, "model.safetensors");
        Dictionary<string, Stored> tensors = Read(path, out _);
        Stored embedding = tensors["model.embed_tokens.weight"];
        Stored head = embedding with { Bytes = [.. embedding.Bytes.Reverse().Select((b, n) => n % 4 == 3 ? (byte)0x3C : b)] };
        tensors.Add("lm_head.weight", head);
        Write(path, tensors.ToDictionary(t => t.Key.Replace("model.", "_orig_mod.model.", StringComparison.Ordinal), t => t.Value));
        Assert.Equal(0, Run("pack", "--model", model, "--safetensors", target, "--as", "f32").ExitCode);
        Dictionary<string, Stored> written = Read(Path.Combine(target, "model.safetensors"), out _);
        Assert.Equal(tensors.Keys.Order(StringComparer.Ordinal), written.Keys.Order(StringComparer.Ordinal));
        Assert.Equal(head, written["lm_head.weight"]);
        string[] run = ["run", "--tokens", "2,5,7", "--json"];
        Assert.Equal(Run([.. run, "--model", model]).Output, Run([.. run, "--model", target]).Output);
    }

    [Fact]
    public void Nothing_is_written_over_and_nothing_half_is_left()
    {
        string model = _folder.Copy(Fixtures.Path("gemma2", "models", "base"), "model"), file = _folder.Write("file", [1]);
        string weights = Path.Combine(model, "model.safetensors");
        byte[] before = File.ReadAllBytes(weights);
        Run("pack", "--model", model, "--safetensors", model).AssertFailed(1, "not empty");
        Run("pack", "--model", model, "--safetensors", file).AssertFailed(1, "file");
        Run("pack", "--model", model, "--safetensors", _folder.At("no", "such")).AssertFailed(1, "no folder above");
        Assert.Equal(before, File.ReadAllBytes(weights));

        string target = _folder.At("target"), left = TemporaryName.For(target);
        Directory.CreateDirectory(target);
        Directory.CreateDirectory(left);
        File.WriteAllText(Path.Combine(left, "model.safetensors"), "half");
        using (ModelFiles files = ModelFiles.Open(model))
        using (var streams = new Streams(CancellationToken.None))
        {
            var stopped = new CancellationToken(canceled: true);
            Assert.Throws<OperationCanceledException>(() => ModelExport.Write(files, target, null, streams, stopped));
        }

        IEnumerable<string?> there = Directory.GetFileSystemEntries(_folder.Path).Select(Path.GetFileName);
        Assert.Equal(["file", "model", "target"], there.Order(StringComparer.Ordinal));
        Assert.Empty(Directory.GetFileSystemEntries(target));

        const string Down = "model.layers.0.mlp.down_proj.weight";
        Change(weights, Down, 3, 0x4788_0000);
        Run("pack", "--model", model, "--safetensors", target, "--as", "f16").AssertFailed(1, "down_proj", "infinite");
        Assert.Empty(Directory.GetFileSystemEntries(target));
        Assert.Equal(0, Run("pack", "--model", model, "--safetensors", target).ExitCode);
        Assert.Equal(Read(weights, out _)[Down], Read(Path.Combine(target, "model.safetensors"), out _)[Down]);
    }

    [Fact]
    public void A_float32_model_of_bfloat16_values_is_packed_small_and_planned_so()
    {
        string wide = _folder.At("f32");
        Assert.Equal(0, Run("pack", "--safetensors", wide, "--as", "f32").ExitCode);
        string unpacked = Run("run", Prompt, "--model", wide, "--json").Output;
        JsonElement result = Run("pack", "--model", wide, "--json").Json();
        Assert.Equal((false, 0L), (result.GetProperty("rounded").GetBoolean(), result.GetProperty("not_bf16").GetInt64()));
        foreach (JsonElement m in result.GetProperty("packed").EnumerateArray())
        {
            Assert.Equal(("F32", 12), (m.GetProperty("dtype").GetString(), m.GetProperty("bits").GetInt32()));
            Assert.Equal(0, m.GetProperty("not_bf16").GetInt64());
        }

        Assert.InRange(result.GetProperty("bytes").GetInt64() / (4.0 * result.GetProperty("values").GetInt64()), 0.375, 0.38);
        string run = Run("run", Prompt, "--model", wide, "--json").Output;
        Assert.All(Losses(unpacked).Zip(Losses(run)), p => Assert.Equal(p.First, p.Second, 4));
        // The same bits as the packed bfloat16 model.
        Assert.Equal(Run("run", Prompt, "--pack", "--json").Output, Run("run", Prompt, "--model", wide, "--json").Output);
        JsonElement doctor = Run("doctor", "--model", wide, "--json").Json(), model = doctor.GetProperty("model");
        long planned = model.GetProperty("packed_weight_bytes").GetInt64();
        Assert.InRange(planned, result.GetProperty("bytes").GetInt64(), (long)(0.4 * model.GetProperty("weight_bytes").GetInt64()));
        JsonElement cpu = doctor.GetProperty("needs").EnumerateArray().Single(n => n.GetProperty("device").GetString() == "cpu");
        JsonElement weights = cpu.GetProperty("items").EnumerateArray().Single(i => i.GetProperty("what").GetString() == "weights");
        Assert.Equal(planned, weights.GetProperty("bytes").GetInt64());
    }

    [Fact]
    public void What_rounding_does_is_what_the_two_models_say_and_only_who_asks_gets_the_rounded_one()
    {
        string model = _folder.At("f32"), text = _folder.Write("text", System.Text.Encoding.UTF8.GetBytes(Prompt));
        Assert.Equal(0, Run("pack", "--safetensors", model, "--as", "f32").ExitCode);
        Blur(Path.Combine(model, "model.safetensors"));
        string[] run = ["run", Prompt, "--model", model, "--json"];
        string exact = Run(run).Output;
        Run([.. run, "--panels", "bf16"]).AssertFailed(1, "--as bf16");
        JsonElement result = Run("pack", "--model", model, "--as", "bf16", "--text-file", text, "--json").Json();
        JsonElement effect = result.GetProperty("effect");
        Assert.EndsWith(".bf16.panels", result.GetProperty("path").GetString(), StringComparison.Ordinal);
        Assert.InRange(result.GetProperty("not_bf16").GetInt64(), 1, result.GetProperty("values").GetInt64());

        Outcome plain = Run(run), rounded = Run([.. run, "--panels", "bf16"]);
        Assert.Equal((exact, ""), (plain.Output, plain.Error));
        Assert.NotEqual(exact, rounded.Output);
        Assert.Contains("rounded to bfloat16", rounded.Error, StringComparison.Ordinal);
        double[] a = Losses(exact), b = Losses(rounded.Output);
        Assert.Equal(a.Length, effect.GetProperty("tokens").GetInt64());
        Assert.Equal(a.Average(), effect.GetProperty("loss").GetDouble(), 5);
        Assert.Equal(b.Average(), effect.GetProperty("rounded_loss").GetDouble(), 5);
        Assert.Equal(b.Average() - a.Average(), effect.GetProperty("delta_loss").GetDouble(), 5);
        Assert.InRange(effect.GetProperty("kl").GetDouble(), 1e-9, 0.1);
        Assert.InRange(effect.GetProperty("argmax_agreement").GetDouble(), 0.5, 1);

        JsonElement row = Assert.Single(Run("pack", "--list", "--json").Json().EnumerateArray());
        Assert.True(row.GetProperty("ok").GetBoolean() && row.GetProperty("rounded").GetBoolean());
        Assert.Equal("", Run("pack", "--clean").Output);
        Blur(Path.Combine(model, "model.safetensors"));
        Run([.. run, "--panels", "bf16"]).AssertFailed(1, "other weights", "--as bf16");
        Assert.Contains("deleted", Run("pack", "--clean").Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("2", "--safetensors", "pack", "--as", "f16")]
    [InlineData("2", "not a type of weights", "pack", "--as", "int8")]
    [InlineData("2", "one of them at a time", "pack", "--list", "--safetensors", "x")]
    [InlineData("2", "--as does nothing", "pack", "--list", "--as", "bf16")]
    [InlineData("2", "--text-file does nothing", "pack", "--text-file", "x")]
    [InlineData("2", "one of the two", "run", "x", "--pack", "--panels", "bf16")]
    [InlineData("2", "cpu device", "run", "x", "--panels", "bf16", "--device", "reference")]
    [InlineData("2", "not a choice of panels", "run", "x", "--panels", "f16")]
    [InlineData("1", "/no/such/text", "pack", "--as", "bf16", "--text-file", "/no/such/text")]
    public void What_cannot_be_done_gets_a_sentence(string exitCode, string sentence, params string[] arguments) =>
        Run(arguments).AssertFailed(exitCode == "2" ? 2 : 1, sentence);

    private static double[] Losses(string json) =>
        [.. JsonElement.Parse(json).GetProperty("next_token_loss").EnumerateArray().Select(v => v.GetDouble())];

    /// <summary>Gives every float32 value of the matrices bits that bfloat16 does not hold.</summary>
    private static void Blur(string path)
    {
        Dictionary<string, Stored> tensors = Read(path, out _);
        var random = new Random(5);
        foreach (Stored tensor in tensors.Values.Where(t => t.Shape.Length == 2))
        {
            Span<uint> bits = MemoryMarshal.Cast<byte, uint>(tensor.Bytes.AsSpan());
            for (int n = 0; n < bits.Length; n++)
                bits[n] ^= (uint)random.Next(1 << 16);
        }

        Write(path, tensors);
    }

    private static void Change(string path, string name, int at, uint bits)
    {
        Dictionary<string, Stored> tensors = Read(path, out _);
        BinaryPrimitives.WriteUInt32LittleEndian(tensors[name].Bytes.AsSpan(4 * at), bits);
        Write(path, tensors);
    }

    /// <summary>A safetensors file by the format's words: the header's length, JSON, then the tensors, which follow each other without gaps.</summary>
    private static Dictionary<string, Stored> Read(string path, out JsonElement metadata)
    {
        byte[] file = File.ReadAllBytes(path);
        int header = checked((int)BinaryPrimitives.ReadUInt64LittleEndian(file)), data = 8 + header;
        Assert.Equal((byte)'{', file[8]);
        JsonElement root = JsonElement.Parse(file.AsSpan(8, header));
        metadata = root.TryGetProperty("__metadata__", out JsonElement texts) ? texts : default;
        var tensors = new Dictionary<string, Stored>();
        long at = 0;
        foreach (JsonProperty tensor in root.EnumerateObject().Where(t => t.Name != "__metadata__"))
        {
            long[] offsets = [.. tensor.Value.GetProperty("data_offsets").EnumerateArray().Select(o => o.GetInt64())];
            long[] shape = [.. tensor.Value.GetProperty("shape").EnumerateArray().Select(o => o.GetInt64())];
            string type = tensor.Value.GetProperty("dtype").GetString()!;
            Assert.Equal(at, offsets[0]);
            Assert.Equal(shape.Aggregate(type == "F32" ? 4L : 2L, (a, b) => a * b), offsets[1] - offsets[0]);
            at = offsets[1];
            tensors.Add(tensor.Name, new Stored(type, shape, file[(data + (int)offsets[0])..(data + (int)offsets[1])]));
        }

        Assert.Equal(file.Length, data + at);
        return tensors;
    }

    private static void Write(string path, Dictionary<string, Stored> tensors)
    {
        long at = 0;
        string Entry(string name, Stored tensor) =>
            $"\"{name}\":{{\"dtype\":\"{tensor.Type}\",\"shape\":[{string.Join(',', tensor.Shape)}],"
            + $"\"data_offsets\":[{at},{at += tensor.Bytes.Length}]}}";
        string header = "{" + string.Join(',', tensors.Select(t => Entry(t.Key, t.Value))) + "}";
        using FileStream stream = File.Create(path);
        stream.Write(BitConverter.GetBytes((long)header.Length));
        stream.Write(System.Text.Encoding.ASCII.GetBytes(header));
        foreach (Stored tensor in tensors.Values)
            stream.Write(tensor.Bytes);
    }

    private Outcome Run(params string[] arguments) =>
        Program.RunWith(null, new Dictionary<string, string> { ["XDG_CACHE_HOME"] = _cache.At("cache") }, arguments);

    private sealed record Stored(string Type, long[] Shape, byte[] Bytes)
    {
        public bool Equals(Stored? other) => other is not null && Type == other.Type
            && Shape.AsSpan().SequenceEqual(other.Shape) && Bytes.AsSpan().SequenceEqual(other.Bytes);

        public override int GetHashCode() => HashCode.Combine(Type, Bytes.Length);
    }
}

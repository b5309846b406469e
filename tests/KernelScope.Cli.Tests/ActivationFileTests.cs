using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using KernelScope.Files;

namespace KernelScope.Cli.Tests;

/// <summary>Activations as other programs store them. Each form must give what an npz of the same values gives, of which <see cref="EncodeTests"/> holds the numbers against SAELens.</summary>
public sealed class ActivationFileTests : IDisposable
{
    private const int Rows = 33, Width = 48;
    private static readonly string Sae = Fixtures.Path("sae", "saes", "gs-48x96");
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>Multiples of 1/8 below 16, which every type holds exactly.</summary>
    private static float[] Values()
    {
        using var golden = new Arrays(Path.Combine(Sae, "expected.npz"));
        return [.. golden.Floats("x_33").Select(v => Math.Clamp(MathF.Round(v * 8) / 8, -15, 15))];
    }

    [Theory]
    [InlineData("a.npy", "<f4")]
    [InlineData("a.npy", "<f2")]
    [InlineData("a.npy", "<f8")]
    [InlineData("a.npy", ">f4")]
    [InlineData("a.npy", ">f2")]
    [InlineData("a.npy", ">f8")]
    [InlineData("a.npy", "|V2")]
    [InlineData("a.npy", "bfloat16")]
    [InlineData("a.npy", "fortran")]
    [InlineData("a.npz", ">f4")]
    [InlineData("a.npz", ">f8")]
    [InlineData("a.npz", "<V2")]
    [InlineData("a.safetensors", "F32")]
    [InlineData("a.safetensors", "F16")]
    [InlineData("a.safetensors", "BF16")]
    [InlineData("a.safetensors", "F64")]
    public void Encode_gives_what_an_npz_of_the_same_values_gives(string file, string type)
    {
        float[] x = Values();
        using (var writer = new NpzWriter(_folder.At("plain.npz")))
        {
            writer.Add<float>("a", x, Rows, Width);
            writer.Commit();
        }

        long[] shape = type == "fortran" ? [Rows, Width] : [3, 11, Width];
        byte[] stored = file switch
        {
            "a.npy" => Npy(type, shape, x),
            "a.npz" => Zip("a.npy", Npy(type, shape, x)),
            _ => Safetensors(type, shape, x),
        };
        string path = _folder.Write(file, stored);
        JsonElement plain = Program.Json("encode", _folder.At("plain.npz"), "--sae", Sae, "--out", _folder.At("plain-codes.npz"));
        JsonElement other = Program.Json("encode", path, "--sae", Sae, "--out", _folder.At("codes.npz"));
        Assert.Equal(plain.GetRawText(), other.GetRawText());
        Assert.Equal(File.ReadAllBytes(_folder.At("plain-codes.npz")), File.ReadAllBytes(_folder.At("codes.npz")));
    }

    [Theory]
    [InlineData("resid_post.3.npy", "<f4", "d.npz", 0)]
    [InlineData("any.npy", ">f4", "d.npz", 0)]
    [InlineData("d.npz", "", "any.npy", 0)]
    [InlineData("any.npy", "|V2", "other.npy", 0)]
    [InlineData("wrong.npy", "<f4", "d.npz", 1)]
    public void Diff_pairs_a_npy_by_its_name_or_with_the_only_array_there_is(string a, string typeOfA, string b, int parts)
    {
        float[] x = Values();
        using (var writer = new NpzWriter(_folder.At("d.npz")))
        {
            writer.Add<float>("resid_post.3", x, 1, Rows, Width);
            writer.Commit();
        }

        _folder.Write("other.npy", Npy("<f2", [Rows, Width], x));
        if (a == "wrong.npy")
            x[100] += 1;
        if (a.EndsWith(".npy", StringComparison.Ordinal))
            _folder.Write(a, Npy(typeOfA, [Rows, Width], x));
        else
            _folder.Write(b, Npy("<f4", [Rows, Width], x));
        JsonElement diff = Program.Json("diff", _folder.At(a), _folder.At(b));
        Assert.Equal(parts == 1, diff.GetProperty("parts").GetBoolean());
        Assert.True(diff.GetProperty("arrays").EnumerateArray().Single().GetProperty("compared").GetBoolean());
    }

    [Fact]
    public void A_npy_of_which_nothing_says_what_it_is_is_refused()
    {
        using (var writer = new NpzWriter(_folder.At("two.npz")))
        {
            writer.Add<float>("resid_post.3", Values(), Rows, Width);
            writer.Add<float>("resid_post.2", Values(), Rows, Width);
            writer.Commit();
        }

        Program.Run("diff", _folder.Write("any.npy", Npy("<f4", [Rows, Width], Values())), _folder.At("two.npz"))
            .AssertFailed(1, "any.npy", "name the file");
    }

    [Fact]
    public void A_key_is_asked_for_only_where_there_are_several_arrays()
    {
        string npy = _folder.Write("a.npy", Npy("<f4", [Rows, Width], Values()));
        Program.Run("encode", npy, "--key", "b", "--sae", Sae).AssertFailed(2, "a .npy holds one");
        Program.Run("encode", Path.Combine(Sae, "expected.npz"), "--sae", Sae).AssertFailed(2, "--key is missing", "x_1");
        Program.Run("encode", _folder.Write("a.txt", "no arrays"u8), "--sae", Sae).AssertFailed(1, "a.txt", "neither");
    }

    /// <summary>Rows of BOS, EOS and padding do not count; the arrays hold them. The numbers come from SAELens' codes and reconstruction.</summary>
    [Theory]
    [InlineData("npz", null, 27)]
    [InlineData("npz", "0", 31)]
    [InlineData("npz", "7,2", 28)]
    [InlineData("safetensors", null, 27)]
    public void Encode_counts_the_rows_that_eval_counts(string form, string? specialIds, int counted)
    {
        // BOS at 0 and 11, EOS at 10 and 31, padding at 20 and 32, a 7 at 21.
        int[] tokens =
            [.. Enumerable.Range(0, Rows).Select(i => i switch { 0 or 11 => 2, 10 or 31 => 1, 21 => 7, 20 or 32 => 0, _ => 100 + i })];
        HashSet<int> special = specialIds switch { null => [0, 1, 2], "0" => [0], _ => [0, 7, 2] };
        using var golden = new Arrays(Path.Combine(Sae, "expected.npz"));
        float[] x = golden.Floats("x_33"), reconstruction = golden.Floats("recon_33");
        int[] starts = golden.Ints("row_ptr_33");
        string path = _folder.At("a." + form);
        if (form == "npz")
        {
            using var writer = new NpzWriter(path);
            writer.Add<int>("tokens", tokens, 3, 11);
            writer.Add<float>("blocks.0.hook_resid_post", x, 3, 11, Width);
            writer.Commit();
        }
        else
        {
            using var writer =
                new SafetensorsWriter(
                    path, [new TensorInfo("tokens", DType.I32, [3, 11]),
                        new TensorInfo("blocks.0.hook_resid_post", DType.F32, [3, 11, Width])], null);
            writer.Append<int>(tokens);
            writer.Append<float>(x);
            writer.Commit();
        }

        string[] ids = specialIds is null ? [] : ["--special-ids", specialIds];
        JsonElement result =
            Program.Json(["encode", path, "--key", "resid_post.0", "--sae", Sae, "--out", _folder.At("codes.npz"), .. ids]);
        int[] rows = [.. Enumerable.Range(0, Rows).Where(r => !special.Contains(tokens[r]))];
        Assert.Equal(counted, result.GetProperty("rows_counted").GetInt64());
        Assert.Equal(Rows, result.GetProperty("rows").GetInt64());
        Assert.Equal(rows.Average(r => (double)(starts[r + 1] - starts[r])), result.GetProperty("l0").GetDouble(), 1e-9);
        Assert.Equal(Fvu(x, reconstruction, rows), result.GetProperty("fvu").GetDouble(), 1e-5);
        using var codes = new Arrays(_folder.At("codes.npz"));
        Assert.Equal(starts, codes.Ints("row_ptr"));
    }

    [Fact]
    public void Without_a_token_for_each_row_all_rows_count()
    {
        using (var writer = new NpzWriter(_folder.At("a.npz")))
        {
            writer.Add<int>("tokens", [2, 5], 2);
            writer.Add<float>("a", Values(), Rows, Width);
            writer.Commit();
        }

        Outcome outcome = Program.Run("encode", _folder.At("a.npz"), "--sae", Sae, "--json");
        Assert.Equal(Rows, outcome.Json().GetProperty("rows_counted").GetInt64());
        Assert.Contains("all rows count", outcome.Error, StringComparison.Ordinal);
        Program.Run("encode", _folder.At("a.npz"), "--sae", Sae, "--special-ids", "0")
            .AssertFailed(1, "--special-ids", "nothing to act on");
        Program.Run("encode", _folder.At("a.npz"), "--sae", Sae, "--special-ids", "-3").AssertFailed(2, "-3");
    }

    private static double Fvu(float[] x, float[] reconstruction, int[] rows)
    {
        double error = 0, variance = 0;
        for (int j = 0; j < Width; j++)
        {
            double mean = rows.Average(r => (double)x[(r * Width) + j]);
            error += rows.Sum(r => Math.Pow((double)x[(r * Width) + j] - reconstruction[(r * Width) + j], 2));
            variance += rows.Sum(r => Math.Pow(x[(r * Width) + j] - mean, 2));
        }

        return error / variance;
    }

    private static byte[] Npy(string type, long[] shape, float[] x)
    {
        string descr = type == "fortran" ? "<f4" : type;
        string header =
            $"{{'descr': '{descr}', 'fortran_order': {(type == "fortran" ? "True" : "False")}, 'shape': ({string.Join(", ", shape)}), }}";
        header = header.PadRight(((10 + header.Length + 1 + 63) / 64 * 64) - 11) + "\n";
        byte[] start = [0x93, .. "NUMPY"u8, 1, 0, (byte)(header.Length & 255), (byte)(header.Length >> 8)];
        if (type == "fortran")
            x = [.. Enumerable.Range(0, x.Length).Select(i => x[(i % shape[0] * shape[1]) + (i / shape[0])])];
        return [.. start, .. Encoding.ASCII.GetBytes(header), .. Bytes(descr, x)];
    }

    private static byte[] Bytes(string type, float[] x)
    {
        int size = type switch { "<f4" or ">f4" or "F32" => 4, "<f8" or ">f8" or "F64" => 8, _ => 2 };
        byte[] bytes = new byte[x.Length * size];
        for (int i = 0; i < x.Length; i++)
        {
            Span<byte> place = bytes.AsSpan(i * size);
            switch (type)
            {
                case "<f4" or "F32": BinaryPrimitives.WriteSingleLittleEndian(place, x[i]); break;
                case ">f4": BinaryPrimitives.WriteSingleBigEndian(place, x[i]); break;
                case "<f8" or "F64": BinaryPrimitives.WriteDoubleLittleEndian(place, x[i]); break;
                case ">f8": BinaryPrimitives.WriteDoubleBigEndian(place, x[i]); break;
                case "<f2" or "F16": BinaryPrimitives.WriteHalfLittleEndian(place, (Half)x[i]); break;
                case ">f2": BinaryPrimitives.WriteHalfBigEndian(place, (Half)x[i]); break;
                default: BinaryPrimitives.WriteUInt16LittleEndian(place, (ushort)(BitConverter.SingleToUInt32Bits(x[i]) >> 16)); break;
            }
        }

        return bytes;
    }

    private static byte[] Safetensors(string type, long[] shape, float[] x)
    {
        byte[] data = Bytes(type, x),
            json = Encoding.ASCII.GetBytes(
                $"{{\"a\":{{\"dtype\":\"{type}\",\"shape\":[{string.Join(',', shape)}],\"data_offsets\":[0,{data.Length}]}}}}");
        return [.. BitConverter.GetBytes((long)json.Length), .. json, .. data];
    }

    private static byte[] Zip(string name, byte[] entry)
    {
        using var memory = new MemoryStream();
        using (var zip = new System.IO.Compression.ZipArchive(memory, System.IO.Compression.ZipArchiveMode.Create))
        {
            using Stream stream = zip.CreateEntry(name, System.IO.Compression.CompressionLevel.NoCompression).Open();
            stream.Write(entry);
        }

        return memory.ToArray();
    }
}

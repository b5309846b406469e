using System.IO.Compression;
using System.Text;
using System.Text.Json;
using KernelScope.Text;

namespace KernelScope.Tests.Text;

/// <summary>What a tokenizer.model may and may not be.</summary>
public class TokenizerFileTests
{
    [Fact]
    public void Hostile_files_get_their_verdicts_in_one_sentence_that_names_the_file()
    {
        using ZipArchive zip = ZipFile.OpenRead(TextFixtures.PathOf("hostile.zip"));
        string[] rows = Encoding.UTF8.GetString(Bytes(zip, "cases.jsonl")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(28, rows.Length);
        foreach (string line in rows)
        {
            JsonElement row = JsonElement.Parse(line);
            string file = row.GetProperty("file").GetString()!;
            string? error = ErrorOf(Bytes(zip, file), file);
            switch (row.GetProperty("expect").GetString())
            {
                case "ok":
                    Assert.Null(error);
                    break;
                case "error":
                    Assert.True(error is not null, $"{file} was taken: {row.GetProperty("why")}");
                    break;
            }

            if (error is not null)
            {
                Assert.StartsWith(file + ": ", error, StringComparison.Ordinal);
                Assert.EndsWith(".", error, StringComparison.Ordinal);
                Assert.DoesNotContain('\n', error);
            }
        }
    }

    [Fact]
    public void Ten_thousand_damaged_files_are_refused_or_usable_and_never_crash()
    {
        var random = new Random(4104);
        byte[] sound =
            new TokenizerFile().With(("h", -1, 1), ("e", -2, 1), ("he", -3, 1), ("\u2581t", -4, 1), ("\u2581", -5, 1), ("t", -6, 5),
                ("\u2581th", -7, 5), ("é", -8, 1)).ToBytes();
        int refused = 0;
        for (int i = 0; i < 10_000; i++)
        {
            GemmaTokenizer tokenizer;
            try
            {
                tokenizer = GemmaTokenizer.Load(Damaged(sound, random), "damaged");
            }
            catch (InvalidDataException)
            {
                refused++;
                continue;
            }

            int[] ids = tokenizer.Encode("he the <h1>\n thé \u6F22 <0x41> hhee");
            tokenizer.Decode(ids);
            foreach (int id in ids)
                tokenizer.Piece(id);
        }

        Assert.InRange(refused, 2_000, 9_900);
    }

    [Theory]
    [InlineData("unigram")]
    [InlineData("byte fallback")]
    [InlineData("add_dummy_prefix")]
    [InlineData("remove_extra_whitespaces")]
    [InlineData("escape_whitespaces")]
    [InlineData("normalises")]
    [InlineData("rewrites decoded text")]
    public void A_setting_that_would_change_the_ids_is_refused_by_name(string name)
    {
        TokenizerFile file = name switch
        {
            "unigram" => new() { ModelType = 1 },
            "byte fallback" => new() { ByteFallback = false },
            "add_dummy_prefix" => new() { DummyPrefix = true },
            "remove_extra_whitespaces" => new() { RemoveExtraSpaces = true },
            "escape_whitespaces" => new() { EscapeSpaces = false },
            "normalises" => new() { CharacterTable = "table" },
            _ => new() { DecodingTable = "table" },
        };
        Assert.Contains(name, ErrorOf(file.ToBytes(), "test.model"), StringComparison.Ordinal);
    }

    [Fact]
    public void An_error_says_at_which_byte()
    {
        byte[] sound = new TokenizerFile().ToBytes();
        int at = sound.Length;
        Assert.Contains($"(byte {at})", ErrorOf([.. sound, 0x0F], "test.model"), StringComparison.Ordinal);
        Assert.Contains($"(byte {at + 1})", ErrorOf([.. sound, 0x0A, 0x7F, 0x00], "test.model"), StringComparison.Ordinal);
        // A piece of type 9, inside a message: places count from the file's start.
        byte[] piece = TokenizerFile.Field(1, [.. TokenizerFile.Field(1, "new"u8.ToArray()), .. TokenizerFile.Number(3, 9)]);
        Assert.Contains($"(byte {at})", ErrorOf([.. sound, .. piece], "test.model"), StringComparison.Ordinal);
    }

    [Fact]
    public void Groups_are_skipped_if_they_end_and_nest_within_reason()
    {
        byte[] sound = new TokenizerFile().ToBytes();
        byte[] start = TokenizerFile.Varint((50 << 3) | 3), end = TokenizerFile.Varint((50 << 3) | 4),
            other = TokenizerFile.Varint((51 << 3) | 4);
        byte[] Nested(int depth) =>
            [.. sound, .. Enumerable.Repeat(start, depth).SelectMany(b => b), .. TokenizerFile.Number(7, 1),
                .. Enumerable.Repeat(end, depth).SelectMany(b => b)];
        Assert.Null(ErrorOf(Nested(100), "test.model"));
        Assert.Contains("nested", ErrorOf(Nested(101), "test.model"), StringComparison.Ordinal);
        Assert.Contains("inside group 50", ErrorOf([.. sound, .. start, .. other], "test.model"), StringComparison.Ordinal);
        Assert.Contains("does not end", ErrorOf([.. sound, .. start], "test.model"), StringComparison.Ordinal);
        Assert.Contains("not begun", ErrorOf([.. sound, .. end], "test.model"), StringComparison.Ordinal);
    }

    [Fact]
    public void Bos_is_the_piece_the_trainer_names_or_else_the_control_piece_whose_id_it_states()
    {
        Assert.Equal(2, new TokenizerFile { BosId = 99999 }.Load().BosId);
        Assert.Equal(2, new TokenizerFile { BosPiece = "<h1>" }.Load().BosId);
        Assert.Equal(-1, new TokenizerFile { BosPiece = "<h1>", BosId = 3 }.Load().BosId);
        Assert.Equal(-1, new TokenizerFile { BosPiece = "", BosId = 99999 }.Load().BosId);
        Assert.Equal(
            (2, 1, 0, 3), (TextFixtures.Demo.BosId, TextFixtures.Demo.EosId, TextFixtures.Demo.PadId, TextFixtures.Demo.UnknownId));
    }

    [Fact]
    public void The_unknown_piece_decodes_to_what_the_trainer_set()
    {
        Assert.Equal("h \u2047 h", new TokenizerFile().With(("h", 0, 1)).Load().Decode([262, 3, 262]));
        Assert.Equal("h?h", new TokenizerFile { UnknownSurface = "?" }.With(("h", 0, 1)).Load().Decode([262, 3, 262]));
    }

    [Fact]
    public void Pieces_say_what_they_are_and_unknown_ids_are_refused()
    {
        GemmaTokenizer tokenizer = TextFixtures.Demo;
        Assert.Equal(4096, tokenizer.PieceCount);
        Assert.True(tokenizer.IsControl(2) && !tokenizer.IsControl(106));
        Assert.True(tokenizer.IsUserDefined(106) && !tokenizer.IsUserDefined(2));
        Assert.True(tokenizer.IsByte(217) && tokenizer.IsByte(472) && !tokenizer.IsByte(473));
        Assert.Equal("<0x0A>", tokenizer.Piece(227));
        foreach (int id in new[] { -1, 4096, int.MinValue, int.MaxValue })
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Piece(id));
            Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.IsByte(id));
        }
    }

    [Fact]
    public void A_path_that_is_no_sound_file_is_refused_in_a_sentence()
    {
        string folder = Directory.CreateTempSubdirectory("kernelscope-text-").FullName;
        try
        {
            string empty = Path.Combine(folder, "empty.model"), large = Path.Combine(folder, "large.model");
            File.WriteAllBytes(empty, []);
            using (FileStream sparse = File.Create(large))
                sparse.SetLength(1L << 36);
            Assert.Contains("folder", Assert.Throws<InvalidDataException>(() => GemmaTokenizer.Open(folder)).Message,
                StringComparison.Ordinal);
            Assert.Contains("empty", Assert.Throws<InvalidDataException>(() => GemmaTokenizer.Open(empty)).Message,
                StringComparison.Ordinal);
            Assert.Contains("more than", Assert.Throws<InvalidDataException>(() => GemmaTokenizer.Open(large)).Message,
                StringComparison.Ordinal);
            Assert.Contains(
                "no such file", Assert.Throws<InvalidDataException>(() => GemmaTokenizer.Open(Path.Combine(folder, "none.model"))).Message,
                StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string? ErrorOf(byte[] model, string file)
    {
        try
        {
            GemmaTokenizer.Load(model, file);
            return null;
        }
        catch (InvalidDataException e)
        {
            return e.Message;
        }
    }

    private static byte[] Bytes(ZipArchive zip, string name)
    {
        using Stream stream = zip.GetEntry(name)!.Open();
        using var bytes = new MemoryStream();
        stream.CopyTo(bytes);
        return bytes.ToArray();
    }

    private static byte[] Damaged(byte[] sound, Random random)
    {
        List<byte> bytes = [.. sound];
        for (int edits = random.Next(1, 4); edits > 0; edits--)
        {
            // Half of the edits fall on the settings and the last pieces; the rest anywhere.
            int at = random.Next(2) == 0 ? random.Next(bytes.Count) : random.Next(Math.Max(0, bytes.Count - 120), bytes.Count);
            int length = Math.Min(random.Next(1, 20), bytes.Count - at);
            switch (random.Next(6))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 2:
                    bytes.RemoveRange(at, length);
                    break;
                case 3:
                    bytes.InsertRange(at, bytes.GetRange(at, length));
                    break;
                case 4:
                    bytes.Insert(at, (byte)random.Next(256));
                    break;
                default:
                    bytes.RemoveRange(at, bytes.Count - at);
                    bytes.Add((byte)random.Next(256));
                    break;
            }
        }

        return [.. bytes];
    }
}

using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Text;

namespace KernelScope.Tests.Text;

/// <summary>A tokenizer.json against Hugging Face's tokenizers library (fixtures/text), in many forms, and what is refused.</summary>
public class TokenizerJsonTests
{
    private static readonly Lazy<string> Base = new(() =>
    {
        using var stream = new GZipStream(File.OpenRead(TextFixtures.PathOf("tokenizer.json.gz")), CompressionMode.Decompress);
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    });

    private static readonly JsonObject Variants =
        JsonNode.Parse(File.ReadAllBytes(TextFixtures.PathOf("tokenizer-variants.json")))!.AsObject();

    public static TheoryData<string> Names => [.. Variants.Select(v => v.Key)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Text_and_ids_are_those_of_the_tokenizers_library(string variant)
    {
        GemmaTokenizer tokenizer = Load(Variant(variant));
        int rows = 0;
        foreach (JsonElement row in TextFixtures.Rows("tokenizer-cases.jsonl.gz")
            .Where(r => r.GetProperty("variant").GetString() == variant))
        {
            string text = row.GetProperty("text").GetString()!;
            if (row.GetProperty("op").GetString() == "encode")
            {
                Assert.Equal((text, string.Join(' ', row.Ids())), (text, string.Join(' ', tokenizer.Encode(text))));
                Assert.Equal(row.Ids(), tokenizer.EncodeUtf8(Encoding.UTF8.GetBytes(text)));
            }
            else
            {
                int[] ids = row.Ids();
                string said = string.Join(' ', ids);
                Assert.Equal((said, text), (said, tokenizer.Decode(ids)));
                var stream = new StreamingDecoder(tokenizer);
                Assert.Equal(text, string.Concat(ids.Select(stream.Append)) + stream.Flush());
            }

            rows++;
        }

        Assert.InRange(rows, 200, 4000);
    }

    [Theory]
    [InlineData("model.type", "\"Unigram\"", "Unigram")]
    [InlineData("model.dropout", "0.1", "0.1")]
    [InlineData("model.continuing_subword_prefix", "\"##\"", "##")]
    [InlineData("model.end_of_word_suffix", "\"</w>\"", "</w>")]
    [InlineData("model.unk_token", "\"[nothing]\"", "[nothing]")]
    [InlineData("model.byte_fallback", "3", "3")]
    [InlineData("normalizer", "{\"type\": \"NFC\"}", "NFC")]
    [InlineData("normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Lowercase\"}]}", "normalizers[0]")]
    [InlineData("normalizer", "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \" +\"}, \"content\": \" \"}", "regular expression")]
    [InlineData("normalizer", "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \" \"}", "empty")]
    [InlineData("normalizer", "[]", "a list")]
    [InlineData("pre_tokenizer", "{\"type\": \"ByteLevel\"}", "ByteLevel")]
    [InlineData("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"Sometimes\"}", "Sometimes")]
    [InlineData("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"1\"}", "'1'")]
    [InlineData("post_processor", "{\"type\": \"BertProcessing\"}", "BertProcessing")]
    [InlineData("decoder", "null", "decoder")]
    [InlineData("decoder", "{\"type\": \"Metaspace\"}", "Metaspace")]
    [InlineData("decoder", "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": \"ByteFallback\"}]}", "ByteFallback")]
    [InlineData("model.vocab", "{\"a\": 0, \"b\": 0}", "the id 0")]
    [InlineData("model.vocab", "{\"a\": 4000000000}", "4000000000")]
    [InlineData("model.vocab", "{\"a\": 2000000}", "2000000")]
    [InlineData("model.vocab", "{\"\": 0}", "empty")]
    [InlineData("model.vocab", "{}", "empty")]
    [InlineData("model.vocab", "[]", "a list")]
    [InlineData("model.merges", "{}", "an object")]
    [InlineData("model.merges", "[\"a b c\"]", "merges[0]")]
    [InlineData("model.merges", "[[\"a\"]]", "merges[0]")]
    [InlineData("model.merges", "[[\"a\", \"zzzzzz\"]]", "zzzzzz")]
    [InlineData("added_tokens", "{}", "an object")]
    [InlineData("added_tokens", "[{\"id\": 5000, \"content\": \"the\"}]", "'the'")]
    [InlineData("added_tokens", "[{\"id\": 500, \"content\": \"<|new|>\"}]", "500")]
    [InlineData("model", "null", "null")]
    public void What_would_change_ids_or_text_is_refused_by_the_name_of_its_field(string field, string value, string word)
    {
        JsonObject file = JsonNode.Parse(Base.Value)!.AsObject();
        string[] names = field.Split('.');
        (names.Length == 1 ? file : file[names[0]]!.AsObject())[names[^1]] = JsonNode.Parse(value);
        string said = Assert.Throws<InvalidDataException>(() => Load(file)).Message;
        Assert.StartsWith("tokenizer.json: ", said, StringComparison.Ordinal);
        Assert.Contains(field == "added_tokens" ? "added" : names[^1], said, StringComparison.Ordinal);
        Assert.Contains(word, said, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', said);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("{\"model\": {\"vocab\": {\"a\": 1, \"a\": 2}, \"merges\": []}}")]
    public void What_is_not_such_a_file_is_refused(string text) =>
        Assert.StartsWith(
            "tokenizer.json: ",
            Assert.Throws<InvalidDataException>(() => GemmaTokenizer.LoadJson(Encoding.UTF8.GetBytes(text), "tokenizer.json")).Message,
            StringComparison.Ordinal);

    [Fact]
    public void Nesting_without_end_is_refused()
    {
        string deep = "{\"normalizer\": " + string.Concat(Enumerable.Repeat("{\"type\": \"Sequence\", \"normalizers\": [", 100_000));
        Assert.Contains(
            "nested", Assert.Throws<InvalidDataException>(() => GemmaTokenizer.LoadJson(Encoding.UTF8.GetBytes(deep), "tokenizer.json"))
            .Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_without_tokenizer_model_has_this_one_with_the_names_of_its_special_tokens()
    {
        using TextFolder folder = TextFolder.WithJson()
            .Write("tokenizer_config.json",
                """{"bos_token": {"content": "<start_of_turn>"}, "eos_token": "<end_of_turn>", "pad_token": null}""");
        GemmaTokenizer tokenizer = GemmaTokenizer.Open(folder.Model)!;
        Assert.Equal((106, 107, 0, 3), (tokenizer.BosId, tokenizer.EosId, tokenizer.PadId, tokenizer.UnknownId));
        Assert.Equal("Hi", tokenizer.Decode([106, .. tokenizer.Encode("Hi"), 107]));
        using TextFolder plain = TextFolder.WithJson();
        Assert.Equal(
            (2, 1, 0, 3),
            (GemmaTokenizer.Open(plain.Model)!.BosId, GemmaTokenizer.Open(plain.Model)!.EosId, GemmaTokenizer.Open(plain.Model)!.PadId,
                GemmaTokenizer.Open(plain.Model)!.UnknownId));
        using TextFolder both = TextFolder.WithJson();
        File.Copy(TextFixtures.PathOf("demo.model"), both.At("tokenizer.model"));
        Assert.Equal(TextFixtures.Demo.Encode(new string(' ', 80)), GemmaTokenizer.Open(both.Model)!.Encode(new string(' ', 80)));
    }

    private static GemmaTokenizer Load(JsonObject json) =>
        GemmaTokenizer.LoadJson(Encoding.UTF8.GetBytes(json.ToJsonString()), "tokenizer.json");

    private static JsonObject Variant(string name)
    {
        JsonObject file = JsonNode.Parse(Base.Value)!.AsObject();
        foreach ((string path, JsonNode? value) in Variants[name]!.AsObject())
            Change(file, path, value?.DeepClone());
        return file;
    }

    private static void Change(JsonObject file, string path, JsonNode? value)
    {
        if (path == "more_added_tokens")
        {
            foreach (JsonNode? token in value!.AsArray())
                file["added_tokens"]!.AsArray().Add(token!.DeepClone());
            return;
        }

        string[] names = path.Split('.', 3);
        JsonObject at = names[..^1].Aggregate(file, (node, name) => node[name]!.AsObject());
        if (path == "model.merges" && value?.GetValueKind() == JsonValueKind.String)
            value = new JsonArray(
                [.. at["merges"]!.AsArray().Select(m => new JsonArray([.. ((string)m!).Split(' ').Select(p => JsonValue.Create(p))]))]);
        if (names is ["model", "vocab", _] && value is null)
            at.Remove(names[^1]);
        else
            at[names[^1]] = value;
    }
}

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

    private static readonly JsonObject Variants = JsonNode.Parse(File.ReadAllBytes(TextFixtures.PathOf("tokenizer-variants.json")))!.AsObject();

    public static TheoryData<string> Names => [.. Variants.Select(v => v.Key)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Text_and_ids_are_those_of_the_tokenizers_library(string variant)
    {
        GemmaTokenizer tokenizer = Load(Variant(variant));
        int rows = 0;
        foreach (JsonElement row in TextFixtures.Rows("tokenizer-cases.jsonl.gz").Where(r => r.GetProperty("variant").GetString() == variant))
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

    private static GemmaTokenizer Load(JsonObject json) => GemmaTokenizer.LoadJson(Encoding.UTF8.GetBytes(json.ToJsonString()), "tokenizer.json");

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
            value = new JsonArray([.. at["merges"]!.AsArray().Select(m => new JsonArray([.. ((string)m!).Split(' ').Select(p => JsonValue.Create(p))]))]);
        if (names is ["model", "vocab", _] && value is null)
            at.Remove(names[^1]);
        else
            at[names[^1]] = value;
    }
}

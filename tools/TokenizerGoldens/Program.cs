using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Tokenizers.DotNet;

// TokenizerGoldens FOLDER < requests > answers
// A request is a line {"variant": NAME, "op": "encode", "text": …} or {…, "op": "decode", "ids": […]}; FOLDER/NAME.json is the tokenizer. The answer is the same line with what was missing.
var tokenizers = new Dictionary<string, Tokenizer>();
var options = new JsonSerializerOptions { Encoder = JavaScriptEncoder.Default };
while (Console.ReadLine() is string line)
{
    JsonObject row = JsonNode.Parse(line)!.AsObject();
    string variant = (string)row["variant"]!;
    if (!tokenizers.TryGetValue(variant, out Tokenizer? tokenizer))
        tokenizers[variant] = tokenizer = new Tokenizer(Path.Combine(args[0], variant + ".json"));
    if ((string)row["op"]! == "encode")
        row["ids"] = new JsonArray([.. tokenizer.Encode((string)row["text"]!).Select(id => JsonValue.Create(id))]);
    else
        row["text"] = tokenizer.Decode([.. row["ids"]!.AsArray().Select(id => (uint)(int)id!)]);
    Console.WriteLine(row.ToJsonString(options));
}

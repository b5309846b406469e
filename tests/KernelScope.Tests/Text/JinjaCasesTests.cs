using System.Text.Json;
using KernelScope.Chat.Jinja;

namespace KernelScope.Tests.Text;

/// <summary>Templates against Jinja2 itself, with the settings of transformers (fixtures/text), and what is refused.</summary>
public class JinjaCasesTests
{
    private static readonly DateTime Now = new(2031, 5, 2, 9, 5, 7);

    [Fact]
    public void Every_template_writes_refuses_or_fails_as_in_jinja2()
    {
        int rows = 0;
        var wrong = new List<string>();
        foreach (JsonElement row in TextFixtures.Rows("jinja-cases.jsonl.gz"))
        {
            string template = row.GetProperty("template").GetString()!;
            string expected = row.TryGetProperty("text", out JsonElement text) ? "text: " + text.GetString()
                : row.TryGetProperty("refused", out JsonElement refused) ? "refused: " + refused.GetString()
                : "fails";
            string got = Run(template, row.GetProperty("variables"), out string why);
            if (got != expected)
                wrong.Add($"{row.GetProperty("name").GetString()}: {(template.Length < 200 ? template : template[..40])}\n   is {got}{why}\n   not {expected}");
            rows++;
        }

        Assert.True(wrong.Count == 0, $"{wrong.Count} of {rows} differ:\n{string.Join('\n', wrong.Take(60))}");
        Assert.True(rows > 2000);
    }

    private static string Run(string template, JsonElement variables, out string why)
    {
        why = "";
        try
        {
            return "text: " + Template.Parse(template).Render(variables.EnumerateObject().Select(v => KeyValuePair.Create(v.Name, Value(v.Value))), Now);
        }
        catch (TemplateException e) when (e.IsRefusal)
        {
            return "refused: " + e.Message;
        }
        catch (TemplateException e)
        {
            why = $" ({e.Message})";
            return "fails";
        }
    }

    private static object? Value(JsonElement json)
    {
        switch (json.ValueKind)
        {
            case JsonValueKind.Object:
                var dict = new PyDict();
                foreach (JsonProperty property in json.EnumerateObject())
                    dict.Set(property.Name, Value(property.Value));
                return dict;
            case JsonValueKind.Array:
                return new PyList([.. json.EnumerateArray().Select(Value)]);
            case JsonValueKind.String:
                return json.GetString();
            case JsonValueKind.Number:
                return json.TryGetInt64(out long whole) && !json.GetRawText().AsSpan().ContainsAny("eE.") ? (object)whole : json.GetDouble();
            default:
                return json.ValueKind == JsonValueKind.Null ? null : json.GetBoolean();
        }
    }
}

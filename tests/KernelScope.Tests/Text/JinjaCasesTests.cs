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
                wrong.Add($"{row.GetProperty("name").GetString()}: {(template.Length < 200 ? template : template[..40])}\n   is "
                    + $"{got}{why}\n   not {expected}");
            rows++;
        }

        Assert.True(wrong.Count == 0, $"{wrong.Count} of {rows} differ:\n{string.Join('\n', wrong.Take(60))}");
        Assert.True(rows > 2000);
    }

    /// <summary>Lazy filters give generators: true without items, without a length, gone through once. The texts are Jinja2's (3.1.6).</summary>
    [Theory]
    [InlineData("{% set s = [1]|selectattr('a', 'eq', 2) %}{% if s %}yes{% else %}no{% endif %}", "yes")]
    [InlineData("{{ 'm' if []|map('upper') }}{{ 'i' if {}|items }}{{ 'u' if []|unique }}{{ 'r' if []|reverse }}", "miur")]
    [InlineData("{% set s = [1]|map('string') %}{% for x in s %}{{ x }}{% endfor %}{% for x in s %}{% else %}none{% endfor %}", "1none")]
    [InlineData("{% set s = [1,2,3]|unique %}{{ s|first }}{{ s|list }}", "1[2, 3]")]
    [InlineData("{{ ([1]|select)[0] is defined }}{{ [1]|select is sequence }}{{ [1]|select is iterable }}", "FalseFalseTrue")]
    [InlineData("{{ [1,2]|select|reverse|list }}{{ [1,2]|reverse|list }}{% set a, b = [1,2]|select %}{{ b }}", "[2, 1][2, 1]2")]
    [InlineData("{% for x in [1,2]|select %}{{ loop.length }}{{ loop.last }}{% endfor %}{{ 2 in [1,2]|select }}", "2False2TrueTrue")]
    [InlineData("{{ [1]|map('string')|length }}", null)]
    [InlineData("{{ [1]|select|last }}", null)]
    [InlineData("{{ [1]|select|tojson }}", null)]
    [InlineData("{{ [1]|select + [2] }}", null)]
    public void Lazy_filters_are_lazy_as_in_jinja2(string template, string? expected)
    {
        string? got = null;
        try
        {
            got = Template.Parse(template).Render([], Now);
        }
        catch (TemplateException)
        {
            // As in Jinja2, where it has no meaning.
        }

        Assert.Equal(expected, got);
    }

    [Theory]
    [InlineData("{% include 'a' %}", "include")]
    [InlineData("{% extends 'a' %}", "extends")]
    [InlineData("{% block a %}{% endblock %}", "block")]
    [InlineData("{% call f() %}{% endcall %}", "call")]
    [InlineData("a\n{% import 'a' as b %}", "import")]
    [InlineData("{% for i in [] recursive %}{% endfor %}", "recursive")]
    [InlineData("{{ 'a' | safe }}", "safe")]
    [InlineData("{% if false %}{{ x | groupby('a') }}{% endif %}", "groupby")]
    [InlineData("{{ [] | map('xmlattr') }}", "xmlattr")]
    [InlineData("{{ [] | select('nonsense') }}", "nonsense")]
    [InlineData("{{ [] | selectattr('a', 'nonsense') }}", "nonsense")]
    [InlineData("{{ x is filter('a') }}", "filter")]
    [InlineData("{{ f(*[1]) }}", "*")]
    [InlineData("{{ '\\N{DIGIT ONE}' }}", "\\N")]
    public void What_is_not_supported_is_refused_by_name_before_anything_runs(string template, string word) =>
        Assert.Contains(word, Assert.Throws<TemplateException>(() => Template.Parse(template)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("{{ 'a'.format(1) }}", "format")]
    [InlineData("{{ '%s' % 1 }}", "%")]
    [InlineData("{{ [].pop() }}", "pop")]
    [InlineData("{{ strftime_now('%Q') }}", "%Q")]
    [InlineData("{{ 9999999999 * 9999999999 }}", "64 bits")]
    public void What_is_found_out_only_when_it_runs_is_refused_by_name_too(string template, string word) =>
        Assert.Contains(word, Assert.Throws<TemplateException>(() => Template.Parse(template).Render([], Now)).Message,
            StringComparison.Ordinal);

    [Theory]
    [InlineData("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")]
    [InlineData("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}")]
    [InlineData("{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}")]
    [InlineData("{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}")]
    [InlineData("{% set ns = namespace(s=['x']) %}{% for a in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}")]
    [InlineData("{% set ns = namespace(s=['x']) %}{% for a in range(9999) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}")]
    [InlineData("{% set ns = namespace(s=['x']) %}{% for a in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}")]
    [InlineData("{% set ns = namespace(s=['x']) %}{% for a in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}")]
    [InlineData("{% set ns = namespace(s=['x'], t=['x']) %}{% for a in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, "
        + "ns.t] %}{% endfor %}{{ ns.s == ns.t }}")]
    [InlineData("{{ 'x' * 999999999999 }}")]
    [InlineData("{{ '' * 999999999999 ~ 'x' * 99999999 }}")]
    [InlineData("{{ [1] * 999999999999 }}")]
    [InlineData("{{ ('x' * 9999999).replace('', 'yyyyyyyyy') }}")]
    [InlineData("{{ ('x' * 9999999).replace('x', 'yyyyyyyyy') }}")]
    [InlineData("{{ 'yyyyyyyyyyyyyyyyyyyyy'.join('x' * 9999999) }}")]
    [InlineData("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")]
    [InlineData("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}")]
    [InlineData("{{ range(10 ** 18) }}")]
    [InlineData("{{ 2 ** 9999999999 }}")]
    public void A_template_cannot_hang_or_fill_the_memory(string template)
    {
        var watch = System.Diagnostics.Stopwatch.StartNew();
        Assert.Throws<TemplateException>(() => Template.Parse(template).Render([], Now));
        // Not a measurement: without bounds each of them would take years or all memory.
        Assert.True(watch.Elapsed < TimeSpan.FromMinutes(1));
    }

    [Fact]
    public void Nesting_without_end_is_refused()
    {
        const int Deep = 50_000;
        foreach ((string open, string close) in new[] { ("(", ")"), ("[", "]"), ("not ", ""), ("-", ""), ("{'a': ", "}") })
            Assert.Throws<TemplateException>(
                () => Template.Parse("{{ " + string.Concat(Enumerable.Repeat(open, Deep))
                    + "1" + string.Concat(Enumerable.Repeat(close, Deep)) + " }}"));
        Assert.Throws<TemplateException>(() => Template.Parse(string.Concat(Enumerable.Repeat("{% if 1 %}", Deep))));
        Assert.Throws<TemplateException>(() => Template.Parse("{{ a" + string.Concat(Enumerable.Repeat(".a", Deep)) + " }}"));
        Assert.Throws<TemplateException>(() => Template.Parse("{{ a" + string.Concat(Enumerable.Repeat(" | upper", Deep)) + " }}"));
        Assert.Throws<TemplateException>(() => Template.Parse("{{ 1" + string.Concat(Enumerable.Repeat(" + 1", Deep)) + " }}"));
        Assert.Throws<TemplateException>(() => Template.Parse("{{ 1" + string.Concat(Enumerable.Repeat(" or 1", Deep)) + " }}"));
        Assert.Throws<TemplateException>(() => Template.Parse("{{ 1" + string.Concat(Enumerable.Repeat(" if 1", Deep)) + " }}"));
        Assert.Throws<TemplateException>(() => Template.Parse("{{ 1" + string.Concat(Enumerable.Repeat(" is odd", Deep)) + " }}"));
    }

    private static string Run(string template, JsonElement variables, out string why)
    {
        why = "";
        try
        {
            return "text: " + Template.Parse(template)
                .Render(variables.EnumerateObject().Select(v => KeyValuePair.Create(v.Name, Value(v.Value))), Now);
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
                return json.TryGetInt64(out long whole) && !json.GetRawText().AsSpan().ContainsAny("eE.") ? (object)whole
                    : json.GetDouble();
            default:
                return json.ValueKind == JsonValueKind.Null ? null : json.GetBoolean();
        }
    }
}

using System.Globalization;
using System.Text;

namespace KernelScope.Chat.Jinja;

/// <summary>JSON as Python's json.dumps writes it.</summary>
internal static class Json
{
    /// <summary>The filter <c>tojson</c> of transformers: <c>ensure_ascii</c> is off, nothing is escaped for HTML.</summary>
    public static object? Of(object? value, Arguments arguments)
    {
        object?[] given = arguments.Bind("ensure_ascii", "indent", "separators", "sort_keys");
        string? indent = given[1] == Arguments.Missing || given[1] is null ? null : given[1] is string s ? s
            : new string(' ', (int)Math.Clamp(Methods.Whole(given[1]), 0, 64));
        (string item, string key) = (indent is null ? ", " : ",", ": ");
        if (given[2] is PyList { Items: [string first, string second] })
            (item, key) = (first, second);
        else if (given[2] != Arguments.Missing && given[2] is not null)
            throw new TemplateException("tojson's separators are two texts");
        var writer = new Writer(arguments.Render, Flag(given[0]), indent, item, key, Flag(given[3]));
        writer.Write(value, 0);
        return writer.Text.ToString();
    }

    private static bool Flag(object? value) => value != Arguments.Missing && Python.IsTrue(value);

    private sealed class Writer(Render render, bool ascii, string? indent, string item, string key, bool sorts)
    {
        public StringBuilder Text { get; } = new();

        public void Write(object? value, int depth)
        {
            if (depth > Render.MaxDepth)
                throw new TemplateException($"a value is nested more than {Render.MaxDepth} deep");
            render.ChargeText(Text.Length / 1024);
            render.Charge();
            switch (value)
            {
                case null:
                    Text.Append("null");
                    break;
                case bool b:
                    Text.Append(b ? "true" : "false");
                    break;
                case long i:
                    Text.Append(i);
                    break;
                case double d:
                    Text.Append(double.IsNaN(d) ? "NaN" : double.IsInfinity(d) ? (d > 0 ? "Infinity" : "-Infinity") : Jinja.Text.Of(d));
                    break;
                case string s:
                    String(s);
                    break;
                case PyList list:
                    All('[', ']', list.Items, depth, i => Write(i, depth + 1));
                    break;
                case PyDict dict:
                    IReadOnlyList<KeyValuePair<object?, object?>> entries = [.. dict.Entries];
                    if (sorts)
                        entries = [.. entries.OrderBy(e => e.Key, Comparer<object?>.Create(Python.Compare))];
                    All('{', '}', entries, depth, e => Entry(e, depth));
                    break;
                default:
                    throw Python.NotDefined(value) ?? new TemplateException($"{Python.TypeName(value)} cannot be written as JSON");
            }
        }

        private void Entry(KeyValuePair<object?, object?> entry, int depth)
        {
            String(entry.Key switch
            {
                string s => s,
                null => "null",
                bool b => b ? "true" : "false",
                long or double => Python.Str(entry.Key),
                _ => throw new TemplateException($"{Python.TypeName(entry.Key)} cannot be a key in JSON"),
            });
            Text.Append(key);
            Write(entry.Value, depth + 1);
        }

        private void All<T>(char open, char close, IReadOnlyList<T> items, int depth, Action<T> write)
        {
            Text.Append(open);
            for (int i = 0; i < items.Count; i++)
            {
                if (i > 0)
                    Text.Append(item);
                NewLine(depth + 1);
                write(items[i]);
            }

            if (items.Count > 0)
                NewLine(depth);
            Text.Append(close);
        }

        private void NewLine(int depth)
        {
            if (indent is null)
                return;
            Text.Append('\n');
            for (int i = 0; i < depth; i++)
                Text.Append(indent);
        }

        private void String(string text)
        {
            render.ChargeText(text.Length);
            Text.Append('"');
            foreach (char c in text)
            {
                int plain = "\"\\\n\r\t\b\f".IndexOf(c, StringComparison.Ordinal);
                if (plain >= 0)
                    Text.Append('\\').Append("\"\\nrtbf"[plain]);
                else if (c < ' ' || (ascii && c > '~'))
                    Text.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}");
                else
                    Text.Append(c);
            }

            Text.Append('"');
        }
    }
}

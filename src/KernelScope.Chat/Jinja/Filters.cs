using System.Globalization;
using System.Text;

namespace KernelScope.Chat.Jinja;

/// <summary>Jinja2's filters, as far as chat templates use them; <c>tojson</c> is the one that transformers puts in its place.</summary>
internal static class Filters
{
    private static readonly Dictionary<string, Func<object?, Arguments, object?>> ByName = new()
    {
        ["abs"] = (value, a) => Given(value, a) switch
        {
            long i => (object)Math.Abs(i),
            double d => Math.Abs(d),
            var other =>
            throw Wrong(other, "a number")
        },
        ["capitalize"] = (value, a) => Text.Capitalize(Python.Str(Given(value, a))),
        ["count"] = (value, a) => Python.Length(Given(value, a)),
        ["d"] = Default,
        ["default"] = Default,
        ["dictsort"] = DictSort,
        ["first"] = (value, a) => (Given(value, a) is PyGenerator lazy ? lazy.Take(1) : Python.Items(value)) is [var first, ..] ? first
            : new Undefined("there is no first item in an empty sequence"),
        ["float"] = (value, a) => Float(value, a.Bind("default")[0]),
        ["indent"] = Indent,
        ["int"] = (value, a) => Int(value, a.Bind("default")[0]),
        ["items"] = (value, a) => Given(value, a) switch
        {
            Undefined => new PyGenerator([]),
            PyDict dict => new PyGenerator([.. dict.Entries.Select(e => new PyList([e.Key, e.Value], isTuple: true))]),
            var other => throw Wrong(other, "a dict"),
        },
        ["join"] = Join,
        ["last"] = (value, a) => Given(value, a) is PyGenerator ? throw Wrong(value, "a list")
            : Python.Items(value) is [.., var last] ? last
            : new Undefined("there is no last item in an empty sequence"),
        ["length"] = (value, a) => Python.Length(Given(value, a)),
        ["list"] = (value, a) => new PyList([.. Charged(a, Python.Items(Given(value, a)))]),
        ["lower"] = (value, a) => Text.Lower(Python.Str(Given(value, a))),
        ["map"] = Map,
        ["max"] = (value, a) => Extreme(value, a, 1),
        ["min"] = (value, a) => Extreme(value, a, -1),
        ["reject"] = (value, a) => Select(value, a, keeps: false, byAttribute: false),
        ["rejectattr"] = (value, a) => Select(value, a, keeps: false, byAttribute: true),
        ["replace"] = (value, a) => Methods.Replace(a.Render, Python.Str(value), Texts(a.Bind("old", "new", "count"))),
        ["reverse"] = (value, a) => Given(value, a) is string text ? string.Concat(Enumerable.Reverse(Charged(a, Text.Characters(text))))
            : value is PyGenerator ? new PyList([.. Charged(a, Python.Items(value)).Reverse()])
            : new PyGenerator([.. Charged(a, Python.Items(value)).Reverse()]),
        ["round"] = (value, a) => Round(value, a),
        ["select"] = (value, a) => Select(value, a, keeps: true, byAttribute: false),
        ["selectattr"] = (value, a) => Select(value, a, keeps: true, byAttribute: true),
        ["sort"] = Sort,
        ["string"] = (value, a) => Python.Str(Given(value, a)),
        ["sum"] = (value, a) => a.Bind("attribute", "start") is var given && given[0] is var path
            ? Charged(a, Python.Items(value))
            .Aggregate(given[1] == Arguments.Missing ? 0L : given[1], (sum, item) => Python.Arithmetic(a.Render, "+", sum, At(item, path)))
            : null,
        ["title"] = (value, a) => Title(Python.Str(Given(value, a))),
        ["tojson"] = Json.Of,
        ["trim"] = (value, a) =>
            Text.Strip(Python.Str(value), a.Bind("chars")[0] is string characters ? characters : null, left: true, right: true),
        ["unique"] = Unique,
        ["upper"] = (value, a) => Text.Upper(Python.Str(Given(value, a))),
        ["wordcount"] = (value, a) => (long)Python.Str(Given(value, a)).Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Length,
    };

    public static bool Has(string name) => ByName.ContainsKey(name);

    public static object? Apply(string name, object? value, Arguments arguments)
    {
        arguments.Render.ChargeFor(value);
        return ByName.TryGetValue(name, out Func<object?, Arguments, object?>? filter) ? filter(value, arguments)
            : throw new TemplateException($"the filter '{name}' is not supported");
    }

    /// <summary>The value of a filter that is given nothing else.</summary>
    private static object? Given(object? value, Arguments arguments)
    {
        arguments.Bind();
        return value;
    }

    private static IReadOnlyList<object?> Charged(Arguments arguments, IReadOnlyList<object?> items)
    {
        arguments.Render.Charge(items.Count);
        return items;
    }

    private static object? Default(object? value, Arguments arguments)
    {
        object?[] given = arguments.Bind("default_value", "boolean");
        bool falseToo = given[1] != Arguments.Missing && Python.IsTrue(given[1]);
        return value is Undefined || (falseToo && !Python.IsTrue(value)) ? given[0] == Arguments.Missing ? "" : given[0] : value;
    }

    private static PyList DictSort(object? value, Arguments arguments)
    {
        object?[] given = arguments.Bind("case_sensitive", "by", "reverse");
        PyDict dict = value as PyDict ?? throw Wrong(value, "a dict");
        int at = given[1] == Arguments.Missing || given[1] is "key" ? 0 : given[1] is "value" ? 1
            : throw new TemplateException("dictsort goes by 'key' or 'value'");
        IEnumerable<object?> pairs = dict.Entries.Select(e => (object?)new PyList([e.Key, e.Value], isTuple: true));
        return new PyList(Sorted(arguments, pairs, pair => ((PyList)pair!).Items[at], IsSet(given[0]), IsSet(given[2])));
    }

    private static object? Float(object? value, object? otherwise) => value switch
    {
        _ when Python.IsNumber(value) => Python.Real(value!),
        string s when double.TryParse(s.Trim().Replace("_", "", StringComparison.Ordinal), NumberStyles.Float, CultureInfo.InvariantCulture,
            out double number) => number,
        Undefined => throw Python.NotDefined(value)!,
        _ => otherwise == Arguments.Missing ? 0.0 : otherwise,
    };

    private static object? Int(object? value, object? otherwise) => value switch
    {
        bool or long => Python.IsInteger(value, out long whole) ? whole : 0,
        double d when Math.Abs(d) < 9e18 => (long)d,
        string s when long.TryParse(s.Trim().Replace("_", "", StringComparison.Ordinal), NumberStyles.AllowLeadingSign,
            CultureInfo.InvariantCulture, out long number) => number,
        string s when double.TryParse(s.Trim(), NumberStyles.Float, CultureInfo.InvariantCulture, out double number)
            && Math.Abs(number) < 9e18 => (long)number,
        Undefined => throw Python.NotDefined(value)!,
        _ => otherwise == Arguments.Missing ? 0L : otherwise,
    };

    private static string Indent(object? value, Arguments arguments)
    {
        object?[] given = arguments.Bind("width", "first", "blank");
        string indent = given[0] == Arguments.Missing ? "    " : given[0] is string s ? s
            : new string(' ', (int)Math.Clamp(Methods.Whole(given[0]), 0, 1000));
        string[] lines = (Python.Str(value) + "\n").Split('\n')[..^1];
        arguments.Render.ChargeText(Python.Str(value).Length + ((long)lines.Length * indent.Length));
        bool blank = IsSet(given[2]);
        // Blank lines, and the first, are not indented unless asked for.
        for (int i = 1; i < lines.Length; i++)
            lines[i] = blank || lines[i].Length > 0 ? indent + lines[i] : lines[i];
        return (IsSet(given[1]) ? indent : "") + string.Join('\n', lines);
    }

    private static string Join(object? value, Arguments arguments)
    {
        object?[] given = arguments.Bind("d", "attribute");
        IEnumerable<object?> items = Charged(arguments, Python.Items(value)).Select(i => (object?)Python.Str(At(i, given[1])));
        return Methods.Join(arguments.Render, given[0] == Arguments.Missing ? "" : Python.Str(given[0]), [.. items]);
    }

    private static PyGenerator Map(object? value, Arguments arguments)
    {
        IReadOnlyList<object?> items = Charged(arguments, Python.Items(value));
        if (arguments.Positional.Count > 0)
        {
            string filter = Methods.TextOf(arguments.Positional[0]);
            var rest = new Arguments(arguments.Render, filter, [.. arguments.Positional.Skip(1)], arguments.Named);
            return new PyGenerator([.. items.Select(i => Apply(filter, i, rest))]);
        }

        object?[] given = arguments.Bind("attribute", "default");
        if (given[0] == Arguments.Missing)
            throw new TemplateException("map needs the name of a filter, or attribute=");
        return new PyGenerator(
            [.. items.Select(i => At(i, given[0]) is var part && part is Undefined && given[1] != Arguments.Missing ? given[1] : part)]);
    }

    private static PyGenerator Select(object? value, Arguments arguments, bool keeps, bool byAttribute)
    {
        if (arguments.Named.Count > 0 || (byAttribute && arguments.Positional.Count == 0))
            throw new TemplateException(
                $"{arguments.Callee} needs {(byAttribute ? "an attribute, and then the name of a test" : "the name of a test")}");
        IReadOnlyList<object?> test = [.. arguments.Positional.Skip(byAttribute ? 1 : 0)];
        Arguments? rest = test.Count == 0 ? null : new Arguments(arguments.Render, Methods.TextOf(test[0]), [.. test.Skip(1)], []);
        return new PyGenerator([.. Charged(arguments, Python.Items(value)).Where(item =>
        {
            object? looked = byAttribute ? At(item, arguments.Positional[0]) : item;
            return (rest is null ? Python.IsTrue(looked) : Tests.Holds(rest.Callee, looked, rest)) == keeps;
        })]);
    }

    private static object? Extreme(object? value, Arguments arguments, int sign)
    {
        object?[] given = arguments.Bind("case_sensitive", "attribute");
        IReadOnlyList<object?> items = Charged(arguments, Python.Items(value));
        if (items.Count == 0)
            return new Undefined("an empty sequence has no least or greatest item");
        object? Key(object? item) => Folded(At(item, given[1]), IsSet(given[0]));
        return items.Aggregate((best, item) => Python.Compare(Key(item), Key(best)) * sign > 0 ? item : best);
    }

    private static object? Round(object? value, Arguments arguments)
    {
        object?[] given = arguments.Bind("precision", "method");
        if (!Python.IsNumber(value))
            throw Python.NotDefined(value) ?? Wrong(value, "a number");
        int places = given[0] == Arguments.Missing ? 0 : (int)Math.Clamp(Methods.Whole(given[0]), 0, 15);
        double scale = Math.Pow(10, places), number = Python.Real(value!);
        return (given[1] == Arguments.Missing ? "common" : given[1]) switch
        {
            "common" when Python.IsInteger(value, out long whole) => whole,
            "common" => (object)Math.Round(number, places, MidpointRounding.ToEven),
            "ceil" => Math.Ceiling(number * scale) / scale,
            "floor" => Math.Floor(number * scale) / scale,
            _ => throw new TemplateException("round goes by 'common', 'ceil' or 'floor'"),
        };
    }

    private static PyList Sort(object? value, Arguments arguments)
    {
        object?[] given = arguments.Bind("reverse", "case_sensitive", "attribute");
        return new PyList(
            Sorted(arguments, Charged(arguments, Python.Items(value)), item => At(item, given[2]), IsSet(given[1]), IsSet(given[0])));
    }

    private static List<object?> Sorted(Arguments arguments, IEnumerable<object?> items, Func<object?, object?> part, bool caseSensitive,
        bool reverse)
    {
        (object? Item, object? Key)[] keyed = [.. items.Select(i => (i, Folded(part(i), caseSensitive)))];
        arguments.Render.Charge(keyed.Length * 4L);
        // Equal ones keep their order, also when reversed.
        Comparer<object?> order = Comparer<object?>.Create((a, b) => reverse ? Python.Compare(b, a) : Python.Compare(a, b));
        try
        {
            return [.. keyed.OrderBy(k => k.Key, order).Select(k => k.Item)];
        }
        catch (InvalidOperationException e) when (e.InnerException is TemplateException inner)
        {
            throw inner;
        }
    }

    private static PyGenerator Unique(object? value, Arguments arguments)
    {
        object?[] given = arguments.Bind("case_sensitive", "attribute");
        var seen = new PyDict();
        var kept = new List<object?>();
        foreach (object? item in Charged(arguments, Python.Items(value)))
        {
            object? key = Folded(At(item, given[1]), IsSet(given[0]));
            if (seen.TryGet(key, out _))
                continue;
            seen.Set(key, null);
            kept.Add(item);
        }

        return new PyGenerator(kept);
    }

    private static string Title(string text)
    {
        var result = new StringBuilder();
        bool begins = true;
        foreach (object? character in Text.Characters(text))
        {
            string c = (string)character!;
            bool separates = c is "-" or "(" or "{" or "[" or "<" || Text.IsSpace(c[0]);
            result.Append(separates ? c : begins ? Text.Upper(c) : Text.Lower(c));
            begins = separates;
        }

        return result.ToString();
    }

    /// <summary>An item's part by a path with dots; the item itself where no path was given.</summary>
    private static object? At(object? item, object? path)
    {
        if (path == Arguments.Missing || path is null)
            return item;
        if (path is long)
            return Python.Item(item, path);
        foreach (string part in Methods.TextOf(path).Split('.'))
            item = Python.Item(item, part.Length > 0 && part.All(char.IsAsciiDigit) && long.TryParse(part, out long index) ? index : part);
        return item;
    }

    private static object? Folded(object? value, bool caseSensitive) => !caseSensitive && value is string text ? Text.Lower(text) : value;

    private static bool IsSet(object? flag) => flag != Arguments.Missing && Python.IsTrue(flag);

    private static object?[] Texts(object?[] given) => [Python.Str(given[0]), Python.Str(given[1]), given[2]];

    private static TemplateException Wrong(object? value, string expected) =>
        Python.NotDefined(value) ?? new TemplateException($"{Python.TypeName(value)} was given where {expected} is needed");
}

using System.Globalization;
using System.Text;

namespace KernelScope.Chat.Jinja;

/// <summary>What Python does with values: truth, equality, order, arithmetic, notation.</summary>
internal static class Python
{
    public static string TypeName(object? value) => value switch
    {
        null => "None",
        bool => "a bool",
        long => "an int",
        double => "a float",
        string => "a text",
        PyList { IsTuple: true } => "a tuple",
        PyList => "a list",
        PyDict => "a dict",
        PyGenerator => "a generator",
        Undefined => "an undefined value",
        Namespace => "a namespace",
        Loop => "a loop",
        _ => "a function",
    };

    public static bool IsTrue(object? value) => value switch
    {
        null or Undefined => false,
        bool b => b,
        long i => i != 0,
        double d => d != 0,
        string s => s.Length > 0,
        PyList list => list.Items.Count > 0,
        PyDict dict => dict.Count > 0,
        _ => true,
    };

    /// <summary>As <c>str()</c> writes it.</summary>
    public static string Str(object? value) => value switch
    {
        string s => s,
        Undefined => "",
        _ => Repr(value),
    };

    private static string Repr(object? value) => value switch
    {
        null => "None",
        bool b => b ? "True" : "False",
        long i => i.ToString(CultureInfo.InvariantCulture),
        double d => Text.Of(d),
        string s => Text.Repr(s),
        PyList { IsTuple: true, Items: [var only] } => $"({Repr(only)},)",
        PyList list => $"{(list.IsTuple ? '(' : '[')}{string.Join(", ", list.Items.Select(i => Repr(i)))}{(list.IsTuple ? ')' : ']')}",
        PyDict dict => $"{{{string.Join(", ", dict.Entries.Select(e => $"{Repr(e.Key)}: {Repr(e.Value)}"))}}}",
        Undefined => "Undefined",
        _ => throw new TemplateException($"{TypeName(value)} has no text"),
    };

    public static bool IsNumber(object? value) => value is bool or long or double;

    public static double Real(object value) => value switch { bool b => b ? 1 : 0, long i => i, _ => (double)value };

    /// <summary>An integer, if it is one; a bool counts.</summary>
    public static bool IsInteger(object? value, out long integer)
    {
        integer = value switch { bool b => b ? 1 : 0, long i => i, _ => 0 };
        return value is bool or long;
    }

    public static bool AreEqual(object? a, object? b)
    {
        if (IsInteger(a, out long left) && IsInteger(b, out long right))
            return left == right;
        if (IsNumber(a) && IsNumber(b))
            return Real(a!).Equals(Real(b!)) || Real(a!) == Real(b!);
        return (a, b) switch
        {
            (string x, string y) => x == y,
            (PyList x, PyList y) => x.IsTuple == y.IsTuple && x.Items.Count == y.Items.Count
                && x.Items.Zip(y.Items).All(p => AreEqual(p.First, p.Second)),
            (PyDict x, PyDict y) => x.Count == y.Count
                && x.Entries.All(e => y.TryGet(e.Key, out object? other) && AreEqual(e.Value, other)),
            (Undefined, Undefined) => true,
            _ => ReferenceEquals(a, b),
        };
    }

    /// <summary>Below, at or above 0 as a comes before, with or after b.</summary>
    /// <exception cref="TemplateException">They have no order.</exception>
    public static int Compare(object? a, object? b)
    {
        if (IsInteger(a, out long left) && IsInteger(b, out long right))
            return left.CompareTo(right);
        if (IsNumber(a) && IsNumber(b))
            return Real(a!).CompareTo(Real(b!));
        if (a is string s && b is string t)
            return Text.Compare(s, t);
        if (a is PyList x && b is PyList y && x.IsTuple == y.IsTuple)
        {
            for (int i = 0; i < x.Items.Count && i < y.Items.Count; i++)
            {
                if (!AreEqual(x.Items[i], y.Items[i]))
                    return Compare(x.Items[i], y.Items[i]);
            }

            return x.Items.Count.CompareTo(y.Items.Count);
        }

        throw NotDefined(a) ?? NotDefined(b) ?? new TemplateException($"{TypeName(a)} and {TypeName(b)} have no order");
    }

    /// <summary>What a loop goes over.</summary>
    public static IReadOnlyList<object?> Items(object? value) => value switch
    {
        PyList list => list.Items,
        PyDict dict => [.. dict.Keys],
        PyGenerator generator => generator.Take(),
        string s => Text.Characters(s),
        Undefined => [],
        _ => throw new TemplateException($"{TypeName(value)} cannot be looped over"),
    };

    public static long Length(object? value) => value switch
    {
        PyList list => list.Items.Count,
        PyDict dict => dict.Count,
        string s => Text.Length(s),
        Undefined => 0,
        Loop loop => loop.Count,
        _ => throw new TemplateException($"{TypeName(value)} has no length"),
    };

    public static bool Contains(object? container, object? item) => container switch
    {
        string s => item is string part ? s.Contains(part, StringComparison.Ordinal)
            : throw NotDefined(item) ?? new TemplateException($"{TypeName(item)} cannot be in a text"),
        PyDict dict => dict.TryGet(item, out _),
        _ => Items(container).Any(i => ReferenceEquals(i, item) || AreEqual(i, item)),
    };

    /// <summary><c>value.name</c>: a method or field of the type, else an entry.</summary>
    public static object? Attribute(object? value, string name)
    {
        if (TryField(value, name, out object? field))
            return field;
        return value is PyDict dict && dict.TryGet(name, out object? entry) ? entry : NoAttribute(value, name);
    }

    /// <summary><c>value[key]</c>: an entry, else a method or field of that name.</summary>
    public static object? Item(object? value, object? key)
    {
        if (NotDefined(value) is TemplateException missing)
            throw missing;
        if (value is PyDict dict && dict.TryGet(key, out object? entry))
            return entry;
        if (value is PyList or string && IsInteger(key, out long index))
        {
            IReadOnlyList<object?> items = Items(value);
            index += index < 0 ? items.Count : 0;
            return index >= 0 && index < items.Count ? items[(int)index]
                : new Undefined($"there is no item {Str(key)} in {TypeName(value)}");
        }

        return key is string name && TryField(value, name, out object? field) ? field : NoAttribute(value, Str(key));
    }

    public static object Slice(object? value, object? start, object? stop, object? step)
    {
        if (value is not (PyList or string))
            throw NotDefined(value) ?? new TemplateException($"{TypeName(value)} cannot be sliced");
        IReadOnlyList<object?> items = Items(value);
        long by = Bound(step) ?? 1, count = items.Count;
        if (by == 0)
            throw new TemplateException("the step of a slice is 0");
        long Place(long? at, long otherwise) =>
            at is not long i ? otherwise : Math.Clamp(i < 0 ? i + count : i, by > 0 ? 0 : -1, by > 0 ? count : count - 1);
        long from = Place(Bound(start), by > 0 ? 0 : count - 1), to = Place(Bound(stop), by > 0 ? count : -1);
        var result = new List<object?>();
        for (long i = from; by > 0 ? i < to : i > to; i += by)
            result.Add(items[(int)i]);
        return value is string ? string.Concat(result) : new PyList(result, ((PyList)value).IsTuple);

        static long? Bound(object? at) => at is null ? null : IsInteger(at, out long i) ? Math.Clamp(i, -int.MaxValue, int.MaxValue)
            : throw NotDefined(at) ?? new TemplateException($"a slice goes by integers, not by {TypeName(at)}");
    }

    public static object? Arithmetic(Render render, string sign, object? a, object? b)
    {
        if ((NotDefined(a) ?? NotDefined(b)) is TemplateException missing)
            throw missing;
        if (IsNumber(a) && IsNumber(b))
            return Calculate(sign, a!, b!);
        switch (sign, a, b)
        {
            case ("+", string x, string y):
                return render.Text(x, y);
            case ("+", PyList x, PyList y) when x.IsTuple == y.IsTuple:
                render.Charge(x.Items.Count + y.Items.Count);
                return new PyList([.. x.Items, .. y.Items], x.IsTuple);
            case ("*", string or PyList, _) when IsInteger(b, out long times):
                return Repeat(render, a!, times);
            case ("*", _, string or PyList) when IsInteger(a, out long times):
                return Repeat(render, b!, times);
            case ("%", string, _):
                throw new TemplateException("formatting a text with % is not supported");
            default:
                throw new TemplateException($"{TypeName(a)} {sign} {TypeName(b)} has no meaning");
        }
    }

    private static object Repeat(Render render, object value, long times)
    {
        times = Math.Max(0, times);
        if (value is string s)
        {
            render.ChargeText(Math.BigMul((ulong)s.Length, (ulong)times, out ulong length) > 0 ? long.MaxValue
                : (long)Math.Min(length, long.MaxValue));
            return new StringBuilder().Insert(0, s, (int)Math.Min(times, s.Length == 0 ? 0 : times)).ToString();
        }

        var list = (PyList)value;
        render.Charge(list.Items.Count == 0 ? 0 : times > int.MaxValue ? long.MaxValue : times * list.Items.Count);
        return new PyList([.. Enumerable.Repeat(list.Items, list.Items.Count == 0 ? 0 : (int)times).SelectMany(i => i)], list.IsTuple);
    }

    private static object Calculate(string sign, object a, object b)
    {
        try
        {
            if (sign != "/" && IsInteger(a, out long x) && IsInteger(b, out long y) && !(sign == "**" && y < 0))
                return Whole(sign, x, y);
            double left = Real(a), right = Real(b);
            if (right == 0 && sign is "/" or "//" or "%")
                throw new DivideByZeroException();
            return sign switch
            {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                "/" => left / right,
                "//" => Math.Floor(left / right),
                "%" => left - (right * Math.Floor(left / right)),
                _ => Math.Pow(left, right),
            };
        }
        catch (DivideByZeroException)
        {
            throw new TemplateException("a division by 0");
        }
        catch (OverflowException)
        {
            throw new TemplateException("an integer beyond 64 bits, which is not supported");
        }
    }

    private static long Whole(string sign, long x, long y) => checked(sign switch
    {
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        "//" => (x / y) - (x % y != 0 && (x < 0) != (y < 0) ? 1 : 0),
        "%" => (x % y) + (x % y != 0 && (x < 0) != (y < 0) ? y : 0),
        _ => Power(x, y),
    });

    private static long Power(long x, long y)
    {
        long result = 1;
        // After 64 doublings it has overflowed, unless the base is 0 or 1 in size.
        for (long i = x is 0 or 1 ? Math.Min(y, 1) : x == -1 ? y % 2 : y; i > 0; i--)
            result = checked(result * x);
        return result;
    }

    /// <summary>The error that using an undefined value is; null for any other value.</summary>
    public static TemplateException? NotDefined(object? value) =>
        value is Undefined undefined ? new TemplateException(undefined.What) : null;

    /// <summary>What a type has by itself: its methods, and the parts of loops and namespaces.</summary>
    private static bool TryField(object? value, string name, out object? field)
    {
        if (NotDefined(value) is TemplateException missing)
            throw missing;
        if (value is Namespace space)
            return space.Values.TryGetValue(name, out field);
        if (value is Loop loop)
            return loop.TryField(name, out field);
        field = Methods.Find(value, name);
        return field is not null;
    }

    private static Undefined NoAttribute(object? value, string name) => new($"{TypeName(value)} has no {Text.Repr(name)}");
}

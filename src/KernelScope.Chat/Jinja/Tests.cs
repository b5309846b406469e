namespace KernelScope.Chat.Jinja;

/// <summary>What stands after <c>is</c>.</summary>
internal static class Tests
{
    private static readonly Dictionary<string, Func<object?, object?, bool>> ByName = new()
    {
        ["defined"] = (value, _) => value is not Undefined,
        ["undefined"] = (value, _) => value is Undefined,
        ["none"] = (value, _) => value is null,
        ["true"] = (value, _) => value is true,
        ["false"] = (value, _) => value is false,
        ["boolean"] = (value, _) => value is bool,
        ["integer"] = (value, _) => value is long,
        ["float"] = (value, _) => value is double,
        ["number"] = (value, _) => Python.IsNumber(value),
        ["string"] = (value, _) => value is string,
        ["mapping"] = (value, _) => value is PyDict,
        ["sequence"] = (value, _) => value is string or PyList or PyDict or Undefined,
        ["iterable"] = (value, _) => value is string or PyList or PyDict or PyGenerator or Undefined,
        ["callable"] = (value, _) => value is Callable,
        ["odd"] = (value, _) => Modulo(value, 2L) == 1,
        ["even"] = (value, _) => Modulo(value, 2L) == 0,
        ["divisibleby"] = (value, by) => Modulo(value, by) == 0,
        ["lower"] = (value, _) => IsCase(Python.Str(value), Text.Lower),
        ["upper"] = (value, _) => IsCase(Python.Str(value), Text.Upper),
        ["sameas"] = (value, other) => ReferenceEquals(value, other) || (value is bool or long && value.Equals(other)),
        ["in"] = (value, container) => Python.Contains(container, value),
    };

    private static readonly Dictionary<string, string> Comparisons = new()
    {
        ["eq"] = "==",
        ["equalto"] = "==",
        ["=="] = "==",
        ["ne"] = "!=",
        ["!="] = "!=",
        ["lt"] = "<",
        ["lessthan"] = "<",
        ["<"] = "<",
        ["le"] = "<=",
        ["<="] = "<=",
        ["gt"] = ">",
        ["greaterthan"] = ">",
        [">"] = ">",
        ["ge"] = ">=",
        [">="] = ">=",
    };

    public static bool Has(string name) => ByName.ContainsKey(name) || Comparisons.ContainsKey(name);

    public static bool Holds(string name, object? value, Arguments arguments)
    {
        object?[] given = arguments.Bind("value");
        arguments.Render.ChargeFor(value);
        arguments.Render.ChargeFor(given[0]);
        bool needs = name is "divisibleby" or "sameas" or "in" || Comparisons.ContainsKey(name);
        if (needs != (given[0] != Arguments.Missing))
            throw new TemplateException(needs ? $"the test '{name}' needs a value" : $"the test '{name}' takes no value");
        return Comparisons.TryGetValue(name, out string? sign) ? Comparison.Holds(sign, value, given[0])
            : ByName.TryGetValue(name, out Func<object?, object?, bool>? test) ? test(value, given[0])
            : throw new TemplateException($"the test '{name}' is not supported");
    }

    private static long Modulo(object? value, object? by) =>
        Python.IsInteger(value, out long a) && Python.IsInteger(by, out long b) && b != 0
        ? ((a % b) + b) % b
        : throw Python.NotDefined(value) ?? new TemplateException($"{Python.TypeName(value)} cannot be divided into whole parts");

    private static bool IsCase(string text, Func<string, string> change) => text.Any(char.IsLetter) && change(text) == text;
}

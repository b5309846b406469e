using System.Globalization;
using System.Text;

namespace KernelScope.Chat.Jinja;

/// <summary>
/// A template in Jinja2's language, read as transformers has it read: a sandbox in which values do not change, trim_blocks,
/// lstrip_blocks, the loop controls, <c>raise_exception</c>, <c>strftime_now</c> and <c>tojson</c>. Safe for use by many threads at once.
/// </summary>
internal sealed class Template
{
    // Python's sandbox has the same bound.
    private const long MaxRange = 100_000;

    private readonly List<Statement> _statements;

    private Template(List<Statement> statements) => _statements = statements;

    /// <exception cref="TemplateException">It is malformed, or uses what is not supported.</exception>
    public static Template Parse(string source) => new(Parser.Read(source));

    /// <summary>What the template writes for some variables.</summary>
    /// <param name="variables">Their names and values.</param>
    /// <param name="now">What <c>strftime_now</c> gives.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="TemplateException">It fails, refuses what it was given, or takes too long.</exception>
    public string Render(IEnumerable<KeyValuePair<string, object?>> variables, DateTime now, CancellationToken cancellationToken = default)
    {
        var render = new Render(cancellationToken);
        var globals = new Scope(render, null);
        globals.Set("range", new Callable("range", Range));
        globals.Set("dict", new Callable("dict", Dict));
        globals.Set("namespace", new Callable("namespace", NewNamespace));
        globals.Set("raise_exception",
            new Callable("raise_exception", a => throw new TemplateException(Python.Str(a.Bind("message")[0])) { IsRefusal = true }));
        globals.Set("strftime_now", new Callable("strftime_now", a => Time(now, Methods.TextOf(a.Bind("format")[0]))));
        var scope = new Scope(render, globals);
        foreach ((string name, object? value) in variables)
            scope.Set(name, value);
        Statement.RunAll(_statements, new Scope(render, scope));
        return render.Output.ToString();
    }

    private static PyList Range(Arguments arguments)
    {
        object?[] given = arguments.Bind("start", "stop", "step");
        if (given[0] == Arguments.Missing)
            throw new TemplateException("range needs an integer");
        bool one = given[1] == Arguments.Missing;
        long start = one ? 0 : Methods.Whole(given[0]), stop = Methods.Whole(given[one ? 0 : 1]), step = given[2] == Arguments.Missing ? 1
            : Methods.Whole(given[2]);
        if (step == 0)
            throw new TemplateException("the step of a range is 0");
        Int128 count = step > 0 ? ((Int128)stop - start + step - 1) / step : ((Int128)start - stop - step - 1) / -(Int128)step;
        if (count > MaxRange)
            throw new TemplateException($"a range has more than {MaxRange} numbers");
        arguments.Render.Charge(Math.Max(0, (long)count));
        return new PyList([.. Enumerable.Range(0, Math.Max(0, (int)count)).Select(i => (object?)(start + (i * step)))]);
    }

    private static PyDict Dict(Arguments arguments)
    {
        var dict = new PyDict();
        if (arguments.Positional.Count > 1 || (arguments.Positional.Count == 1 && arguments.Positional[0] is not PyDict))
            throw new TemplateException("dict takes another dict, and names with values");
        if (arguments.Positional is [PyDict other])
        {
            foreach ((object? key, object? value) in other.Entries)
                dict.Set(key, value);
        }

        foreach ((string name, object? value) in arguments.Named)
            dict.Set(name, value);
        return dict;
    }

    private static Namespace NewNamespace(Arguments arguments)
    {
        var space = new Namespace();
        foreach ((object? key, object? value) in Dict(arguments).Entries)
            space.Values[Python.Str(key)] = value;
        return space;
    }

    /// <summary>A time as C's strftime writes it, in English.</summary>
    private static string Time(DateTime now, string format)
    {
        var text = new StringBuilder();
        for (int i = 0; i < format.Length; i++)
        {
            if (format[i] != '%' || i + 1 == format.Length)
            {
                text.Append(format[i]);
                continue;
            }

            bool unpadded = format[++i] == '-' && i + 1 < format.Length;
            char directive = unpadded ? format[++i] : format[i];
            string part = directive == '%' ? "%" : now.ToString(DotNet(directive), CultureInfo.InvariantCulture);
            text.Append(directive == 'j' ? now.DayOfYear.ToString("000", CultureInfo.InvariantCulture)
                : unpadded ? part.TrimStart('0') is { Length: > 0 } rest ? rest : "0" : part);
        }

        return text.ToString();
    }

    private static string DotNet(char directive) => directive switch
    {
        'd' => "dd",
        'm' => "MM",
        'Y' => "yyyy",
        'y' => "yy",
        'H' => "HH",
        'I' => "hh",
        'M' => "mm",
        'S' => "ss",
        'p' => "tt",
        'f' => "ffffff",
        'a' => "ddd",
        'A' => "dddd",
        'b' or 'h' => "MMM",
        'B' => "MMMM",
        'F' => "yyyy-MM-dd",
        'T' => "HH:mm:ss",
        'D' => "MM/dd/yy",
        'R' => "HH:mm",
        'j' => "yyyy",
        _ => throw new TemplateException($"the time format %{directive} is not supported"),
    };
}

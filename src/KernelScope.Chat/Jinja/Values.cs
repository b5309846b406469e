namespace KernelScope.Chat.Jinja;

// A template's values: null (None), bool, long, double, string, PyList, PyDict, PyGenerator, and the types below.

/// <summary>
/// How large a value is when it is written out. Values share their parts, so a few steps can make one that would fill any memory: what is
/// too large or too deep is refused when it is made,
/// and whatever goes through a value is charged by this.
/// </summary>
internal readonly record struct Extent(long Size, int Depth)
{
    private const long MaxSize = 4 << 20;

    public static Extent Of(object? value) => value switch
    {
        string text => new Extent(1 + (text.Length / 16), 0),
        PyList list => list.Extent,
        PyDict dict => dict.Extent,
        PyGenerator generator => generator.Extent,
        _ => new Extent(1, 0),
    };

    /// <summary>The extent of a value with one more part.</summary>
    /// <exception cref="TemplateException">It is too large or too deep.</exception>
    public Extent With(object? part)
    {
        Extent other = Of(part);
        var whole = new Extent(Size + other.Size, Math.Max(Depth, other.Depth + 1));
        return whole.Size > MaxSize ? throw new TemplateException($"it makes a value of more than {MaxSize} parts")
            : whole.Depth > Render.MaxDepth ? throw new TemplateException($"a value is nested more than {Render.MaxDepth} deep")
            : whole;
    }
}

/// <summary>A list or a tuple. Templates cannot change one.</summary>
internal sealed class PyList(IReadOnlyList<object?> items, bool isTuple = false)
{
    public IReadOnlyList<object?> Items => items;

    public bool IsTuple => isTuple;

    public Extent Extent { get; } = items.Aggregate(new Extent(1, 0), (extent, item) => extent.With(item));
}

/// <summary>What a lazy filter gives (map, select, unique and their kin, items; reverse of a list): it is true even without items, has no length, and is gone through once.</summary>
internal sealed class PyGenerator(IReadOnlyList<object?> items)
{
    private int _given;

    public Extent Extent { get; } = items.Aggregate(new Extent(1, 0), (extent, item) => extent.With(item));

    /// <summary>The items that nobody has taken yet.</summary>
    /// <param name="most">How many of them, at most.</param>
    public IReadOnlyList<object?> Take(int most = int.MaxValue)
    {
        IReadOnlyList<object?> rest = [.. items.Skip(_given).Take(most)];
        _given += rest.Count;
        return rest;
    }
}

/// <summary>A dictionary, in the order of insertion. Templates cannot change one.</summary>
internal sealed class PyDict
{
    /// <summary>Stands for None, which no dictionary of .NET takes as a key.</summary>
    private static readonly object NoneKey = new();

    private readonly OrderedDictionary<object, object?> _entries = new(KeyComparer.Instance);

    public int Count => _entries.Count;

    public Extent Extent { get; private set; } = new(1, 0);

    public IEnumerable<object?> Keys => _entries.Keys.Select(Outward);

    public IEnumerable<object?> Values => _entries.Values;

    public IEnumerable<KeyValuePair<object?, object?>> Entries => _entries.Select(e => KeyValuePair.Create(Outward(e.Key), e.Value));

    public void Set(object? key, object? value)
    {
        if (key is PyDict or PyList { IsTuple: false })
            throw new TemplateException($"{Python.TypeName(key)} cannot be a key");
        Extent = Extent.With(key).With(value);
        _entries[key ?? NoneKey] = value;
    }

    public bool TryGet(object? key, out object? value)
    {
        value = null;
        return key is not (PyDict or PyList { IsTuple: false }) && _entries.TryGetValue(key ?? NoneKey, out value);
    }

    private static object? Outward(object key) => ReferenceEquals(key, NoneKey) ? null : key;

    private sealed class KeyComparer : IEqualityComparer<object>
    {
        public static readonly KeyComparer Instance = new();

        public new bool Equals(object? a, object? b) => ReferenceEquals(a, b) || Python.AreEqual(a, b);

        public int GetHashCode(object key) => key switch
        {
            bool or long or double => Python.Real(key).GetHashCode(),
            PyList tuple => tuple.Items.Aggregate(17, (hash, item) => HashCode.Combine(hash, item is null ? 0 : GetHashCode(item))),
            _ => key.GetHashCode(),
        };
    }
}

/// <summary>What a name or attribute that does not exist gives: empty when printed or looped over, an error in any other use.</summary>
internal sealed class Undefined(string what)
{
    /// <summary>The sentence that says what is missing.</summary>
    public string What => what;
}

/// <summary>A variable whose parts a template may set from within a loop.</summary>
internal sealed class Namespace
{
    public Dictionary<string, object?> Values { get; } = [];
}

/// <summary>Something that can be called: a macro, a method, a function.</summary>
internal sealed class Callable(string name, Func<Arguments, object?> call)
{
    public string Name => name;

    public object? Call(Arguments arguments) => call(arguments);
}

/// <summary>What a call is given.</summary>
internal sealed class Arguments(Render render, string callee, IReadOnlyList<object?> positional,
    IReadOnlyList<(string Name, object? Value)> named)
{
    public Render Render => render;

    public string Callee => callee;

    public IReadOnlyList<object?> Positional => positional;

    public IReadOnlyList<(string Name, object? Value)> Named => named;

    /// <summary>The values of parameters, by their order or their names; <see cref="Missing"/> where none was given.</summary>
    /// <exception cref="TemplateException">There are more, or others.</exception>
    public object?[] Bind(params ReadOnlySpan<string> parameters)
    {
        object?[] values = new object?[parameters.Length];
        Array.Fill(values, Missing);
        if (positional.Count > parameters.Length)
            throw new TemplateException($"{callee} was given {positional.Count} values; it takes {parameters.Length}");
        for (int i = 0; i < positional.Count; i++)
            values[i] = positional[i];
        foreach ((string name, object? value) in named)
        {
            int at = parameters.IndexOf(name);
            if (at < 0)
                throw new TemplateException($"{callee} has no parameter '{name}'");
            values[at] = value;
        }

        return values;
    }

    /// <summary>A parameter that was not given.</summary>
    public static readonly object Missing = new();
}

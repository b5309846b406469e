using System.Runtime.CompilerServices;
using System.Text;

namespace KernelScope.Chat.Jinja;

/// <summary>
/// One run of a template: what it has written, and how much of its allowance is left. A template comes from a stranger, so what it may
/// compute and write is bounded.
/// </summary>
internal sealed class Render(CancellationToken cancellationToken)
{
    /// <summary>Macros within macros, values within values.</summary>
    public const int MaxDepth = 64;

    // A conversation of a thousand turns takes some 10⁵ steps and 10⁷ characters at the very most.
    private const long MaxSteps = 20_000_000;
    private const long MaxText = 16 << 20;

    private readonly Stack<StringBuilder> _outputs = new([new StringBuilder()]);
    private long _steps;
    private int _depth;

    /// <summary>Where text is written now.</summary>
    public StringBuilder Output => _outputs.Peek();

    /// <summary>Counts work: one for each node that is evaluated, and one for each item or sixteen characters that are made.</summary>
    /// <exception cref="TemplateException">The allowance is used up.</exception>
    public void Charge(long steps = 1)
    {
        _steps += Math.Min(steps, MaxSteps);
        if (_steps > MaxSteps)
            throw new TemplateException($"it takes more than {MaxSteps} steps");
        if ((_steps & 0xFFF) == 0)
            cancellationToken.ThrowIfCancellationRequested();
    }

    /// <summary>Ends a template that is nested too deep for the thread's stack, before the process dies of it.</summary>
    public static void RequireStack()
    {
        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
            throw new TemplateException("it is nested too deep");
    }

    /// <summary>Counts what it takes to go through a value.</summary>
    public void ChargeFor(object? value) => Charge(Extent.Of(value).Size);

    /// <summary>Counts a text that is about to be made.</summary>
    public void ChargeText(long length)
    {
        if (length > MaxText)
            throw new TemplateException($"it makes a text of more than {MaxText} characters");
        Charge(length / 16);
    }

    /// <summary>The text of a value.</summary>
    public string Str(object? value)
    {
        ChargeFor(value);
        return Python.Str(value);
    }

    /// <summary>Two texts, one after the other.</summary>
    public string Text(string a, string b)
    {
        ChargeText((long)a.Length + b.Length);
        return a + b;
    }

    public void Write(string text)
    {
        ChargeText(text.Length);
        if (Output.Length + (long)text.Length > MaxText)
            throw new TemplateException($"it writes more than {MaxText} characters");
        Output.Append(text);
    }

    /// <summary>What some statements write.</summary>
    public string Capture(Action run)
    {
        _outputs.Push(new StringBuilder());
        try
        {
            run();
            return Output.ToString();
        }
        finally
        {
            _outputs.Pop();
        }
    }

    /// <summary>Runs something one level deeper.</summary>
    public object? Deeper(Func<object?> run)
    {
        if (_depth == MaxDepth)
            throw new TemplateException($"macros call each other more than {MaxDepth} deep");
        _depth++;
        try
        {
            return run();
        }
        finally
        {
            _depth--;
        }
    }
}

/// <summary>Names and their values, those of the surrounding scopes included.</summary>
internal sealed class Scope(Render render, Scope? outer)
{
    private readonly Dictionary<string, object?> _values = [];

    public Render Render => render;

    public object? Get(string name)
    {
        for (Scope? scope = this; scope is not null; scope = scope.Outer)
        {
            if (scope._values.TryGetValue(name, out object? value))
                return value;
        }

        return new Undefined($"'{name}' is undefined");
    }

    public void Set(string name, object? value) => _values[name] = value;

    private Scope? Outer => outer;
}

/// <summary>What a template knows of the loop it is in.</summary>
internal sealed class Loop(IReadOnlyList<object?> items)
{
    private object? _seen = Arguments.Missing;

    public int Count => items.Count;

    public int Index { get; set; }

    public bool TryField(string name, out object? value)
    {
        value = name switch
        {
            "index" => (long)Index + 1,
            "index0" => (long)Index,
            "revindex" => (long)items.Count - Index,
            "revindex0" => (long)items.Count - Index - 1,
            "first" => Index == 0,
            "last" => Index == items.Count - 1,
            "length" => (long)items.Count,
            // Only recursive loops are deeper, and those are refused.
            "depth" => 1L,
            "depth0" => 0L,
            "previtem" => Index > 0 ? items[Index - 1] : new Undefined("there is no previous item"),
            "nextitem" => Index + 1 < items.Count ? items[Index + 1] : new Undefined("there is no next item"),
            "cycle" => new Callable("loop.cycle", a => a.Positional.Count > 0 ? a.Positional[Index % a.Positional.Count]
                : throw new TemplateException("loop.cycle needs values")),
            "changed" => new Callable("loop.changed", a => Changed(a)),
            _ => Arguments.Missing,
        };
        return value != Arguments.Missing;
    }

    private bool Changed(Arguments arguments)
    {
        var now = new PyList(arguments.Positional, isTuple: true);
        arguments.Render.ChargeFor(now);
        bool changed = !Python.AreEqual(_seen, now);
        _seen = now;
        return changed;
    }
}

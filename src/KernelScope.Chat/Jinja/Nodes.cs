namespace KernelScope.Chat.Jinja;

/// <summary>An expression.</summary>
internal abstract class Expression(int line)
{
    /// <summary>Where it stands, from 1.</summary>
    public int Line => line;

    /// <summary>Its value. A failure is told with the line of the innermost expression that failed.</summary>
    public object? Evaluate(Scope scope)
    {
        scope.Render.Charge();
        Render.RequireStack();
        try
        {
            return Compute(scope);
        }
        catch (TemplateException e) when (e.Line == 0)
        {
            throw new TemplateException(e.Message, line) { IsRefusal = e.IsRefusal };
        }
    }

    protected abstract object? Compute(Scope scope);
}

internal sealed class Constant(int line, object? value) : Expression(line)
{
    protected override object? Compute(Scope scope) => value;
}

internal sealed class Name(int line, string name) : Expression(line)
{
    public string Text => name;

    protected override object? Compute(Scope scope) => scope.Get(name);
}

internal sealed class ListOf(int line, List<Expression> items, bool isTuple) : Expression(line)
{
    public List<Expression> Items => items;

    protected override object? Compute(Scope scope) => new PyList([.. items.Select(i => i.Evaluate(scope))], isTuple);
}

internal sealed class DictOf(int line, List<(Expression Key, Expression Value)> entries) : Expression(line)
{
    protected override object? Compute(Scope scope)
    {
        var dict = new PyDict();
        foreach ((Expression key, Expression value) in entries)
        {
            object? name = key.Evaluate(scope);
            scope.Render.ChargeFor(name);
            dict.Set(name, value.Evaluate(scope));
        }

        return dict;
    }
}

internal sealed class AttributeOf(int line, Expression value, string name) : Expression(line)
{
    public Expression Value => value;

    public string Name => name;

    protected override object? Compute(Scope scope) => Python.Attribute(value.Evaluate(scope), name);
}

internal sealed class ItemOf(int line, Expression value, Expression key) : Expression(line)
{
    protected override object? Compute(Scope scope)
    {
        object? whole = value.Evaluate(scope), place = key.Evaluate(scope);
        scope.Render.ChargeFor(place);
        return Python.Item(whole, place);
    }
}

internal sealed class SliceOf(int line, Expression value, Expression? start, Expression? stop, Expression? step) : Expression(line)
{
    protected override object? Compute(Scope scope)
    {
        object result = Python.Slice(value.Evaluate(scope), start?.Evaluate(scope), stop?.Evaluate(scope), step?.Evaluate(scope));
        scope.Render.Charge(Python.Length(result) / 16);
        return result;
    }
}

internal sealed class Not(int line, Expression value) : Expression(line)
{
    protected override object? Compute(Scope scope) => !Python.IsTrue(value.Evaluate(scope));
}

/// <summary><c>and</c>, <c>or</c>: the value that decides, as Python has it.</summary>
internal sealed class Logical(int line, bool isAnd, Expression left, Expression right) : Expression(line)
{
    protected override object? Compute(Scope scope)
    {
        object? first = left.Evaluate(scope);
        return Python.IsTrue(first) == isAnd ? right.Evaluate(scope) : first;
    }
}

internal sealed class Binary(int line, string sign, Expression left, Expression right) : Expression(line)
{
    protected override object? Compute(Scope scope) => Python.Arithmetic(scope.Render, sign, left.Evaluate(scope), right.Evaluate(scope));
}

internal sealed class Signed(int line, bool isNegative, Expression value) : Expression(line)
{
    protected override object? Compute(Scope scope)
    {
        object? number = value.Evaluate(scope);
        if (!Python.IsNumber(number))
            throw Python.NotDefined(number) ?? new TemplateException($"{Python.TypeName(number)} has no sign");
        return isNegative && number is double real ? -real : Python.Arithmetic(scope.Render, isNegative ? "-" : "+", 0L, number);
    }
}

/// <summary><c>~</c>: the texts of its parts, one after the other.</summary>
internal sealed class Concatenation(int line, List<Expression> parts) : Expression(line)
{
    protected override object? Compute(Scope scope) =>
        parts.Aggregate("", (text, part) => scope.Render.Text(text, scope.Render.Str(part.Evaluate(scope))));
}

/// <summary><c>a &lt; b == c</c>: each neighbouring pair, up to the first that does not hold.</summary>
internal sealed class Comparison(int line, Expression first, List<(string Sign, Expression Right)> rest) : Expression(line)
{
    protected override object? Compute(Scope scope)
    {
        object? left = first.Evaluate(scope);
        foreach ((string sign, Expression expression) in rest)
        {
            object? right = expression.Evaluate(scope);
            scope.Render.ChargeFor(left);
            scope.Render.ChargeFor(right);
            if (!Holds(sign, left, right))
                return false;
            left = right;
        }

        return true;
    }

    public static bool Holds(string sign, object? left, object? right) => sign switch
    {
        "==" => Python.AreEqual(left, right),
        "!=" => !Python.AreEqual(left, right),
        "<" => Python.Compare(left, right) < 0,
        "<=" => Python.Compare(left, right) <= 0,
        ">" => Python.Compare(left, right) > 0,
        ">=" => Python.Compare(left, right) >= 0,
        "in" => Python.Contains(right, left),
        _ => !Python.Contains(right, left),
    };
}

/// <summary><c>a if b else c</c>.</summary>
internal sealed class Conditional(int line, Expression condition, Expression then, Expression? otherwise) : Expression(line)
{
    protected override object? Compute(Scope scope) => Python.IsTrue(condition.Evaluate(scope)) ? then.Evaluate(scope)
        : otherwise is not null ? otherwise.Evaluate(scope)
        : new Undefined("the inline if has no else, and its condition does not hold");
}

/// <summary>What a call, filter or test is given.</summary>
internal sealed record ArgumentList(List<Expression> Positional, List<(string Name, Expression Value)> Named)
{
    public static ArgumentList None { get; } = new([], []);

    public Arguments Evaluate(Scope scope, string callee) =>
        new(scope.Render, callee, [.. Positional.Select(p => p.Evaluate(scope))],
            [.. Named.Select(n => (n.Name, n.Value.Evaluate(scope)))]);
}

internal sealed class Call(int line, Expression callee, ArgumentList arguments) : Expression(line)
{
    protected override object? Compute(Scope scope)
    {
        object? function = callee.Evaluate(scope);
        if (function is not Callable callable)
            throw Python.NotDefined(function) ?? new TemplateException($"{Python.TypeName(function)} cannot be called");
        return callable.Call(arguments.Evaluate(scope, callable.Name));
    }
}

internal sealed class Filtered(int line, Expression value, string name, ArgumentList arguments) : Expression(line)
{
    protected override object? Compute(Scope scope) => Filters.Apply(name, value.Evaluate(scope), arguments.Evaluate(scope, name));
}

internal sealed class Tested(int line, Expression value, string name, ArgumentList arguments) : Expression(line)
{
    protected override object? Compute(Scope scope)
    {
        object? tested = value.Evaluate(scope);
        return Tests.Holds(name, tested, arguments.Evaluate(scope, name));
    }
}

/// <summary>How a statement ended.</summary>
internal enum Flow
{
    Next,
    Continue,
    Break,
}

internal abstract class Statement
{
    public abstract Flow Run(Scope scope);

    /// <summary>Runs statements up to one that leaves a loop.</summary>
    public static Flow RunAll(List<Statement> statements, Scope scope)
    {
        foreach (Statement statement in statements)
        {
            scope.Render.Charge();
            Render.RequireStack();
            Flow flow = statement.Run(scope);
            if (flow != Flow.Next)
                return flow;
        }

        return Flow.Next;
    }
}

internal sealed class Data(string text) : Statement
{
    public override Flow Run(Scope scope)
    {
        scope.Render.Write(text);
        return Flow.Next;
    }
}

internal sealed class Output(Expression value) : Statement
{
    public override Flow Run(Scope scope)
    {
        scope.Render.Write(scope.Render.Str(value.Evaluate(scope)));
        return Flow.Next;
    }
}

internal sealed class If(List<(Expression? Condition, List<Statement> Body)> branches) : Statement
{
    public override Flow Run(Scope scope)
    {
        foreach ((Expression? condition, List<Statement> body) in branches)
        {
            if (condition is null || Python.IsTrue(condition.Evaluate(scope)))
                return RunAll(body, scope);
        }

        return Flow.Next;
    }
}

internal sealed class For(Target target, Expression items, Expression? condition, List<Statement> body, List<Statement> otherwise)
    : Statement
{
    public override Flow Run(Scope scope)
    {
        IReadOnlyList<object?> all = Items(scope);
        if (condition is not null)
            all = [.. all.Where(item => Holds(item, scope))];
        var loop = new Loop(all);
        bool finished = false;
        for (; loop.Index < all.Count; loop.Index++)
        {
            var inner = new Scope(scope.Render, scope);
            inner.Set("loop", loop);
            target.Assign(inner, all[loop.Index]);
            Flow flow = RunAll(body, inner);
            if (flow == Flow.Break)
                break;
            finished |= flow == Flow.Next;
        }

        // Jinja2's rule: else runs unless some round went through to its end.
        return !finished ? RunAll(otherwise, new Scope(scope.Render, scope)) : Flow.Next;
    }

    private IReadOnlyList<object?> Items(Scope scope)
    {
        object? value = items.Evaluate(scope);
        try
        {
            IReadOnlyList<object?> all = Python.Items(value);
            scope.Render.Charge(all.Count);
            return all;
        }
        catch (TemplateException e) when (e.Line == 0)
        {
            throw new TemplateException(e.Message, items.Line);
        }
    }

    private bool Holds(object? item, Scope scope)
    {
        var inner = new Scope(scope.Render, scope);
        target.Assign(inner, item);
        return Python.IsTrue(condition!.Evaluate(inner));
    }
}

internal sealed class Leave(Flow flow) : Statement
{
    public override Flow Run(Scope scope) => flow;
}

/// <summary>What <c>set</c> and <c>for</c> assign to: a name, several, or a part of a namespace.</summary>
internal sealed class Target(int line, string? name, string? part, List<Target>? several)
{
    public void Assign(Scope scope, object? value)
    {
        if (several is not null)
        {
            IReadOnlyList<object?> items = Unpack(value);
            for (int i = 0; i < several.Count; i++)
                several[i].Assign(scope, items[i]);
        }
        else if (part is null)
        {
            scope.Set(name!, value);
        }
        else if (scope.Get(name!) is Namespace space)
        {
            space.Values[part] = value;
        }
        else
        {
            throw new TemplateException($"'{name}' is not a namespace, so '{name}.{part}' cannot be set", line);
        }
    }

    private IReadOnlyList<object?> Unpack(object? value)
    {
        IReadOnlyList<object?> items = value is PyList or PyDict or PyGenerator or string ? Python.Items(value)
            : throw new TemplateException($"{Python.TypeName(value)} cannot be unpacked", line);
        return items.Count == several!.Count ? items
            : throw new TemplateException($"{items.Count} values cannot be unpacked into {several.Count} names", line);
    }
}

internal sealed class Set(Target target, Expression value) : Statement
{
    public override Flow Run(Scope scope)
    {
        target.Assign(scope, value.Evaluate(scope));
        return Flow.Next;
    }
}

/// <summary><c>{% set x %}…{% endset %}</c>: what the body writes.</summary>
internal sealed class SetBlock(Target target, List<Statement> body, Func<Expression, Expression> filter, int line) : Statement
{
    public override Flow Run(Scope scope)
    {
        string text = scope.Render.Capture(() => RunAll(body, new Scope(scope.Render, scope)));
        target.Assign(scope, filter(new Constant(line, text)).Evaluate(scope));
        return Flow.Next;
    }
}

/// <summary>Statements with names of their own: <c>with</c>; and <c>generation</c>, which only marks what is the assistant's.</summary>
internal sealed class Block(List<(Target Target, Expression Value)> names, List<Statement> body) : Statement
{
    public override Flow Run(Scope scope)
    {
        var inner = new Scope(scope.Render, scope);
        foreach ((Target target, Expression value) in names)
            target.Assign(inner, value.Evaluate(scope));
        return RunAll(body, inner);
    }
}

/// <summary><c>{% filter upper %}…{% endfilter %}</c>.</summary>
internal sealed class FilterBlock(List<Statement> body, Func<Expression, Expression> filter, int line) : Statement
{
    public override Flow Run(Scope scope)
    {
        string text = scope.Render.Capture(() => RunAll(body, new Scope(scope.Render, scope)));
        scope.Render.Write(Python.Str(filter(new Constant(line, text)).Evaluate(scope)));
        return Flow.Next;
    }
}

internal sealed class Macro(string name, List<(string Name, Expression? Default)> parameters, List<Statement> body) : Statement
{
    public override Flow Run(Scope scope)
    {
        scope.Set(name, new Callable(name, arguments => scope.Render.Deeper(() => Expand(scope, arguments))));
        return Flow.Next;
    }

    private string Expand(Scope outer, Arguments arguments)
    {
        object?[] values = arguments.Bind([.. parameters.Select(p => p.Name)]);
        var scope = new Scope(outer.Render, outer);
        for (int i = 0; i < values.Length; i++)
        {
            bool given = values[i] != Arguments.Missing;
            scope.Set(parameters[i].Name, given ? values[i] : parameters[i].Default is Expression otherwise ? otherwise.Evaluate(scope)
                : new Undefined($"the parameter '{parameters[i].Name}' was not provided"));
        }

        return outer.Render.Capture(() => RunAll(body, scope));
    }
}

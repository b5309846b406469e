namespace KernelScope.Chat.Jinja;

/// <summary>
/// Tokens to statements and expressions, by Jinja2's grammar. What is not supported is refused by its name, here, before anything runs: a
/// tag, a filter or a test; and so is nesting that no template needs.
/// </summary>
internal sealed class Parser
{
    private const int MaxNesting = 100, MaxLinks = 1000;

    private readonly List<Token> _tokens;
    private int _at, _nesting, _loops;

    private Parser(List<Token> tokens) => _tokens = tokens;

    private Token Current => _tokens[_at];

    private int Line => Current.Line;

    /// <summary>Reads a template.</summary>
    /// <exception cref="TemplateException">It is malformed, or uses what is not supported.</exception>
    public static List<Statement> Read(string source)
    {
        var parser = new Parser(Lexer.Read(source));
        List<Statement> statements = parser.Statements();
        return parser.Current.Kind == TokenKind.End ? statements : throw parser.Unexpected();
    }

    // ---------------------------------------------------------------- statements

    /// <summary>Statements up to the end or to a tag of one of these names, which is not taken.</summary>
    private List<Statement> Statements(params ReadOnlySpan<string> ends)
    {
        Deepen();
        var statements = new List<Statement>();
        while (Current.Kind != TokenKind.End)
        {
            if (Current.Kind == TokenKind.Data)
            {
                statements.Add(new Data((string)Take().Value));
                continue;
            }

            if (Current.Kind == TokenKind.BeginVariable)
            {
                Take();
                statements.Add(new Output(Tuple()));
                Expect(TokenKind.EndVariable);
                continue;
            }

            if (_tokens[_at + 1] is { Kind: TokenKind.Name, Value: string name } && ends.Contains(name))
                break;
            statements.Add(Tag());
        }

        _nesting--;
        return statements;
    }

    private Statement Tag()
    {
        int line = Take().Line;
        string name = ExpectName();
        switch (name)
        {
            case "if":
                return If(line);
            case "for":
                return For(line);
            case "set":
                return Set(line);
            case "macro":
                return Macro();
            case "with":
                return With();
            case "filter":
                return FilterBlock(line);
            case "generation":
                EndTag();
                List<Statement> body = Statements("endgeneration");
                End("endgeneration");
                return new Block([], body);
            case "break" or "continue" when _loops > 0:
                EndTag();
                return new Leave(name == "break" ? Flow.Break : Flow.Continue);
            case "break" or "continue":
                throw new TemplateException($"'{name}' stands outside a loop", line);
            case "else" or "elif" or "endif" or "endfor" or "endset" or "endmacro" or "endwith" or "endfilter" or "endgeneration"
                or "endcall" or "endblock":
                throw new TemplateException($"'{name}' ends nothing", line);
            default:
                throw new TemplateException($"the tag '{name}' is not supported", line);
        }
    }

    private If If(int line)
    {
        var branches = new List<(Expression?, List<Statement>)>();
        for (string tag = "if"; tag != "endif";)
        {
            Expression? condition = tag == "else" ? null : Tuple(withConditional: false);
            EndTag();
            branches.Add((condition, condition is null ? Statements("endif") : Statements("elif", "else", "endif")));
            tag = NextTag("if", line);
        }

        EndTag();
        return new If(branches);
    }

    private For For(int line)
    {
        Target target = Targets(withParts: false);
        ExpectWord("in");
        Expression items = Tuple(withConditional: false);
        Expression? condition = SkipWord("if") ? Expression() : null;
        if (IsWord("recursive"))
            throw new TemplateException("a recursive loop is not supported", line);
        EndTag();
        _loops++;
        List<Statement> body = Statements("else", "endfor");
        _loops--;
        List<Statement> otherwise = [];
        if (NextTag("for", line) == "else")
        {
            EndTag();
            otherwise = Statements("endfor");
            NextTag("for", line);
        }

        EndTag();
        return new For(target, items, condition, body, otherwise);
    }

    private Statement Set(int line)
    {
        Target target = Targets(withParts: true);
        if (Skip("="))
        {
            Expression value = Tuple();
            EndTag();
            return new Set(target, value);
        }

        Func<Expression, Expression> filter = FilterChain();
        EndTag();
        List<Statement> body = Inner("endset");
        End("endset");
        return new SetBlock(target, body, filter, line);
    }

    private FilterBlock FilterBlock(int line)
    {
        Func<Expression, Expression> first = Filter(), rest = FilterChain();
        EndTag();
        List<Statement> body = Inner("endfilter");
        End("endfilter");
        return new FilterBlock(body, value => rest(first(value)), line);
    }

    private Macro Macro()
    {
        string name = ExpectName();
        var parameters = new List<(string, Expression?)>();
        Expect("(");
        while (!IsOperator(")"))
        {
            if (parameters.Count > 0)
                Expect(",");
            parameters.Add((ExpectName(), Skip("=") ? Expression() : null));
        }

        Take();
        EndTag();
        List<Statement> body = Inner("endmacro");
        End("endmacro");
        return new Macro(name, parameters, body);
    }

    private Block With()
    {
        var names = new List<(Target, Expression)>();
        while (Current.Kind != TokenKind.EndBlock)
        {
            if (names.Count > 0)
                Expect(",");
            Target target = Targets(withParts: false, single: true);
            Expect("=");
            names.Add((target, Expression()));
        }

        EndTag();
        List<Statement> body = Statements("endwith");
        End("endwith");
        return new Block(names, body);
    }

    /// <summary>A body that a loop around it cannot be left from.</summary>
    private List<Statement> Inner(string end)
    {
        int loops = _loops;
        _loops = 0;
        List<Statement> body = Statements(end);
        _loops = loops;
        return body;
    }

    private Target Targets(bool withParts, bool single = false)
    {
        int line = Line;
        var targets = new List<Target> { OneTarget(withParts) };
        bool isTuple = false;
        while (!single && Skip(","))
        {
            isTuple = true;
            // A comma may end the list.
            if (IsOperator("=") || IsOperator(")") || IsWord("in") || Current.Kind == TokenKind.EndBlock)
                break;
            targets.Add(OneTarget(withParts));
        }

        return isTuple ? new Target(line, null, null, targets) : targets[0];
    }

    private Target OneTarget(bool withParts)
    {
        int line = Line;
        if (Skip("("))
        {
            Target inner = Targets(withParts);
            Expect(")");
            return inner;
        }

        string name = ExpectName();
        return new Target(line, name, withParts && Skip(".") ? ExpectName() : null, null);
    }

    // ---------------------------------------------------------------- expressions

    /// <summary>An expression, or several with commas between, which are a tuple.</summary>
    private Expression Tuple(bool withConditional = true, bool inParentheses = false)
    {
        int line = Line;
        var items = new List<Expression>();
        bool isTuple = false;
        while (!EndsTuple())
        {
            items.Add(withConditional ? Expression() : Deeper(Or));
            if (!Skip(","))
                break;
            isTuple = true;
        }

        if (items.Count == 0 && !inParentheses)
            throw Unexpected();
        return isTuple || items.Count == 0 ? new ListOf(line, items, isTuple: true) : items[0];
    }

    private bool EndsTuple() => Current.Kind is TokenKind.EndVariable or TokenKind.EndBlock || IsOperator(")") || IsWord("in");

    private Expression Expression() => Deeper(Conditional);

    private Expression Conditional()
    {
        int line = Line;
        Expression value = Or();
        for (int links = 0; SkipWord("if"); links++)
        {
            RequireLinks(links);
            Expression condition = Or();
            value = new Conditional(line, condition, value, SkipWord("else") ? Expression() : null);
        }

        return value;
    }

    private Expression Or()
    {
        Expression left = And();
        for (int links = 0; SkipWord("or"); links++)
        {
            RequireLinks(links);
            left = new Logical(Line, isAnd: false, left, And());
        }

        return left;
    }

    private Expression And()
    {
        Expression left = Not();
        for (int links = 0; SkipWord("and"); links++)
        {
            RequireLinks(links);
            left = new Logical(Line, isAnd: true, left, Not());
        }

        return left;
    }

    private Expression Not() => SkipWord("not") ? new Not(Line, Deeper(Not)) : Compare();

    private Expression Compare()
    {
        int line = Line;
        Expression first = Sum();
        var rest = new List<(string, Expression)>();
        while (true)
        {
            if (Current is { Kind: TokenKind.Operator, Value: "==" or "!=" or "<" or "<=" or ">" or ">=" })
                rest.Add(((string)Take().Value, Sum()));
            else if (SkipWord("in"))
                rest.Add(("in", Sum()));
            else if (IsWord("not") && _tokens[_at + 1] is { Kind: TokenKind.Name, Value: "in" })
                rest.Add((TakeNotIn(), Sum()));
            else
                return rest.Count == 0 ? first : new Comparison(line, first, rest);
        }
    }

    private string TakeNotIn()
    {
        _at += 2;
        return "not in";
    }

    private Expression Sum() => Chain(Concatenation, "+", "-");

    private Expression Concatenation()
    {
        int line = Line;
        var parts = new List<Expression> { Product() };
        while (Skip("~"))
            parts.Add(Product());
        return parts.Count == 1 ? parts[0] : new Concatenation(line, parts);
    }

    private Expression Product() => Chain(Power, "*", "/", "//", "%");

    private Expression Power() => Chain(() => Unary(), "**");

    private Expression Chain(Func<Expression> next, params string[] signs)
    {
        Expression left = next();
        for (int links = 0; Current is { Kind: TokenKind.Operator, Value: string sign } && signs.Contains(sign); links++)
        {
            RequireLinks(links);
            int line = Take().Line;
            left = new Binary(line, sign, left, next());
        }

        return left;
    }

    private Expression Unary(bool withFilters = true)
    {
        int line = Line;
        Expression value = Skip("-") ? new Signed(line, isNegative: true, Deeper(() => Unary(withFilters: false)))
            : Skip("+") ? new Signed(line, isNegative: false, Deeper(() => Unary(withFilters: false)))
            : Primary();
        value = Postfix(value);
        return withFilters ? FiltersAndTests(value) : value;
    }

    private Expression Primary()
    {
        Token token = Take();
        switch (token.Kind)
        {
            case TokenKind.Name:
                return (string)token.Value switch
                {
                    "true" or "True" => new Constant(token.Line, true),
                    "false" or "False" => new Constant(token.Line, false),
                    "none" or "None" => new Constant(token.Line, null),
                    string name => new Name(token.Line, name),
                };
            case TokenKind.Number:
                return new Constant(token.Line, token.Value);
            case TokenKind.Text:
                string text = (string)token.Value;
                while (Current.Kind == TokenKind.Text)
                    text += (string)Take().Value;
                return new Constant(token.Line, text);
            case TokenKind.Operator when token.Value is "(":
                Expression inner = Deeper(() => Tuple(inParentheses: true));
                Expect(")");
                return inner;
            case TokenKind.Operator when token.Value is "[":
                return new ListOf(token.Line, Items("]", Expression), isTuple: false);
            case TokenKind.Operator when token.Value is "{":
                return new DictOf(token.Line, Items("}", Entry));
            default:
                _at--;
                throw Unexpected();
        }
    }

    private (Expression, Expression) Entry()
    {
        Expression key = Expression();
        Expect(":");
        return (key, Expression());
    }

    private List<T> Items<T>(string end, Func<T> item)
    {
        var items = new List<T>();
        while (!IsOperator(end))
        {
            if (items.Count > 0)
                Expect(",");
            if (!IsOperator(end))
                items.Add(item());
        }

        Take();
        return items;
    }

    private Expression Postfix(Expression value)
    {
        for (int links = 0; ; links++)
        {
            RequireLinks(links);
            int line = Line;
            if (Skip("."))
                value = Current.Kind == TokenKind.Number ? new ItemOf(line, value, new Constant(line, Take().Value))
                    : new AttributeOf(line, value, ExpectName());
            else if (Skip("["))
                value = Subscript(line, value);
            else if (IsOperator("("))
                value = new Call(line, value, CallArguments());
            else
                return value;
        }
    }

    private Expression Subscript(int line, Expression value)
    {
        Expression? first = IsOperator(":") ? null : Expression();
        if (Skip("]"))
            return new ItemOf(line, value, first!);
        if (IsOperator(","))
            throw new TemplateException("a subscript of several values is not supported", line);
        Expect(":");
        Expression? stop = IsOperator(":") || IsOperator("]") ? null : Expression();
        Expression? step = Skip(":") && !IsOperator("]") ? Expression() : null;
        Expect("]");
        return new SliceOf(line, value, first, stop, step);
    }

    private Expression FiltersAndTests(Expression value)
    {
        for (int links = 0; ; links++)
        {
            RequireLinks(links);
            if (IsOperator("|"))
                value = FilterChain()(value);
            else if (SkipWord("is"))
                value = Test(value);
            else if (IsOperator("("))
                value = new Call(Line, value, CallArguments());
            else
                return value;
        }
    }

    /// <summary>What the filters from here on make of a value.</summary>
    private Func<Expression, Expression> FilterChain()
    {
        var filters = new List<Func<Expression, Expression>>();
        while (Skip("|"))
        {
            RequireLinks(filters.Count);
            filters.Add(Filter());
        }

        return value => filters.Aggregate(value, (made, filter) => filter(made));
    }

    private Func<Expression, Expression> Filter()
    {
        int line = Line;
        string name = ExpectName();
        if (!Filters.Has(name))
            throw new TemplateException($"the filter '{name}' is not supported", line);
        ArgumentList arguments = IsOperator("(") ? CallArguments() : ArgumentList.None;
        RequireNamed(name, arguments, line);
        return value => new Filtered(line, value, name, arguments);
    }

    /// <summary>The filters and tests that <c>map</c> and <c>select</c> are told by name are refused here too.</summary>
    private static void RequireNamed(string filter, ArgumentList arguments, int line)
    {
        int at = filter is "map" or "select" or "reject" ? 0 : filter is "selectattr" or "rejectattr" ? 1 : int.MaxValue;
        if (at >= arguments.Positional.Count || arguments.Positional[at] is not Constant named
            || named.Evaluate(new Scope(new Render(default), null)) is not string name)
            return;
        if (filter == "map" ? !Filters.Has(name) : !Tests.Has(name))
            throw new TemplateException($"the {(filter == "map" ? "filter" : "test")} '{name}' is not supported", line);
    }

    private Expression Test(Expression value)
    {
        int line = Line;
        bool negated = SkipWord("not");
        string name = ExpectName();
        if (!Tests.Has(name))
            throw new TemplateException($"the test '{name}' is not supported", line);
        ArgumentList arguments = ArgumentList.None;
        if (IsOperator("("))
        {
            arguments = CallArguments();
        }
        else if (Current.Kind is TokenKind.Text or TokenKind.Number || IsOperator("[") || IsOperator("{")
            || (Current.Kind == TokenKind.Name && !IsWord("else") && !IsWord("or") && !IsWord("and")))
        {
            if (IsWord("is"))
                throw new TemplateException("tests cannot be chained with 'is'", line);
            arguments = new ArgumentList([Postfix(Primary())], []);
        }

        var test = new Tested(line, value, name, arguments);
        return negated ? new Not(line, test) : test;
    }

    private ArgumentList CallArguments()
    {
        var positional = new List<Expression>();
        var named = new List<(string, Expression)>();
        Expect("(");
        for (bool first = true; !IsOperator(")"); first = false)
        {
            if (!first)
                Expect(",");
            if (IsOperator(")"))
                break;
            if (IsOperator("*") || IsOperator("**"))
                throw new TemplateException($"'{Current.Value}' before the values of a call is not supported", Line);
            if (Current.Kind == TokenKind.Name && _tokens[_at + 1] is { Kind: TokenKind.Operator, Value: "=" })
            {
                string name = ExpectName();
                Take();
                named.Add((name, Expression()));
            }
            else
            {
                if (named.Count > 0)
                    throw new TemplateException("a value without a name stands after one with a name", Line);
                positional.Add(Expression());
            }
        }

        Take();
        return new ArgumentList(positional, named);
    }

    // ---------------------------------------------------------------- tokens

    private T Deeper<T>(Func<T> parse)
    {
        Deepen();
        T result = parse();
        _nesting--;
        return result;
    }

    private void Deepen()
    {
        if (++_nesting > MaxNesting)
            throw new TemplateException($"it is nested more than {MaxNesting} deep", Line);
    }

    // Each link is a level of calls when the expression is evaluated.
    private void RequireLinks(int links)
    {
        if (links > MaxLinks)
            throw new TemplateException($"an expression has more than {MaxLinks} parts, one after the other", Line);
    }

    private Token Take() => _tokens[_at].Kind == TokenKind.End ? throw Unexpected() : _tokens[_at++];

    private bool IsOperator(string sign) => Current.Kind == TokenKind.Operator && (string)Current.Value == sign;

    private bool IsWord(string word) => Current.Kind == TokenKind.Name && (string)Current.Value == word;

    private bool Skip(string sign)
    {
        bool found = IsOperator(sign);
        _at += found ? 1 : 0;
        return found;
    }

    private bool SkipWord(string word)
    {
        bool found = IsWord(word);
        _at += found ? 1 : 0;
        return found;
    }

    private void Expect(string sign)
    {
        if (!Skip(sign))
            throw new TemplateException($"'{sign}' was expected before {Said()}", Line);
    }

    private void Expect(TokenKind kind)
    {
        if (Current.Kind != kind)
            throw Unexpected();
        _at++;
    }

    private void ExpectWord(string word)
    {
        if (!SkipWord(word))
            throw new TemplateException($"'{word}' was expected before {Said()}", Line);
    }

    private string ExpectName() => Current.Kind == TokenKind.Name ? (string)Take().Value
        : throw new TemplateException($"a name was expected before {Said()}", Line);

    private void EndTag() => Expect(TokenKind.EndBlock);

    private void End(string name)
    {
        Expect(TokenKind.BeginBlock);
        ExpectWord(name);
        EndTag();
    }

    /// <summary>The name of the tag that begins here; its beginning is taken.</summary>
    private string NextTag(string of, int line)
    {
        if (Current.Kind != TokenKind.BeginBlock)
            throw new TemplateException($"'{of}' does not end", line);
        Take();
        return ExpectName();
    }

    private string Said() => Current.Kind is TokenKind.Text or TokenKind.End ? Current.Said : $"'{Current.Said}'";

    private TemplateException Unexpected() =>
        new(Current.Kind == TokenKind.End ? "it ends in the middle of a tag or block" : $"{Said()} was not expected here", Line);
}

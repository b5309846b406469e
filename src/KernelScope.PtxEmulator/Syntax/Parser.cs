using System.Globalization;

namespace KernelScope.PtxEmulator.Syntax;

/// <summary>What a PTX file declares.</summary>
internal sealed record ParsedModule(string Version, string Target, IReadOnlyList<PtxFunction> Functions,
    IReadOnlyList<PtxVariable> Variables);

/// <summary>Recursive descent over the module level; bodies are read by <see cref="BodyParser"/>.</summary>
internal sealed class Parser
{
    private readonly List<PtxFunction> _functions = [];
    private readonly List<PtxVariable> _variables = [];
    private readonly Scope _moduleScope = new(null);
    private readonly TokenReader _reader;
    private string _version = "";
    private string _target = "";

    private Parser(string text, string file) => _reader = new TokenReader(text, file);

    public static ParsedModule Parse(string text, string file)
    {
        var parser = new Parser(text, file);
        parser.ReadModule();
        return new ParsedModule(parser._version, parser._target, parser._functions, parser._variables);
    }

    private void ReadModule()
    {
        while (_reader.Peek.Kind != TokenKind.End)
        {
            Token token = _reader.Take();
            switch (token.Text)
            {
                case ".version":
                    _version = _reader.Take().Text;
                    break;
                case ".target":
                    ReadTarget();
                    break;
                case ".address_size":
                    if (_reader.Take().Text != "64")
                        throw _reader.Error(token, "only 64-bit addresses are supported");
                    break;
                case ".visible" or ".weak" or ".common":
                    break;
                case ".extern":
                    ReadExtern();
                    break;
                case ".entry":
                    ReadFunction(isEntry: true);
                    break;
                case ".func":
                    ReadFunction(isEntry: false);
                    break;
                case ".global" or ".const" or ".shared":
                    foreach (PtxVariable variable in VariableParser.Read(_reader, SpaceOf(token), isExtern: false))
                        Declare(variable);
                    break;
                case ".section":
                    SkipSection();
                    break;
                case ".pragma":
                    _reader.SkipStatement();
                    break;
                default:
                    throw _reader.Error(token, "a module-level directive was expected");
            }
        }
        if (_version.Length == 0 || _target.Length == 0)
            throw _reader.Error(_reader.Peek, "the file has no .version or no .target");
    }

    private static StateSpace SpaceOf(Token token) => token.Text switch
    {
        ".global" => StateSpace.Global,
        ".const" => StateSpace.Const,
        ".local" => StateSpace.Local,
        ".param" => StateSpace.Param,
        _ => StateSpace.Shared,
    };

    private void ReadTarget()
    {
        _target = _reader.Take().Text;
        while (_reader.TakeIf(','))
            _reader.Take();
    }

    private void ReadExtern()
    {
        Token token = _reader.Take();
        if (token.Is(".func"))
            ReadFunction(isEntry: false);
        else if (token.Is(".shared"))
            foreach (PtxVariable variable in VariableParser.Read(_reader, StateSpace.Shared, isExtern: true))
                Declare(variable);
        else
            throw _reader.Error(token, "only shared memory and functions may be extern: a module is not linked with others");
    }

    private void Declare(PtxVariable variable)
    {
        if (!_moduleScope.Declare(variable.Name, variable))
            throw _reader.Error(variable.Line, variable.Name, "the name is declared twice");
        _variables.Add(variable);
    }

    private void SkipSection()
    {
        _reader.Take();
        _reader.Expect('{');
        for (int depth = 1; depth > 0;)
        {
            Token token = _reader.Take();
            depth += token.Is('{') ? 1 : token.Is('}') ? -1 : 0;
            if (token.Kind == TokenKind.End)
                throw _reader.Error(token, "a .section does not end");
        }
    }

    private void ReadFunction(bool isEntry)
    {
        int line = _reader.Peek.Line;
        var results = new List<PtxVariable>();
        var scope = new Scope(_moduleScope);
        var resultRegisters = new List<PtxRegister>();
        if (!isEntry && _reader.Peek.Is('('))
            ReadParameters(results, scope, resultRegisters);
        Token name = _reader.Take();
        var function = new PtxFunction(name.Text, isEntry, line);
        function.Results.AddRange(results);
        var registers = new List<PtxRegister>();
        if (_reader.Peek.Is('('))
            ReadParameters(function.Parameters, scope, registers);
        if (registers.Count + resultRegisters.Count > 0)
            throw _reader.Error(name, "parameters in registers are not supported, use .param");
        ReadLaunchDirectives(function);
        if (!_reader.TakeIf(';'))
        {
            new BodyParser(_reader, function, scope).Read();
            function.HasBody = true;
        }
        PtxFunction? known = _functions.Find(f => f.Name == function.Name);
        if (known is { HasBody: true } && function.HasBody)
            throw _reader.Error(name, "the function is defined twice");
        if (known is not null && function.HasBody)
            _functions.Remove(known);
        if (known is null || function.HasBody)
            _functions.Add(function);
    }

    private void ReadParameters(List<PtxVariable> parameters, Scope scope, List<PtxRegister> registers)
    {
        _reader.Expect('(');
        if (_reader.TakeIf(')'))
            return;
        do
        {
            Token token = _reader.Take();
            if (token.Is(".reg"))
            {
                registers.Add(new PtxRegister(token.Text, PtxType.B32));
                return;
            }
            if (!token.Is(".param"))
                throw _reader.Error(token, "a .param was expected");
            PtxVariable variable = VariableParser.ReadOne(_reader, StateSpace.Param, isExtern: false);
            if (!scope.Declare(variable.Name, variable))
                throw _reader.Error(token.Line, variable.Name, "the parameter is declared twice");
            parameters.Add(variable);
        }
        while (_reader.TakeIf(','));
        _reader.Expect(')');
    }

    private void ReadLaunchDirectives(PtxFunction function)
    {
        while (true)
        {
            Token token = _reader.Peek;
            switch (token.Text)
            {
                case ".maxntid":
                    _reader.Take();
                    function.MaxThreads = ReadDimensions();
                    break;
                case ".reqntid":
                    _reader.Take();
                    function.RequiredThreads = ReadDimensions();
                    break;
                case ".minnctapersm":
                    _reader.Take();
                    function.MinBlocks = ReadCount();
                    break;
                case ".maxnreg" or ".maxnctapersm":
                    _reader.Take();
                    ReadCount();
                    break;
                case ".noreturn":
                    _reader.Take();
                    break;
                default:
                    return;
            }
        }
    }

    private (int X, int Y, int Z) ReadDimensions()
    {
        int x = ReadCount();
        int y = _reader.TakeIf(',') ? ReadCount() : 1;
        int z = _reader.TakeIf(',') ? ReadCount() : 1;
        return (x, y, z);
    }

    private int ReadCount()
    {
        Token token = _reader.Take();
        if (!int.TryParse(token.Text, NumberStyles.None, CultureInfo.InvariantCulture, out int count))
            throw _reader.Error(token, "a number was expected");
        return count;
    }
}

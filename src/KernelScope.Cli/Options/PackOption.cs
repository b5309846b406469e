using System.CommandLine;

namespace KernelScope.Cli;

/// <summary><c>--pack</c>: packed weights, made if they are not there.</summary>
internal sealed class PackOption
{
    private readonly Option<bool> _pack;

    public PackOption(Command verb, string more = "")
    {
        _pack = new("--pack") { Description = "Compute from packed weights on the cpu: if the model has no such file yet, or an old one, make it first, as 'kernelscope pack' does. Later runs find it without this." + more };
        verb.Options.Add(_pack);
    }

    public bool IsGiven(ParseResult parsed) => parsed.GetValue(_pack);
}

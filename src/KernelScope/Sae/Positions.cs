using KernelScope.Hooks;

namespace KernelScope.Sae;

/// <summary>At which positions of a sequence an edit acts.</summary>
/// <remarks>Any number of threads may use it.</remarks>
public sealed class Positions
{
    private readonly Func<int, int, bool> _includes;

    private Positions(Func<int, int, bool> includes) => _includes = includes;

    /// <summary>Every position, that of &lt;bos&gt; too.</summary>
    public static Positions All { get; } = new((_, _) => true);

    /// <summary>Every position whose token is not <paramref name="bosId"/>. Gemma Scope's SAEs were not trained on BOS, whose norm is far larger than any other's.</summary>
    public static Positions AllBut(int bosId) => new((_, token) => token != bosId);

    /// <summary>Every position whose token is none of <paramref name="ids"/>.</summary>
    public static Positions AllBut(IReadOnlyCollection<int> ids) => new((_, token) => !ids.Contains(token));

    /// <summary><paramref name="position"/> and every later one; with the prompt's last position: it and every generated token.</summary>
    public static Positions From(int position) => new((p, _) => p >= position);

    /// <summary>The positions listed.</summary>
    public static Positions Of(params IReadOnlyCollection<int> positions) => new((p, _) => positions.Contains(p));

    /// <summary>The positions in any of some ranges, both ends included.</summary>
    public static Positions InRanges(IReadOnlyList<(int First, int Last)> ranges) =>
        new((p, _) => ranges.Any(r => p >= r.First && p <= r.Last));

    /// <summary>Whether a position, holding a token, is among them.</summary>
    public bool Includes(int position, int token) => _includes(position, token);

    /// <summary>The next run of rows of a call that are included, from <paramref name="start"/> on; Count 0: there is none.</summary>
    internal (int Start, int Count) NextRun(HookCall call, int start)
    {
        ReadOnlySpan<int> tokens = call.Tokens;
        while (start < tokens.Length && !_includes(call.Position + start, tokens[start]))
            start++;
        int end = start;
        while (end < tokens.Length && _includes(call.Position + end, tokens[end]))
            end++;
        return (start, end - start);
    }
}

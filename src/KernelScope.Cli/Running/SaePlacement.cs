using KernelScope.Evaluation;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>Doubts whether an SAE is used where it belongs, on the tokens of the command at hand: an SAE in the wrong place gives numbers too.</summary>
internal static class SaePlacement
{
    /// <summary>Most tokens that are run again to look for a better place.</summary>
    private const int MostSearched = 128;

    /// <summary>Tokens that no statistic counts.</summary>
    public static HashSet<int> Uncounted(ModelFiles model) =>
        [model.BosId, model.Config.BosId, model.Config.PadId, .. model.Config.TextEndIds];

    /// <summary>Measures where the command does not; null: no doubt.</summary>
    public static string? Find(Gemma2Model model, SaeTarget target, TokenSet tokens, CancellationToken cancellation,
        int most = MostSearched) =>
        Find(model, target, SiteSearch.Used(model, target, tokens, most, cancellation), tokens, cancellation, most);

    /// <summary>What there is to doubt about what was measured; null: nothing.</summary>
    public static string? Find(Gemma2Model model, SaeTarget target, SiteFit used, TokenSet tokens, CancellationToken cancellation,
        int most = MostSearched)
    {
        double? released = ReleasedL0(target.Name);
        return ReleaseDoubt.IsWorthALook(released, used)
            ? ReleaseDoubt.Sentence(target.Name, released, used,
            SiteSearch.Run(model, target, tokens, most, withoutBos: false, cancellation))
            : null;
    }

    /// <summary>One text as a set; null if nothing in it counts.</summary>
    public static TokenSet? Set(Gemma2Model model, int[] tokens)
    {
        Gemma2Config config = model.Config;
        return tokens.All(t => t == config.BosId || t == config.PadId || config.TextEndIds.Contains(t)) ? null
            : TokenSet.Create([tokens], config);
    }

    /// <summary>What a path promises, also one that is relative to a folder whose name says it.</summary>
    public static double? ReleasedL0(string name) => ReleaseDoubt.ReleasedL0(Path.Exists(name) ? Path.GetFullPath(name) : name);
}
